//! Associations ready for use, made from the shared memory: one to send by for each peer, and those to receive by, found
//! by source address and SPI. Read without lock, replaced as a whole.

use super::super::rcu::{Batch, Cell, Epochs};
use super::association::KeyCopy;
use super::memory::{Memory, RECEIVING, SENDING};
use pellicle_crypto::esp::{Algorithm, Association, BadKey};
use pellicle_net::send::Route;
use pellicle_proto::endpoint::Endpoint;
use std::sync::atomic::Ordering::*;
use std::sync::{Arc, Mutex};

/// To send by.
pub struct Outgoing {
    pub association: Association,
    pub spi: u32,
    /// Its traffic class is each packet's own.
    pub route: Route,
    pub udp: bool,
    /// Its number in the memory, and that of its key.
    pub index: usize,
    pub used: usize,
}

/// To receive by.
pub struct Incoming {
    pub association: Association,
    pub spi: u32,
    pub source: Endpoint,
    pub peer: u32,
    pub index: usize,
}

pub struct Tables {
    outgoing: Box<[Cell<Option<Outgoing>>]>,
    incoming: Cell<Index>,
    /// What the index is made of.
    list: Mutex<Vec<Arc<Incoming>>>,
}

impl Tables {
    pub fn new(max_peers: usize) -> Tables {
        Tables {
            outgoing: (0..max_peers).map(|_| Cell::new(None)).collect(),
            incoming: Cell::new(Index::new(&[])),
            list: Mutex::new(Vec::new()),
        }
    }

    /// All that stands in the memory, at a start.
    pub fn fill(&self, memory: &Memory, epochs: &Epochs) {
        for peer in 0..memory.max_peers() {
            self.outgoing[peer].replace(outgoing(memory, peer), epochs);
        }
        let all = 0..memory.max_peers() * RECEIVING;
        *self.list() = all.filter_map(|index| incoming(memory, index).map(Arc::new)).collect();
        self.rebuild(epochs);
    }

    /// The association to send to a peer by.
    #[inline]
    pub fn outgoing<'a>(&'a self, peer: u32, batch: &'a Batch) -> Option<&'a Outgoing> {
        self.outgoing[peer as usize].read(batch).as_ref()
    }

    #[inline]
    pub fn incoming<'a>(&'a self, batch: &'a Batch) -> &'a Index {
        self.incoming.read(batch)
    }

    /// After a change in the memory: holds for every later packet, and no earlier one is still on its way.
    pub fn renew_outgoing(&self, memory: &Memory, peer: u32, epochs: &Epochs) {
        self.outgoing[peer as usize].replace(outgoing(memory, peer as usize), epochs);
    }

    /// The same for one to receive by; one that is to be wiped goes by `forget_incoming`.
    pub fn renew_incoming(&self, memory: &Memory, index: usize, epochs: &Epochs) {
        let mut list = self.list();
        list.retain(|known| known.index != index);
        list.extend(incoming(memory, index).map(Arc::new));
        drop(list);
        self.rebuild(epochs);
    }

    pub fn forget_incoming(&self, indexes: impl Fn(usize) -> bool, epochs: &Epochs) {
        self.list().retain(|known| !indexes(known.index));
        self.rebuild(epochs);
    }

    fn rebuild(&self, epochs: &Epochs) {
        let index = Index::new(&self.list());
        self.incoming.replace(index, epochs);
    }

    fn list(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Incoming>>> {
        self.list.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

fn outgoing(memory: &Memory, peer: usize) -> Option<Outgoing> {
    let index = peer * SENDING + memory.peers()[peer].sending_slot()?;
    let facts = &memory.sending()[index].facts;
    if facts.filled.load(Acquire) == 0 {
        return None;
    }
    let association = associate(&facts.keys(memory.sending_keys(index))).ok()?;
    let (outer, port) = (facts.outer(), facts.port.load(Relaxed) as u16);
    let route = Route { destination: Endpoint { port, ..outer.destination }, source: outer.source, tos: 0 };
    let spi = facts.spi.load(Relaxed);
    Some(Outgoing { association, spi, route, udp: port != 0, index, used: facts.used.load(Relaxed) as usize })
}

fn incoming(memory: &Memory, index: usize) -> Option<Incoming> {
    let facts = &memory.receiving()[index].facts;
    if facts.filled.load(Acquire) == 0 {
        return None;
    }
    let association = associate(&facts.keys(memory.receiving_keys(index))).ok()?;
    let (spi, source) = (facts.spi.load(Relaxed), facts.outer().source);
    Some(Incoming { association, spi, source, peer: (index / RECEIVING) as u32, index })
}

/// `None` in the error: no such algorithm.
pub fn associate(keys: &KeyCopy) -> Result<Association, Option<BadKey>> {
    let algorithm = Algorithm::from_number(keys.algorithm).ok_or(None)?;
    Association::new(algorithm, keys.icv.into(), &keys.encryption, &keys.authentication).map_err(Some)
}

/// Open addressing. Associations of equal source and SPI (other keys, or a node that is another peer by now) lie one
/// behind the other.
pub struct Index {
    entries: Vec<Option<Arc<Incoming>>>,
}

impl Index {
    fn new(all: &[Arc<Incoming>]) -> Index {
        let size = (all.len() * 2).next_power_of_two().max(16);
        let mut index = Index { entries: vec![None; size] };
        for one in all {
            let mut at = index.start(&one.source, one.spi);
            while index.entries[at].is_some() {
                at = (at + 1) & (size - 1);
            }
            index.entries[at] = Some(one.clone());
        }
        index
    }

    /// Those that a packet may be of.
    #[inline]
    pub fn find(&self, source: &Endpoint, spi: u32) -> impl Iterator<Item = &Incoming> + Clone {
        let (family, address) = (source.family, source.address);
        let (start, mask) = (self.start(source, spi), self.entries.len() - 1);
        (0..=mask)
            .map_while(move |step| self.entries[(start + step) & mask].as_deref())
            .filter(move |one| one.spi == spi && one.source.address == address && one.source.family == family)
    }

    #[inline]
    fn start(&self, source: &Endpoint, spi: u32) -> usize {
        let bits = u128::from_le_bytes(source.address);
        let mixed = (bits as u64 ^ (bits >> 64) as u64 ^ u64::from(spi) << 32).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed >> 40) as usize & (self.entries.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(index: usize, source: [u8; 4], spi: u32) -> Arc<Incoming> {
        let association = Association::new(Algorithm::AesGcm, 16, &[index as u8; 20], &[]).expect("a key");
        Arc::new(Incoming { association, spi, source: Endpoint::v4(source, 0), peer: 0, index })
    }

    #[test]
    fn finds_by_source_and_spi() {
        let mut all: Vec<_> =
            (0..1000).map(|index| one(index, [10, 0, (index / 4) as u8, 1], index as u32 % 4 + 1)).collect();
        all.push(one(1000, [10, 0, 3, 1], 2));
        let index = Index::new(&all);
        for known in &all {
            let found: Vec<usize> = index.find(&known.source, known.spi).map(|found| found.index).collect();
            assert!(found.contains(&known.index) && found.len() <= 2, "{found:?}");
        }
        // the port is not part of the address
        assert_eq!(index.find(&Endpoint::v4([10, 0, 3, 1], 4500), 2).count(), 2);
        assert_eq!(index.find(&Endpoint::v4([10, 0, 3, 1], 0), 5).count(), 0);
        let mut six = [0; 16];
        six[..4].copy_from_slice(&[10, 0, 3, 1]);
        assert_eq!(index.find(&Endpoint::v6(six, 0, 0), 2).count(), 0);
        assert_eq!(Index::new(&[]).find(&Endpoint::NONE, 1).count(), 0);
    }
}
