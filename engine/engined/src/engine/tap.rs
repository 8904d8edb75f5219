//! Reading the TUN device. Everything that waits in its queue is read and given to the sender before the thread sleeps
//! again.

use super::counters::Counter;
use super::kind::Kind;
use super::rcu::{Batch, Thread};
use super::shared::{Errand, Shared};
use super::start::CHANNEL;
use crate::channel::{self, GONE};
use pellicle_net::{clock, tun, wait};
use pellicle_proto::virtio;
use std::sync::atomic::Ordering::SeqCst;

/// Packets of one batch: after so many the others get to change tables.
const BATCH: usize = 64;

/// What becomes of packets of the device.
pub trait Sender {
    /// `frame`: virtio header and packet.
    fn packet(&mut self, frame: &[u8], now: u64, batch: &Batch);
    /// Is to be flushed before more is read.
    fn enough(&self) -> bool;
    fn flush(&mut self);
    fn errand(&mut self, errand: &Errand, now: u64, batch: &Batch);
}

/// Until `shared.stop`.
pub fn run<K: Kind>(shared: &Shared<K>, mut sender: impl Sender) {
    let mut buffer = vec![0; virtio::SIZE + 65_536];
    // the device was deleted under us: nothing comes from it any more
    let mut gone = false;
    while !shared.stop.load(SeqCst) {
        if shared.errands.pending.load(SeqCst) {
            errands(shared, &mut sender);
        }
        if !gone && batch(shared, &mut sender, &mut buffer, &mut gone) {
            continue;
        }
        let tun = if gone { -1 } else { shared.tun };
        if let Ok([_, true]) = wait::readable([tun, shared.wake_outbound.fd()], None) {
            shared.wake_outbound.clear();
        }
    }
}

/// False when the device had nothing more.
fn batch<K: Kind>(shared: &Shared<K>, sender: &mut impl Sender, buffer: &mut [u8], gone: &mut bool) -> bool {
    let batch = shared.epochs.enter(Thread::Outbound);
    let now = clock::now();
    let mut more = true;
    // an all-zero virtio header stands where the device gives none
    let missing = if shared.plain { virtio::SIZE } else { 0 };
    for _ in 0..BATCH {
        let length = match tun::read(shared.tun, &mut buffer[missing..]) {
            Ok(length) => length,
            Err(error) => {
                *gone |= tun::is_gone(&error);
                more = false;
                break;
            }
        };
        shared.count(Counter::TunReads);
        sender.packet(&buffer[..missing + length], now, &batch);
        if sender.enough() {
            break;
        }
    }
    sender.flush();
    drop(batch);
    if *gone {
        channel::answer(CHANNEL, GONE);
    }
    more
}

fn errands<K: Kind>(shared: &Shared<K>, sender: &mut impl Sender) {
    let errands = shared.take_errands();
    let batch = shared.epochs.enter(Thread::Outbound);
    let now = clock::now();
    for errand in &errands {
        sender.errand(errand, now, &batch);
    }
    sender.flush();
    drop(batch);
    shared.errands.done.fetch_add(errands.len() as u64, SeqCst);
}
