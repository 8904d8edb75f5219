//! What the engine tells the keeper (docs/protocol/engine.md, "Engine → keeper"). Every function appends one frame.

use crate::endpoint::{Endpoint, Outer};
use crate::frame::{begin, finish};
use crate::prefix::Prefix;
use crate::request::Direction;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Done = 0,
    NoSuchObject = 1,
    Full = 2,
    Malformed = 3,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Activity {
    pub first_unanswered: u64,
    pub first_unacknowledged: u64,
    pub last_sent: u64,
    pub last_received: u64,
    pub last_authenticated: u64,
    pub rx_bytes: u64,
    pub tx_bytes: u64,
}

impl Activity {
    fn encode(&self, out: &mut Vec<u8>) {
        for value in [
            self.first_unanswered,
            self.first_unacknowledged,
            self.last_sent,
            self.last_received,
            self.last_authenticated,
            self.rx_bytes,
            self.tx_bytes,
        ] {
            out.extend_from_slice(&value.to_le_bytes());
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    Waiting = 1,
    OldOnSending = 2,
    OldOnReceiving = 3,
}

pub struct SessionReport {
    pub peer: u32,
    pub local: u32,
    pub remote: u32,
    pub role: u8,
    pub place: u8,
    pub born: u64,
    pub sent: u64,
    pub received: u64,
}

pub struct AssociationReport {
    pub direction: Direction,
    pub peer: u32,
    pub spi: u32,
    /// Sent by UDP; of one to receive by: false.
    pub udp: bool,
    pub outer: Outer,
    pub algorithm: u8,
    pub icv: u8,
    pub fingerprint: [u8; 8],
    /// Out: the last one used; in: the highest accepted.
    pub sequence: u64,
    pub packets: u64,
    pub bytes: u64,
}

fn u32s(out: &mut Vec<u8>, values: &[u32]) {
    for value in values {
        out.extend_from_slice(&value.to_le_bytes());
    }
}

fn u64s(out: &mut Vec<u8>, values: &[u64]) {
    for value in values {
        out.extend_from_slice(&value.to_le_bytes());
    }
}

pub fn hello(out: &mut Vec<u8>, instance: &[u8; 16], pid: u32, max_peers: u32, version: &str) {
    let at = begin(out, 0x01);
    out.extend_from_slice(&1u16.to_le_bytes());
    out.extend_from_slice(instance);
    u32s(out, &[pid, max_peers]);
    out.extend_from_slice(version.as_bytes());
    finish(out, at);
}

pub fn reply(out: &mut Vec<u8>, request: u32, status: Status, text: &str) {
    let at = begin(out, 0x02);
    u32s(out, &[request]);
    out.push(status as u8);
    out.extend_from_slice(text.as_bytes());
    finish(out, at);
}

pub fn peer(
    out: &mut Vec<u8>,
    request: u32,
    peer: u32,
    public_key: &[u8; 32],
    endpoint: &Endpoint,
    activity: &Activity,
) {
    let at = begin(out, 0x03);
    u32s(out, &[request, peer]);
    out.extend_from_slice(public_key);
    endpoint.encode(out);
    u64s(out, &[activity.rx_bytes, activity.tx_bytes]);
    activity.encode(out);
    finish(out, at);
}

pub fn session(out: &mut Vec<u8>, request: u32, report: &SessionReport) {
    let at = begin(out, 0x04);
    u32s(out, &[request, report.peer, report.local, report.remote]);
    out.extend_from_slice(&[report.role, report.place]);
    u64s(out, &[report.born, report.sent, report.received]);
    finish(out, at);
}

pub fn allowed(out: &mut Vec<u8>, request: u32, peer: u32, prefixes: &[Prefix]) {
    let at = begin(out, 0x05);
    u32s(out, &[request, peer, prefixes.len() as u32]);
    for prefix in prefixes {
        prefix.encode(out);
    }
    finish(out, at);
}

pub fn handshake(out: &mut Vec<u8>, source: &Endpoint, destination: &Endpoint, ecn: u8, message: &[u8]) {
    let at = begin(out, 0x10);
    source.encode(out);
    destination.encode(out);
    out.push(ecn);
    out.extend_from_slice(message);
    finish(out, at);
}

pub fn wanted(out: &mut Vec<u8>, peer: u32, reason: Reason) {
    let at = begin(out, 0x11);
    u32s(out, &[peer]);
    out.push(reason as u8);
    finish(out, at);
}

pub fn confirmed(out: &mut Vec<u8>, peer: u32, local: u32) {
    let at = begin(out, 0x12);
    u32s(out, &[peer, local]);
    finish(out, at);
}

pub fn activity(out: &mut Vec<u8>, peers: &[(u32, Activity)]) {
    let at = begin(out, 0x13);
    u32s(out, &[peers.len() as u32]);
    for (peer, activity) in peers {
        u32s(out, &[*peer]);
        activity.encode(out);
    }
    finish(out, at);
}

pub fn moved(out: &mut Vec<u8>, peer: u32, endpoint: &Endpoint) {
    let at = begin(out, 0x14);
    u32s(out, &[peer]);
    endpoint.encode(out);
    finish(out, at);
}

pub fn association(out: &mut Vec<u8>, request: u32, report: &AssociationReport) {
    let at = begin(out, 0x06);
    u32s(out, &[request]);
    out.push(report.direction as u8);
    u32s(out, &[report.peer, report.spi]);
    out.push(report.udp.into());
    report.outer.encode(out);
    out.extend_from_slice(&[report.algorithm, report.icv]);
    out.extend_from_slice(&report.fingerprint);
    u64s(out, &[report.sequence, report.packets, report.bytes]);
    finish(out, at);
}

pub fn heard(out: &mut Vec<u8>, peer: u32) {
    let at = begin(out, 0x15);
    u32s(out, &[peer]);
    finish(out, at);
}
