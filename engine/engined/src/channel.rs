//! Between the supervisor and an engine, or an old supervisor and a new one: JSON with descriptors, a message each.
//! Both ends are of one binary's making; what is said is small.

use pellicle_net::rights;
use serde_json::{Value, json};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

pub struct Message {
    pub text: Value,
    pub fds: Vec<OwnedFd>,
}

pub fn send(socket: RawFd, text: &Value, fds: &[RawFd]) -> io::Result<()> {
    rights::send(socket, text.to_string().as_bytes(), fds)
}

/// `None` when the other end is gone.
pub fn receive(socket: RawFd) -> io::Result<Option<Message>> {
    let mut bytes = vec![0; 1 << 16];
    let (length, fds) = rights::receive(socket, &mut bytes)?;
    if length == 0 {
        return Ok(None);
    }
    let text = serde_json::from_slice(&bytes[..length]).map_err(io::Error::other)?;
    Ok(Some(Message { text, fds }))
}

/// What the engine says when its device was deleted.
pub const GONE: &str = "gone";

/// Says that what was asked holds. A supervisor that is gone hears nothing, and that shows elsewhere.
pub fn answer(socket: RawFd, done: &str) {
    let _ = send(socket, &json!({ "done": done }), &[]);
}

/// What a message calls its UDP sockets for IPv4 and IPv6, and those of IP protocol 50.
pub const UDP: [&str; 2] = ["udp4", "udp6"];
pub const RAW: [&str; 2] = ["esp4", "esp6"];
/// A packet socket, and what tells by which link: to ask by, to hear changes by.
pub const LINK: [&str; 3] = ["packet", "routes", "changes"];

/// −1 where there is none.
pub fn sockets<const N: usize>(message: &Message, names: [&str; N]) -> [RawFd; N] {
    socket_places(message, names).map(|place| place.map_or(-1, |index| message.fds[index].as_raw_fd()))
}

/// Which of the message's descriptors those are.
pub fn socket_places<const N: usize>(message: &Message, names: [&str; N]) -> [Option<usize>; N] {
    names
        .map(|name| message.text[name].as_u64().map(|index| index as usize))
        .map(|place| place.filter(|index| *index < message.fds.len()))
}
