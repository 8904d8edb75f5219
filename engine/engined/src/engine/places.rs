//! Which of a peer's session slots are the previous, the current and the next one: one word, changed by compare and
//! swap, since the receiving thread promotes `next` while the control thread may set a session.

use super::state::{Peer, SLOTS};
use pellicle_proto::request::Place;
use std::sync::atomic::Ordering::{AcqRel, Acquire};

/// Slot + 1 per place, 0 for none: a word of zeros is "no session".
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Places(u32);

impl Places {
    #[inline]
    pub fn load(peer: &Peer) -> Places {
        Places(peer.places.load(Acquire))
    }

    #[inline]
    pub fn get(self, place: Place) -> Option<usize> {
        let slot = self.0 >> (8 * place as u32) & 0xff;
        (slot as usize).checked_sub(1).filter(|slot| *slot < SLOTS)
    }

    fn with(self, place: Place, slot: Option<usize>) -> Places {
        let shift = 8 * place as u32;
        Places(self.0 & !(0xff << shift) | (slot.map_or(0, |slot| slot as u32 + 1) << shift))
    }

    pub fn holds(self, slot: usize) -> bool {
        [Place::Previous, Place::Current, Place::Next].into_iter().any(|place| self.get(place) == Some(slot))
    }

    /// A new session at `place`, which is `Current` or `Next`.
    pub fn placed(self, place: Place, slot: usize) -> Places {
        match place {
            Place::Next => self.with(Place::Next, Some(slot)),
            _ => self
                .with(Place::Previous, self.get(Place::Current))
                .with(Place::Current, Some(slot))
                .with(Place::Next, None),
        }
    }

    /// `next` was heard from: it is the current one now.
    pub fn promoted(self) -> Places {
        match self.get(Place::Next) {
            Some(slot) => self.placed(Place::Current, slot),
            None => self,
        }
    }

    pub fn without(self, slot: usize) -> Places {
        [Place::Previous, Place::Current, Place::Next]
            .into_iter()
            .filter(|place| self.get(*place) == Some(slot))
            .fold(self, |places, place| places.with(place, None))
    }

    /// Replaces what stands in the peer by what `change` makes of it.
    pub fn update(peer: &Peer, change: impl Fn(Places) -> Places) {
        let mut old = peer.places.load(Acquire);
        while let Err(found) = peer.places.compare_exchange(old, change(Places(old)).0, AcqRel, Acquire) {
            old = found;
        }
    }

    /// As `promoted`, unless `slot` is not the next one (any more).
    pub fn promote(peer: &Peer, slot: usize) -> bool {
        let old = Places::load(peer);
        old.get(Place::Next) == Some(slot)
            && peer.places.compare_exchange(old.0, old.promoted().0, AcqRel, Acquire).is_ok()
    }

    pub const NONE: Places = Places(0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moves_up() {
        let one = Places::NONE.placed(Place::Current, 0);
        let two = one.placed(Place::Next, 1);
        assert_eq!((two.get(Place::Previous), two.get(Place::Current), two.get(Place::Next)), (None, Some(0), Some(1)));
        let three = two.promoted();
        assert_eq!(
            (three.get(Place::Previous), three.get(Place::Current), three.get(Place::Next)),
            (Some(0), Some(1), None)
        );
        let four = three.placed(Place::Next, 2).placed(Place::Current, 3);
        assert_eq!(
            (four.get(Place::Previous), four.get(Place::Current), four.get(Place::Next)),
            (Some(1), Some(3), None)
        );
        assert!(!three.placed(Place::Next, 2).holds(3));
        assert!(!four.without(3).holds(3));
    }
}
