//! One packet, possibly a super packet, to datagrams of a session, which `Runs` encrypts before they leave.

use super::runs::Runs;
use super::shared::Shared;
use pellicle_crypto::Key;
use pellicle_net::send::Route;
use pellicle_proto::split::Split;
use pellicle_proto::transport::{HEADER, OVERHEAD, padded, write_header};

/// What a session gives for sending.
pub struct Sealer<'a> {
    pub key: &'a Key,
    pub remote: u32,
    /// The first of the counters reserved for this packet, one for each segment.
    pub counter: u64,
    pub mtu: usize,
}

impl Sealer<'_> {
    /// Returns the bytes of all datagrams together.
    pub fn seal(&self, split: &Split, route: &Route, runs: &mut Runs, shared: &Shared) -> usize {
        let mut total = 0;
        for index in 0..split.count() {
            let length = split.length(index);
            total += self.datagram(index, padded(length, self.mtu), route, runs, shared, |text| {
                let (packet, padding) = text.split_at_mut(length);
                split.write(index, packet);
                padding.fill(0);
            });
        }
        total
    }

    /// A datagram whose text is written by `write`.
    pub fn datagram(
        &self,
        index: usize,
        length: usize,
        route: &Route,
        runs: &mut Runs,
        shared: &Shared,
        write: impl FnOnce(&mut [u8]),
    ) -> usize {
        let whole = length + OVERHEAD;
        let counter = self.counter + index as u64;
        let room = runs.room(whole, shared);
        if let Some((header, rest)) = room.split_first_chunk_mut::<HEADER>() {
            write_header(header, self.remote, counter);
            write(&mut rest[..length]);
        }
        runs.commit(whole, route, self.key, counter);
        whole
    }
}
