//! Which inner addresses belong to which peer.

use super::kind::Kind;
use super::orders::Outcome;
use super::shared::Shared;
use pellicle_proto::event::Status;
use pellicle_proto::prefix::Prefix;
use std::collections::{HashMap, HashSet};

/// Each prefix belongs to this peer from now on, whoever had it.
pub fn allow<K: Kind>(shared: &Shared<K>, peer: u32, prefixes: &[Prefix]) -> Outcome {
    let mut outcome = Ok(());
    let (mut known, mut free) = (HashMap::new(), Vec::new());
    for slot in shared.state.prefix_slots().used() {
        match slot.get() {
            Some((prefix, _)) => drop(known.insert(prefix, slot)),
            None => free.push(slot),
        }
    }
    for prefix in prefixes {
        let own = known.get(prefix).copied();
        match own.or_else(|| free.pop()).or_else(|| shared.state.prefix_slots().another()) {
            Some(slot) => {
                slot.set(prefix, peer);
                known.insert(*prefix, slot);
            }
            None => outcome = Err((Status::Full, "no room for more allowed prefixes")),
        }
    }
    shared.rebuild_prefixes();
    outcome
}

/// Those of the prefixes that are this peer's.
pub fn disallow<K: Kind>(shared: &Shared<K>, peer: u32, prefixes: &[Prefix]) {
    let prefixes: HashSet<_> = prefixes.iter().collect();
    for slot in shared.state.prefix_slots().used() {
        if slot.get().is_some_and(|(found, owner)| owner == peer && prefixes.contains(&found)) {
            slot.clear();
        }
    }
    shared.rebuild_prefixes();
}

pub fn disallow_all<K: Kind>(shared: &Shared<K>, peer: u32) {
    let mut had = false;
    for slot in shared.state.prefix_slots().used() {
        if slot.get().is_some_and(|(_, owner)| owner == peer) {
            slot.clear();
            had = true;
        }
    }
    if had {
        shared.rebuild_prefixes();
    }
}

/// What each peer has, by its number.
pub fn by_peer<K: Kind>(shared: &Shared<K>) -> Vec<Vec<Prefix>> {
    let mut prefixes = vec![Vec::new(); shared.state.max_peers()];
    for (prefix, owner) in shared.state.prefix_slots().used().iter().filter_map(|slot| slot.get()) {
        prefixes[owner as usize].push(prefix);
    }
    prefixes
}
