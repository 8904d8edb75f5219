//! The limits of a session (WireGuard paper, section 6.1; times in nanoseconds of CLOCK_MONOTONIC).

pub const REKEY_AFTER_MESSAGES: u64 = 1 << 60;
pub const REJECT_AFTER_MESSAGES: u64 = u64::MAX - (1 << 13);
pub const REKEY_AFTER_TIME: u64 = 120 * SECOND;
pub const REJECT_AFTER_TIME: u64 = 180 * SECOND;
pub const KEEPALIVE_TIMEOUT: u64 = 10 * SECOND;
pub const REKEY_TIMEOUT: u64 = 5 * SECOND;
const SECOND: u64 = 1_000_000_000;

/// May be used for sending or receiving at all. A birth in the future (another machine's clock) is not young, it is wrong.
#[inline]
pub fn alive(born: u64, now: u64) -> bool {
    now.checked_sub(born).is_some_and(|age| age < REJECT_AFTER_TIME)
}

/// Sending by it should make the keeper begin a handshake (section 6.2).
#[inline]
pub fn stale_on_sending(initiator: bool, born: u64, sent: u64, now: u64) -> bool {
    sent > REKEY_AFTER_MESSAGES || initiator && now.saturating_sub(born) >= REKEY_AFTER_TIME
}

/// Receiving by it should, since what is sent next might come too late (section 6.2).
#[inline]
pub fn stale_on_receiving(initiator: bool, born: u64, now: u64) -> bool {
    initiator && now.saturating_sub(born) >= REJECT_AFTER_TIME - KEEPALIVE_TIMEOUT - REKEY_TIMEOUT
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lives_180_seconds() {
        assert!(alive(5, 5));
        assert!(alive(5, 4 + REJECT_AFTER_TIME));
        assert!(!alive(5, 5 + REJECT_AFTER_TIME));
        assert!(!alive(6, 5));
    }

    #[test]
    fn only_the_initiator_renews_by_age() {
        assert!(stale_on_sending(true, 0, 0, REKEY_AFTER_TIME));
        assert!(!stale_on_sending(false, 0, 0, REKEY_AFTER_TIME));
        assert!(stale_on_sending(false, 0, REKEY_AFTER_MESSAGES + 1, 1));
        assert!(!stale_on_receiving(true, 0, 164 * SECOND));
        assert!(stale_on_receiving(true, 0, 165 * SECOND));
        assert!(!stale_on_receiving(false, 0, 165 * SECOND));
    }
}
