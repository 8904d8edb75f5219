//! Keys that leave memory when they are dropped. Neither ring nor key schedules in general do so by themselves. Copies that
//! the compiler made on the stack while the key was built are out of reach.

use std::mem::{ManuallyDrop, MaybeUninit, size_of};
use std::ops::Deref;
use std::sync::atomic::{Ordering, compiler_fence};

pub struct Wiped<T>(ManuallyDrop<T>);

impl<T> Wiped<T> {
    pub fn new(value: T) -> Wiped<T> {
        Wiped(ManuallyDrop::new(value))
    }
}

impl<T> Deref for Wiped<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> Drop for Wiped<T> {
    fn drop(&mut self) {
        // SAFETY: the value is dropped here and nowhere else, and nobody sees it afterwards.
        unsafe { ManuallyDrop::drop(&mut self.0) };
        let bytes = (&raw mut self.0).cast::<MaybeUninit<u8>>();
        for index in 0..size_of::<T>() {
            // SAFETY: inside the value's own memory, which holds no value any more. Volatile, so that it is not left out.
            unsafe { bytes.add(index).write_volatile(MaybeUninit::zeroed()) };
        }
        compiler_fence(Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[test]
    fn drops_once_and_leaves_zeros() {
        struct Secret<'a>([u8; 40], &'a Cell<u32>);
        impl Drop for Secret<'_> {
            fn drop(&mut self) {
                self.1.set(self.1.get() + 1);
            }
        }
        let dropped = Cell::new(0);
        let mut place = ManuallyDrop::new(Wiped::new(Secret([7; 40], &dropped)));
        assert_eq!(place.0.0, [7; 40]);
        // SAFETY: dropped once; `place` itself is never used as a value again, its bytes were all written.
        let bytes = unsafe {
            ManuallyDrop::drop(&mut place);
            std::slice::from_raw_parts((&raw const place).cast::<u8>(), size_of::<Secret>())
        };
        assert!(bytes.iter().all(|byte| *byte == 0));
        assert_eq!(dropped.get(), 1);
    }
}
