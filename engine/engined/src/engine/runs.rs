//! Datagrams to be sent. Those of one key that follow each other are encrypted together; those of equal length and one
//! destination make a run, which goes out by one system call.

use super::counters::Counter;
use super::kind::Kind;
use super::shared::Shared;
use pellicle_crypto::{Key, Message};
use pellicle_net::send::{Route, send};
use pellicle_proto::endpoint::Endpoint;
use pellicle_proto::transport::{HEADER, OVERHEAD};
use std::io;
use std::sync::atomic::Ordering::Relaxed;

/// Payload of one UDP super packet (65,535 less the headers of IPv4 and UDP).
const MAX_RUN: usize = 65_507;
/// UDP_MAX_SEGMENTS before Linux 6.9.
const MAX_SEGMENTS: usize = 64;
const ROOM: usize = 1 << 18;
/// Beyond this much it goes out before more is read.
const ENOUGH: usize = 1 << 16;
/// Encrypted together while they are still in the nearest cache.
const TOGETHER: usize = 16;

/// Datagrams of one length and one destination.
pub struct Run {
    pub route: Route,
    start: usize,
    length: usize,
    pub segment: usize,
    pub count: usize,
    /// A shorter datagram ended it.
    closed: bool,
}

/// How datagrams leave.
pub trait Way: Default {
    /// Encrypts what is still in clear.
    fn seal(&mut self, _bytes: &mut [u8]) {}

    fn send<K: Kind>(&mut self, shared: &Shared<K>, run: &Run, bytes: &[u8]);
}

pub struct Runs<W = Together> {
    bytes: Vec<u8>,
    used: usize,
    runs: Vec<Run>,
    way: W,
}

/// WireGuard's: encrypted many at a time, sent by UDP.
pub struct Together {
    /// Still in clear, all of one key.
    clear: Vec<Message>,
    key: Option<Key>,
}

impl Default for Together {
    fn default() -> Self {
        Together { clear: Vec::with_capacity(TOGETHER), key: None }
    }
}

impl Way for Together {
    fn seal(&mut self, bytes: &mut [u8]) {
        if let Some(key) = self.key.take() {
            key.seal_many(bytes, &self.clear);
        }
        self.clear.clear();
    }

    fn send<K: Kind>(&mut self, shared: &Shared<K>, run: &Run, bytes: &[u8]) {
        send_udp(shared, run, bytes, transmit);
    }
}

impl Runs {
    /// What was written to the room: header, text, and room for the tag.
    #[inline]
    pub fn commit(&mut self, length: usize, route: &Route, key: &Key, counter: u64) {
        let Together { clear, key: own } = &mut self.way;
        if clear.len() == TOGETHER || own.as_ref().is_none_or(|own| !own.same(key)) {
            self.way.seal(&mut self.bytes);
            self.way.key = Some(key.clone());
        }
        self.way.clear.push(Message { counter, start: self.used + HEADER, length: length - OVERHEAD });
        self.add(length, route);
    }
}

impl<W: Way> Runs<W> {
    pub fn new() -> Runs<W> {
        Runs { bytes: vec![0; ROOM], used: 0, runs: Vec::with_capacity(256), way: W::default() }
    }

    /// Room for one datagram; it counts when it is added.
    #[inline]
    pub fn room<K: Kind>(&mut self, length: usize, shared: &Shared<K>) -> &mut [u8] {
        if self.used + length > ROOM {
            self.flush(shared);
        }
        &mut self.bytes[self.used..self.used + length]
    }

    /// Where the room lies, all bytes, and how they leave.
    #[inline]
    pub fn parts(&mut self) -> (usize, &mut [u8], &mut W) {
        (self.used, &mut self.bytes, &mut self.way)
    }

    /// What was written to the room is to be sent.
    #[inline]
    pub fn add(&mut self, length: usize, route: &Route) {
        let start = self.used;
        self.used += length;
        if let Some(run) = self.runs.last_mut() {
            let fits = !run.closed
                && length <= run.segment
                && run.length + length <= MAX_RUN
                && run.count < MAX_SEGMENTS
                && run.route == *route;
            if fits {
                run.length += length;
                run.count += 1;
                run.closed = length < run.segment;
                return;
            }
        }
        self.runs.push(Run { route: *route, start, length, segment: length, count: 1, closed: false });
    }

    #[inline]
    pub fn enough(&self) -> bool {
        self.used >= ENOUGH || self.runs.len() >= 200
    }

    pub fn flush<K: Kind>(&mut self, shared: &Shared<K>) {
        self.way.seal(&mut self.bytes);
        for run in &self.runs {
            self.way.send(shared, run, &self.bytes[run.start..run.start + run.length]);
        }
        self.runs.clear();
        self.used = 0;
    }
}

/// A run by one system call where that can be done. `transmit` sends `bytes` as datagrams of `segment` bytes.
pub fn send_udp<K: Kind>(
    shared: &Shared<K>,
    run: &Run,
    bytes: &[u8],
    transmit: impl Fn(&Shared<K>, i32, &Route, &[u8], usize) -> io::Result<()>,
) {
    let Some(socket) = shared.socket(run.route.destination.family) else {
        return shared.counters().add(Counter::NoSocket, run.count as u64);
    };
    if run.count == 1 || shared.segment.load(Relaxed) {
        shared.count(Counter::UdpSends);
        match transmit(shared, socket, &run.route, bytes, run.segment) {
            Ok(()) => return,
            Err(_) if run.count == 1 => return shared.count(K::SEND_FAILED),
            Err(error) => degrade(shared, &error),
        }
    }
    for datagram in bytes.chunks(run.segment) {
        shared.count(Counter::UdpSends);
        if transmit(shared, socket, &run.route, datagram, 0).is_err() {
            shared.count(K::SEND_FAILED);
        }
    }
}

/// An address of ours that is gone must not silence the peers who wrote to it: the kernel chooses another.
#[inline]
fn transmit<K: Kind>(shared: &Shared<K>, socket: i32, route: &Route, bytes: &[u8], segment: usize) -> io::Result<()> {
    match send(socket, route, bytes, segment) {
        Err(error) if route.source.family != 0 => {
            let any = Route { source: Endpoint::NONE, ..*route };
            send(socket, &any, bytes, segment).map_err(|_| error)?;
            K::forget_source(shared, &route.source);
            Ok(())
        }
        other => other,
    }
}

/// A run was refused: its datagrams go one by one. EIO says that the way out has no checksum offload (udp(7)), which
/// will be so for the next run too; EINVAL and EMSGSIZE say that a segment does not fit the path, which passes.
fn degrade<K: Kind>(shared: &Shared<K>, error: &io::Error) {
    shared.count(Counter::SegmentFallback);
    if error.raw_os_error() == Some(libc::EIO) {
        shared.segment.store(false, Relaxed);
    }
}
