//! The replay window (RFC 6479; 8,192 bits as in Linux, of which one word is in motion, so 8,128 counters back count).
//! It lies in shared memory and outlives its writer: there is one writer, and at whatever instruction that is killed,
//! no counter that was taken is taken again.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed, Ordering::Release};

const WORDS: usize = 128;
/// How far back numbers are told apart.
pub const WINDOW: u64 = (WORDS as u64 - 1) * 64;

#[repr(C)]
pub struct ReplayWindow {
    /// The highest counter + 1.
    last: AtomicU64,
    words: [AtomicU64; WORDS],
}

impl Default for ReplayWindow {
    fn default() -> Self {
        ReplayWindow { last: AtomicU64::new(0), words: [const { AtomicU64::new(0) }; WORDS] }
    }
}

impl ReplayWindow {
    pub fn last(&self) -> u64 {
        self.last.load(Relaxed)
    }

    /// As if everything below `last` had been taken: for a key that was received by before.
    pub fn resume(&self, last: u64) {
        self.reset();
        let Some(highest) = last.checked_sub(1) else { return };
        for word in &self.words {
            word.store(u64::MAX, Relaxed);
        }
        self.words[(highest >> 6) as usize % WORDS].store(u64::MAX >> (63 - (highest & 63)), Relaxed);
        self.last.store(last, Release);
    }

    pub fn reset(&self) {
        self.last.store(0, Relaxed);
        for word in &self.words {
            word.store(0, Relaxed);
        }
    }

    /// Whether `take` would: spares the work of decrypting what it would refuse.
    #[inline]
    pub fn would_take(&self, counter: u64) -> bool {
        let last = self.last.load(Relaxed);
        let Some(next) = counter.checked_add(1) else { return false };
        if next > last {
            return true;
        }
        let taken = self.words[(counter >> 6) as usize % WORDS].load(Relaxed) >> (counter & 63) & 1;
        next.saturating_add(WINDOW) >= last && taken == 0
    }

    /// Takes an authenticated counter: false when it was taken before or is too old to tell.
    pub fn take(&self, counter: u64) -> bool {
        let last = self.last.load(Relaxed);
        let Some(next) = counter.checked_add(1) else { return false };
        if next.saturating_add(WINDOW) < last {
            return false;
        }
        let block = counter >> 6;
        if next > last {
            // First the new end, then clear the words that come into the window: killed in between, a good packet
            // looks like a replay. The other way round a replay would look good.
            self.last.store(next, Release);
            let from = if last == 0 { 0 } else { ((last - 1) >> 6) + 1 };
            let from = from.max(block.saturating_sub(WORDS as u64 - 1));
            for fresh in from..=block {
                self.words[fresh as usize % WORDS].store(0, Release);
            }
        }
        let word = &self.words[block as usize % WORDS];
        let bit = 1 << (counter & 63);
        let taken = word.load(Relaxed);
        if taken & bit != 0 {
            return false;
        }
        word.store(taken | bit, Release);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    /// The cases of Linux, drivers/net/wireguard/selftest/counter.c.
    #[test]
    fn linux_cases() {
        let window = ReplayWindow::default();
        let limit = WINDOW + 1;
        let cases = [
            (0, true),
            (1, true),
            (1, false),
            (9, true),
            (8, true),
            (7, true),
            (7, false),
            (limit, true),
            (limit - 1, true),
            (limit - 1, false),
            (limit - 2, true),
            (2, true),
            (2, false),
            (limit + 16, true),
            (3, false),
            (limit + 16, false),
            (limit * 4, true),
            (limit * 4 - (limit - 1), true),
            (10, false),
            (limit * 4 - limit, false),
            (limit * 4 - (limit + 1), false),
            (limit * 4 - (limit - 2), true),
            (limit * 4 + 1 - limit, false),
            (0, false),
            (u64::MAX - 8194, true),
            (u64::MAX, false),
        ];
        for (step, (counter, expected)) in cases.into_iter().enumerate() {
            assert_eq!(window.take(counter), expected, "step {step}, counter {counter}");
        }
    }

    #[test]
    fn both_directions() {
        let forward = ReplayWindow::default();
        assert!((1..=WINDOW).all(|counter| forward.take(counter)));
        assert!(forward.take(0));
        assert!(!forward.take(0));
        let backward = ReplayWindow::default();
        assert!((1..=WINDOW + 1).rev().all(|counter| backward.take(counter)));
        assert!(!backward.take(0));
    }

    /// As a key's numbers go on when it comes back.
    #[test]
    fn resumes_where_it_was() {
        let window = ReplayWindow::default();
        for last in [0, 1, 5, 63, 64, 65, WINDOW, WINDOW + 100, (1 << 32) + 7, 1 << 40] {
            window.resume(last);
            assert_eq!(window.last(), last);
            for distance in [1, 2, 63, 64, 65, WINDOW - 1, WINDOW, WINDOW + 1] {
                if let Some(before) = last.checked_sub(distance) {
                    assert!(!window.would_take(before) && !window.take(before), "{before} again, of {last}");
                }
            }
            for next in [last, last + 70, last + 1, last + WINDOW, last + 71] {
                assert!(window.would_take(next) && window.take(next), "{next}, after {last}");
                assert!(!window.would_take(next) && !window.take(next), "{next} again");
            }
        }
    }

    proptest! {
        #[test]
        fn never_takes_twice_and_takes_what_is_near(steps in prop::collection::vec((0u64..20_000, 0u64..3), 1..600)) {
            let window = ReplayWindow::default();
            let (mut seen, mut base, mut last) = (HashSet::new(), 0u64, 0u64);
            for (distance, kind) in steps {
                let counter = match kind { 0 => base.saturating_sub(distance), 1 => { base += distance; base }, _ => { base += 1; base } };
                let expected = !seen.contains(&counter) && (counter + 1).saturating_add(WINDOW) >= last;
                prop_assert_eq!(window.would_take(counter), expected);
                prop_assert_eq!(window.take(counter), expected);
                if expected { seen.insert(counter); last = last.max(counter + 1); }
            }
        }
    }
}
