//! Longest-prefix match: a path-compressed binary trie, built once and then only read. A change builds a new one beside
//! it, so that readers need no lock.

use crate::prefix::{Prefix, mask};

const NONE: u32 = u32::MAX;

#[derive(Clone, Copy)]
struct Node {
    bits: u128,
    length: u8,
    value: u32,
    children: [u32; 2],
}

/// Values are `u32` (a peer's slot); `u32::MAX` is not a value.
pub struct PrefixTable {
    nodes: Vec<Node>,
    roots: [u32; 2],
}

impl Default for PrefixTable {
    fn default() -> Self {
        PrefixTable { nodes: Vec::new(), roots: [NONE; 2] }
    }
}

impl PrefixTable {
    pub fn set(&mut self, prefix: Prefix, value: u32) {
        let root = usize::from(prefix.family == 6);
        self.roots[root] = self.insert(self.roots[root], prefix.bits, prefix.length, value);
    }

    /// The value of the longest prefix that holds the address (left-aligned as in `Prefix`).
    #[inline]
    pub fn lookup(&self, family: u8, address: u128) -> Option<u32> {
        let mut at = self.roots[usize::from(family == 6)];
        let mut best = NONE;
        while let Some(node) = self.nodes.get(at as usize) {
            if (address ^ node.bits) & mask(node.length) != 0 {
                break;
            }
            if node.value != NONE {
                best = node.value;
            }
            if node.length == 128 {
                break;
            }
            at = node.children[side(address, node.length)];
        }
        (best != NONE).then_some(best)
    }

    /// Puts the prefix below `at` and returns the node that stands there now.
    fn insert(&mut self, at: u32, bits: u128, length: u8, value: u32) -> u32 {
        let Some(node) = self.nodes.get(at as usize).copied() else {
            return self.add(Node { bits, length, value, children: [NONE; 2] });
        };
        let common = ((bits ^ node.bits).leading_zeros() as u8).min(length).min(node.length);
        if common < node.length {
            let mut joint = Node { bits: bits & mask(common), length: common, value: NONE, children: [NONE; 2] };
            joint.children[side(node.bits, common)] = at;
            if common == length {
                joint.value = value;
            } else {
                joint.children[side(bits, common)] = self.add(Node { bits, length, value, children: [NONE; 2] });
            }
            return self.add(joint);
        }
        if length == node.length {
            self.nodes[at as usize].value = value;
        } else {
            let side = side(bits, node.length);
            self.nodes[at as usize].children[side] = self.insert(node.children[side], bits, length, value);
        }
        at
    }

    fn add(&mut self, node: Node) -> u32 {
        self.nodes.push(node);
        self.nodes.len() as u32 - 1
    }
}

/// Bit number `length` from the left.
#[inline]
fn side(bits: u128, length: u8) -> usize {
    (bits >> (127 - u32::from(length)) & 1) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn scan(entries: &[(Prefix, u32)], family: u8, address: u128) -> Option<u32> {
        let holds = |(prefix, _): &&(Prefix, u32)| {
            prefix.family == family && (address ^ prefix.bits) & mask(prefix.length) == 0
        };
        // the later of two equal prefixes counts, as `max_by_key` has it
        entries.iter().filter(holds).max_by_key(|(prefix, _)| prefix.length).map(|(_, value)| *value)
    }

    proptest! {
        #[test]
        fn equals_a_scan(
            raw in prop::collection::vec((prop::bool::ANY, 0u8..=128, 0u128..16, 0u32..100), 0..80),
            probes in prop::collection::vec((prop::bool::ANY, 0u128..16, any::<u128>()), 1..80),
        ) {
            let mut table = PrefixTable::default();
            let mut entries = Vec::new();
            for (six, length, top, value) in raw {
                let (family, length) = if six { (6, length) } else { (4, length % 33) };
                let bits = (top << 124 | top << 96 | top) & mask(length);
                let prefix = Prefix { family, length, bits };
                table.set(prefix, value);
                entries.push((prefix, value));
            }
            for (six, top, noise) in probes {
                let family = if six { 6 } else { 4 };
                for address in [top << 124 | top << 96 | top, top << 124 | top << 96 | noise >> 40, noise] {
                    prop_assert_eq!(table.lookup(family, address), scan(&entries, family, address));
                }
            }
        }
    }
}
