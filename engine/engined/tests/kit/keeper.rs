//! A keeper that knows keys without a handshake: the frames of docs/protocol/engine.md written by hand.

use super::until;
use pellicle_proto::frame::Deframer;
use serde_json::Value;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

pub struct Keeper {
    path: PathBuf,
    stream: UnixStream,
    frames: Deframer,
    next: u32,
    pub instance: Vec<u8>,
    /// Frames that were no answer: (type, body).
    pub events: Vec<(u8, Vec<u8>)>,
}

pub fn endpoint(address: &str, port: u16) -> Vec<u8> {
    let (family, mut bytes) = match address.parse().expect("an address") {
        std::net::IpAddr::V4(four) => (4, four.octets().to_vec()),
        std::net::IpAddr::V6(six) => (6, six.octets().to_vec()),
    };
    bytes.resize(16, 0);
    [&[family][..], &port.to_le_bytes(), &[0; 4], &bytes].concat()
}

pub fn prefix(address: &str, length: u8) -> Vec<u8> {
    let endpoint = endpoint(address, 0);
    [&endpoint[..1], &[length], &endpoint[7..]].concat()
}

impl Keeper {
    pub fn connect(path: PathBuf) -> Keeper {
        let stream = until("engine.sock", || UnixStream::connect(&path).ok());
        stream.set_read_timeout(Some(Duration::from_millis(20))).expect("a timeout");
        let mut keeper =
            Keeper { path, stream, frames: Deframer::default(), next: 0, instance: Vec::new(), events: Vec::new() };
        until("HELLO", || keeper.read());
        let hello = keeper.events.remove(0);
        assert_eq!((hello.0, &hello.1[..2]), (1, &[1, 0][..]));
        keeper.instance = hello.1[2..18].to_vec();
        keeper
    }

    pub fn reconnect(&mut self) {
        *self = Keeper::connect(self.path.clone());
    }

    /// Takes what came; `None` when nothing did.
    fn read(&mut self) -> Option<()> {
        let mut bytes = [0; 65_536];
        match self.stream.read(&mut bytes) {
            Ok(0) => panic!("the engine closed the connection"),
            Ok(length) => self.frames.push(&bytes[..length]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(error) => panic!("engine.sock: {error}"),
        }
        while let Some((kind, body)) = self.frames.frame().expect("frames") {
            self.events.push((kind, body.to_vec()));
        }
        (!self.events.is_empty()).then_some(())
    }

    /// The answer's status and text.
    pub fn ask(&mut self, kind: u8, body: &[u8]) -> (u8, String) {
        self.next += 1;
        let request = self.next.to_le_bytes();
        let length = (body.len() as u32 + 5).to_le_bytes();
        self.stream.write_all(&[&length[..], &[kind], &request, body].concat()).expect("asked");
        let answer = until("an answer", || {
            let found = self.events.iter().position(|(kind, body)| *kind == 2 && body[..4] == request);
            if found.is_none() {
                self.read();
            }
            found
        });
        let (_, body) = self.events.remove(answer);
        (body[4], String::from_utf8(body[5..].to_vec()).expect("text"))
    }

    /// Asks for the same many times without waiting, then for the last answer.
    pub fn repeat(&mut self, kind: u8, body: &[u8], times: usize) {
        let length = (body.len() as u32 + 5).to_le_bytes();
        for _ in 1..times {
            self.stream.write_all(&[&length[..], &[kind], &[0; 4], body].concat()).expect("asked");
        }
        self.done(kind, body);
        self.events.retain(|(kind, _)| *kind != 2);
    }

    pub fn done(&mut self, kind: u8, body: &[u8]) {
        assert_eq!(self.ask(kind, body), (0, String::new()), "request {kind:x}");
    }

    /// Waits for an event of this type and takes it.
    pub fn event(&mut self, kind: u8) -> Vec<u8> {
        until(&format!("event {kind:x}"), || {
            let found = self.events.iter().position(|(found, _)| *found == kind);
            if found.is_none() {
                self.read();
            }
            found.map(|at| self.events.remove(at).1)
        })
    }

    /// All of them, as JSON.
    pub fn counters(&mut self) -> String {
        self.ask(0x89, &[]).1
    }

    pub fn counter(&mut self, name: &str) -> u64 {
        let text = self.counters();
        let value: Value = serde_json::from_str(&text).expect("JSON");
        value[name].as_u64().unwrap_or_else(|| panic!("no counter {name} in {text}"))
    }

    /// The next counter to send by of the current session.
    pub fn sent(&mut self) -> u64 {
        self.done(0x88, &[]);
        let sessions = self.events.iter().filter(|(kind, body)| *kind == 4 && body[17] == 1);
        let numbers: Vec<u64> =
            sessions.map(|(_, body)| u64::from_le_bytes(body[26..34].try_into().expect("8"))).collect();
        self.events.retain(|(kind, _)| !(3..=5).contains(kind));
        numbers.into_iter().next().expect("a current session")
    }

    pub fn set_peer(&mut self, address: &str, port: u16) {
        self.done(0x80, &[&7u32.to_le_bytes()[..], &[9; 32], &endpoint(address, port)].concat());
    }

    pub fn prefixes(&mut self, kind: u8, prefixes: &[Vec<u8>]) {
        let count = (prefixes.len() as u32).to_le_bytes();
        self.done(kind, &[&7u32.to_le_bytes()[..], &count, &prefixes.concat()].concat());
    }

    /// Side 0 sends by the key of `seed`, side 1 by that of `seed` + 1.
    pub fn set_session(&mut self, side: u8, place: u8, seed: u8) {
        let now = pellicle_net::clock::now();
        let index = |side: u8| (u32::from(seed) << 8 | u32::from(side)).to_le_bytes();
        let keys = [[seed + side; 32], [seed + 1 - side; 32]].concat();
        let body =
            [&7u32.to_le_bytes()[..], &[place, 1 + side], &index(side), &index(1 - side), &now.to_le_bytes(), &keys];
        self.done(0x84, &body.concat());
    }
}
