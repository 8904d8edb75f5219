//! TUN devices with virtio headers (Documentation/networking/tuntap.rst; include/uapi/linux/if_tun.h).
//! Unless it is made persistent, the device lives as long as one of its descriptors.

use crate::checked;
use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

const TUNSETIFF: libc::Ioctl = 0x4004_54ca_u32 as libc::Ioctl;
const TUNGETIFF: libc::Ioctl = 0x8004_54d2_u32 as libc::Ioctl;
const TUNSETOFFLOAD: libc::Ioctl = 0x4004_54d0_u32 as libc::Ioctl;
const TUNSETPERSIST: libc::Ioctl = 0x4004_54cb_u32 as libc::Ioctl;
const CSUM: u64 = 1;
const TSO4: u64 = 2;
const TSO6: u64 = 4;
const TSO_ECN: u64 = 8;
const USO4: u64 = 32;
const USO6: u64 = 64;

/// What the device's queue can do for us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offload {
    pub tcp: bool,
    pub udp: bool,
}

/// Opens a queue of the device, which is made when there is none, and asks for as much offload as the kernel has.
pub fn open(name: &str) -> io::Result<(OwnedFd, Offload)> {
    attach(name, 0)
}

/// Makes the device; `AlreadyExists` or `ResourceBusy` when there is one of this name.
pub fn create(name: &str) -> io::Result<(OwnedFd, Offload)> {
    attach(name, libc::IFF_TUN_EXCL)
}

fn attach(name: &str, more: i32) -> io::Result<(OwnedFd, Offload)> {
    let mut request = request(name)?;
    request.ifr_ifru.ifru_flags =
        (libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_VNET_HDR | libc::IFF_MULTI_QUEUE | more) as libc::c_short;
    // SAFETY: the path is a C string, the descriptor new and ours, the request a whole ifreq.
    unsafe {
        let access = libc::O_RDWR | libc::O_NONBLOCK | libc::O_CLOEXEC;
        let fd = OwnedFd::from_raw_fd(checked(libc::open(c"/dev/net/tun".as_ptr(), access))?);
        checked(libc::ioctl(fd.as_raw_fd(), TUNSETIFF, &raw const request))?;
        let found = ask_offload(&fd);
        Ok((fd, found))
    }
}

/// Whether the device, with its addresses and routes, outlives its last descriptor.
pub fn persist(fd: &OwnedFd, on: bool) -> io::Result<()> {
    // SAFETY: the call takes a plain number.
    checked(unsafe { libc::ioctl(fd.as_raw_fd(), TUNSETPERSIST, libc::c_ulong::from(on)) }).map(drop)
}

fn ask_offload(fd: &OwnedFd) -> Offload {
    // SAFETY: the call takes a plain number.
    let offload = |bits: u64| unsafe { libc::ioctl(fd.as_raw_fd(), TUNSETOFFLOAD, bits) == 0 };
    let tcp = CSUM | TSO4 | TSO6 | TSO_ECN;
    if offload(tcp | USO4 | USO6) {
        Offload { tcp: true, udp: true }
    } else if offload(tcp) {
        Offload { tcp: true, udp: false }
    } else {
        offload(0);
        Offload { tcp: false, udp: false }
    }
}

/// A queue that somebody else opened: its device's name, its offloads, and whether packets have virtio headers.
pub fn inherit(fd: &OwnedFd) -> io::Result<(String, Offload, bool)> {
    // SAFETY: all zero is a valid ifreq, which the call fills.
    let (name, flags) = unsafe {
        let mut request: libc::ifreq = std::mem::zeroed();
        checked(libc::ioctl(fd.as_raw_fd(), TUNGETIFF, &raw mut request))?;
        let access = checked(libc::fcntl(fd.as_raw_fd(), libc::F_GETFL))?;
        checked(libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, access | libc::O_NONBLOCK))?;
        checked(libc::fcntl(fd.as_raw_fd(), libc::F_SETFD, libc::FD_CLOEXEC))?;
        let name: Vec<u8> = request.ifr_name.iter().take_while(|byte| **byte != 0).map(|byte| *byte as u8).collect();
        (String::from_utf8_lossy(&name).into_owned(), i32::from(request.ifr_ifru.ifru_flags as u16))
    };
    if flags & libc::IFF_TUN == 0 || flags & libc::IFF_NO_PI == 0 {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "not a TUN device without packet information (IFF_NO_PI)",
        ));
    }
    let virtio = flags & libc::IFF_VNET_HDR != 0;
    let offload = if virtio { ask_offload(fd) } else { Offload { tcp: false, udp: false } };
    Ok((name, offload, virtio))
}

pub fn set_mtu(name: &str, mtu: u16) -> io::Result<()> {
    let mut request = request(name)?;
    request.ifr_ifru.ifru_mtu = i32::from(mtu);
    interface(libc::SIOCSIFMTU, &mut request)
}

/// `false` takes the device down.
pub fn set_up(name: &str, up: bool) -> io::Result<()> {
    let mut request = request(name)?;
    interface(libc::SIOCGIFFLAGS, &mut request)?;
    // SAFETY: the call above filled the flags.
    let flags = unsafe { request.ifr_ifru.ifru_flags };
    let bit = libc::IFF_UP as libc::c_short;
    request.ifr_ifru.ifru_flags = if up { flags | bit } else { flags & !bit };
    interface(libc::SIOCSIFFLAGS, &mut request)
}

fn interface(call: u64, request: &mut libc::ifreq) -> io::Result<()> {
    // SAFETY: the socket is new and ours, the request a whole ifreq.
    unsafe {
        let socket =
            OwnedFd::from_raw_fd(checked(libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0))?);
        checked(libc::ioctl(socket.as_raw_fd(), call as libc::Ioctl, &raw mut *request)).map(drop)
    }
}

fn request(name: &str) -> io::Result<libc::ifreq> {
    let fits =
        !name.is_empty() && name.len() < libc::IFNAMSIZ && !name.bytes().any(|byte| matches!(byte, 0 | b'/' | b'%'));
    if !fits {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a device name (1 to 15 bytes, no slash)"));
    }
    // SAFETY: all zero is a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    Ok(request)
}

/// One packet with its virtio header; `WouldBlock` when none waits.
#[inline]
pub fn read(fd: RawFd, buffer: &mut [u8]) -> io::Result<usize> {
    // SAFETY: pointer and length describe `buffer`.
    checked(unsafe { libc::read(fd, buffer.as_mut_ptr().cast(), buffer.len()) }).map(|length| length as usize)
}

/// Writes one packet from its pieces, the virtio header first.
#[inline]
pub fn write(fd: RawFd, pieces: &[libc::iovec]) -> io::Result<usize> {
    // SAFETY: the caller's pieces describe readable memory for the time of the call (see `piece`).
    checked(unsafe { libc::writev(fd, pieces.as_ptr(), pieces.len() as i32) }).map(|length| length as usize)
}

/// Whether reading failed because the device was deleted.
pub fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EBADFD | libc::EFAULT))
}

pub fn piece(bytes: &[u8]) -> libc::iovec {
    libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() }
}

/// Whether a device of this name is there.
pub fn exists(name: &CStr) -> bool {
    // SAFETY: `name` is a C string.
    unsafe { libc::if_nametoindex(name.as_ptr()) != 0 }
}
