//! Reading without a lock: packet threads mark the time of a batch; whoever replaces something waits until every batch
//! that may have seen the old one is over.

use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering::*, fence};
use std::time::Duration;

/// The packet threads.
#[derive(Clone, Copy)]
pub enum Thread {
    Outbound,
    Inbound,
}

/// Odd while a thread is in a batch.
#[derive(Default)]
pub struct Epochs([AtomicU64; 2]);

pub struct Batch<'a>(&'a AtomicU64);

impl Epochs {
    #[inline]
    pub fn enter(&self, thread: Thread) -> Batch<'_> {
        let epoch = &self.0[thread as usize];
        epoch.fetch_add(1, SeqCst);
        fence(SeqCst);
        Batch(epoch)
    }

    /// Returns when every batch that was running is over.
    pub fn synchronise(&self) {
        fence(SeqCst);
        for epoch in &self.0 {
            let seen = epoch.load(SeqCst);
            while seen & 1 == 1 && epoch.load(SeqCst) == seen {
                std::thread::sleep(Duration::from_micros(20));
            }
        }
        fence(SeqCst);
    }
}

impl Drop for Batch<'_> {
    #[inline]
    fn drop(&mut self) {
        self.0.fetch_add(1, SeqCst);
    }
}

/// A value that is replaced as a whole, by one writer.
pub struct Cell<T>(AtomicPtr<T>);

impl<T: Default> Default for Cell<T> {
    fn default() -> Self {
        Cell::new(T::default())
    }
}

impl<T> Cell<T> {
    pub fn new(value: T) -> Cell<T> {
        Cell(AtomicPtr::new(Box::into_raw(Box::new(value))))
    }

    #[inline]
    pub fn read<'a>(&self, _batch: &'a Batch) -> &'a T {
        // SAFETY: `replace` frees nothing that a running batch may have read.
        unsafe { &*self.0.load(Acquire) }
    }

    /// For the writer, which needs no batch.
    ///
    /// # Safety
    /// Nobody replaces the value meanwhile: the one who does is the caller, and does not in `look`.
    pub unsafe fn look<R>(&self, look: impl FnOnce(&T) -> R) -> R {
        // SAFETY: the caller's; only `replace` frees it.
        look(unsafe { &*self.0.load(Acquire) })
    }

    /// Holds for every later batch when it returns.
    pub fn replace(&self, value: T, epochs: &Epochs) {
        let old = self.0.swap(Box::into_raw(Box::new(value)), AcqRel);
        epochs.synchronise();
        // SAFETY: made by Box::into_raw, no longer reachable, and every reader is done with it.
        drop(unsafe { Box::from_raw(old) });
    }
}
