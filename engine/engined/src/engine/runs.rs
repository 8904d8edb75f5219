//! Datagrams to be sent. Those of one key that follow each other are encrypted together; those of equal length and one
//! destination make a run, which goes out by one system call.

use super::counters::Counter;
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

struct Run {
    route: Route,
    start: usize,
    length: usize,
    segment: usize,
    count: usize,
    /// A shorter datagram ended it.
    closed: bool,
}

pub struct Runs {
    bytes: Vec<u8>,
    used: usize,
    runs: Vec<Run>,
    /// Still in clear, all of one key.
    clear: Vec<Message>,
    key: Option<Key>,
}

impl Runs {
    pub fn new() -> Runs {
        Runs {
            bytes: vec![0; ROOM],
            used: 0,
            runs: Vec::with_capacity(256),
            clear: Vec::with_capacity(TOGETHER),
            key: None,
        }
    }

    /// Room for one datagram; it counts when `commit` follows.
    #[inline]
    pub fn room(&mut self, length: usize, shared: &Shared) -> &mut [u8] {
        if self.used + length > ROOM {
            self.flush(shared);
        }
        &mut self.bytes[self.used..self.used + length]
    }

    /// What was written there: header, text, and room for the tag.
    #[inline]
    pub fn commit(&mut self, length: usize, route: &Route, key: &Key, counter: u64) {
        let start = self.used;
        self.used += length;
        if self.clear.len() == TOGETHER || self.key.as_ref().is_none_or(|own| !own.same(key)) {
            self.seal();
            self.key = Some(key.clone());
        }
        self.clear.push(Message { counter, start: start + HEADER, length: length - OVERHEAD });
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

    fn seal(&mut self) {
        if let Some(key) = &self.key {
            key.seal_many(&mut self.bytes, &self.clear);
        }
        self.clear.clear();
    }

    pub fn flush(&mut self, shared: &Shared) {
        self.seal();
        self.key = None;
        for run in &self.runs {
            let bytes = &self.bytes[run.start..run.start + run.length];
            let Some(socket) = shared.socket(run.route.destination.family) else {
                shared.counters().add(Counter::NoSocket, run.count as u64);
                continue;
            };
            if run.count == 1 || shared.segment.load(Relaxed) {
                shared.count(Counter::UdpSends);
                match transmit(shared, socket, &run.route, bytes, run.segment) {
                    Ok(()) => continue,
                    Err(_) if run.count == 1 => {
                        shared.count(Counter::SendFailed);
                        continue;
                    }
                    Err(error) => degrade(shared, &error),
                }
            }
            for datagram in bytes.chunks(run.segment) {
                shared.count(Counter::UdpSends);
                if transmit(shared, socket, &run.route, datagram, 0).is_err() {
                    shared.count(Counter::SendFailed);
                }
            }
        }
        self.runs.clear();
        self.used = 0;
    }
}

/// An address of ours that is gone must not silence the peers who wrote to it: the kernel chooses another.
#[inline]
fn transmit(shared: &Shared, socket: i32, route: &Route, bytes: &[u8], segment: usize) -> io::Result<()> {
    match send(socket, route, bytes, segment) {
        Err(error) if route.source.family != 0 => {
            let any = Route { source: Endpoint::NONE, ..*route };
            send(socket, &any, bytes, segment).map_err(|_| error)?;
            shared.forget_source(&route.source);
            Ok(())
        }
        other => other,
    }
}

/// A run was refused: its datagrams go one by one. EIO says that the way out has no checksum offload (udp(7)), which
/// will be so for the next run too; EINVAL and EMSGSIZE say that a segment does not fit the path, which passes.
fn degrade(shared: &Shared, error: &io::Error) {
    shared.count(Counter::SegmentFallback);
    if error.raw_os_error() == Some(libc::EIO) {
        shared.segment.store(false, Relaxed);
    }
}
