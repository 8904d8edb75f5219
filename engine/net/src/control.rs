//! Ancillary data of socket messages: a buffer that is aligned as the kernel wants it, written and read by item.

use std::mem::MaybeUninit;

/// Enough for a segment size, a TOS and a packet info of either family.
const ROOM: usize = 128;

#[derive(Clone, Copy)]
#[repr(C, align(8))]
pub struct Control {
    bytes: [u8; ROOM],
    pub length: usize,
}

impl Default for Control {
    fn default() -> Self {
        Control { bytes: [0; ROOM], length: 0 }
    }
}

const HEADER: usize = size_of::<libc::cmsghdr>();

impl Control {
    pub fn pointer(&mut self) -> *mut libc::c_void {
        self.bytes.as_mut_ptr().cast()
    }

    pub const fn room() -> usize {
        ROOM
    }

    /// Appends one item. `T` is a plain kernel structure or number.
    pub fn push<T: Copy>(&mut self, level: i32, kind: i32, value: T) {
        let end = self.length + (HEADER + size_of::<T>()).next_multiple_of(8);
        assert!(end <= ROOM, "more ancillary data than there is room for");
        let header = libc::cmsghdr { cmsg_len: (HEADER + size_of::<T>()) as _, cmsg_level: level, cmsg_type: kind };
        // SAFETY: `end` was checked; writes are unaligned-safe and stay inside `bytes`.
        unsafe {
            let at = self.bytes.as_mut_ptr().add(self.length);
            at.cast::<libc::cmsghdr>().write_unaligned(header);
            at.add(HEADER).cast::<T>().write_unaligned(value);
        }
        self.length = end;
    }

    /// Calls `item` with level, type and data of each item of the first `length` bytes.
    pub fn each(&self, length: usize, mut item: impl FnMut(i32, i32, &[u8])) {
        let mut rest = &self.bytes[..length.min(ROOM)];
        while rest.len() >= HEADER {
            let mut header = MaybeUninit::<libc::cmsghdr>::uninit();
            // SAFETY: `rest` has the bytes of a header, for which any bits are valid.
            let header = unsafe {
                std::ptr::copy_nonoverlapping(rest.as_ptr(), header.as_mut_ptr().cast(), HEADER);
                header.assume_init()
            };
            let size = header.cmsg_len as usize;
            if size < HEADER || size > rest.len() {
                return;
            }
            item(header.cmsg_level, header.cmsg_type, &rest[HEADER..size]);
            rest = &rest[size.next_multiple_of(8).min(rest.len())..];
        }
    }
}

/// The first four bytes as a number, or the only one.
pub fn number(data: &[u8]) -> u32 {
    match data {
        [a, b, c, d, ..] => u32::from_ne_bytes([*a, *b, *c, *d]),
        [a, b, ..] => u32::from(u16::from_ne_bytes([*a, *b])),
        [a] => u32::from(*a),
        [] => 0,
    }
}
