//! From a receiver index to a session: open addressing, made anew when a session comes or goes, read without lock.

impl Default for Index {
    fn default() -> Self {
        Index::new(&[])
    }
}

pub struct Index {
    entries: Vec<Option<(u32, u32)>>,
}

impl Index {
    /// Of (receiver index, number of the session slot).
    pub fn new(sessions: &[(u32, u32)]) -> Index {
        let size = (sessions.len() * 2).next_power_of_two().max(16);
        let mut index = Index { entries: vec![None; size] };
        for (local, slot) in sessions {
            let mut at = index.start(*local);
            while index.entries[at].is_some() {
                at = (at + 1) % size;
            }
            index.entries[at] = Some((*local, *slot));
        }
        index
    }

    #[inline]
    pub fn get(&self, local: u32) -> Option<usize> {
        let mut at = self.start(local);
        while let Some((found, slot)) = self.entries[at] {
            if found == local {
                return Some(slot as usize);
            }
            at = (at + 1) & (self.entries.len() - 1);
        }
        None
    }

    #[inline]
    fn start(&self, local: u32) -> usize {
        (local.wrapping_mul(0x9e37_79b1) >> 7) as usize & (self.entries.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_is_there() {
        let sessions: Vec<(u32, u32)> = (0..1000u32).map(|slot| (slot.wrapping_mul(0x0100_0193), slot)).collect();
        let index = Index::new(&sessions);
        assert!(sessions.iter().all(|(local, slot)| index.get(*local) == Some(*slot as usize)));
        assert_eq!(index.get(1), None);
        assert_eq!(Index::new(&[]).get(0), None);
    }
}
