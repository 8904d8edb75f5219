//! Somebody at `supervisor.sock`: a line in, a line out.

use serde_json::{Value, json};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;

const LONGEST: usize = 1 << 16;

pub struct Connection {
    pub number: u64,
    pub stream: UnixStream,
    input: Vec<u8>,
    out: Vec<u8>,
    pub closed: bool,
}

impl Connection {
    pub fn new(number: u64, stream: UnixStream) -> Connection {
        Connection { number, stream, input: Vec::new(), out: Vec::new(), closed: false }
    }

    pub fn wants_to_write(&self) -> bool {
        !self.out.is_empty()
    }

    /// The requests that are whole.
    pub fn read(&mut self) -> Vec<Value> {
        let mut bytes = [0; 4096];
        loop {
            match self.stream.read(&mut bytes) {
                Ok(0) => self.closed = true,
                Ok(length) => {
                    self.input.extend_from_slice(&bytes[..length]);
                    if self.input.len() <= LONGEST {
                        continue;
                    }
                    self.closed = true;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => self.closed = true,
            }
            break;
        }
        let mut requests = Vec::new();
        while let Some(end) = self.input.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.input.drain(..=end).collect();
            match serde_json::from_slice(&line) {
                Ok(request) => requests.push(request),
                Err(_) => self.say(&json!({ "id": null, "ok": false, "code": "request.malformed",
                    "message": "the line is not JSON", "remedy": "one JSON object a line" })),
            }
        }
        requests
    }

    pub fn say(&mut self, answer: &Value) {
        self.out.extend_from_slice(answer.to_string().as_bytes());
        self.out.push(b'\n');
        self.write();
    }

    pub fn write(&mut self) {
        while !self.out.is_empty() {
            match self.stream.write(&self.out) {
                Ok(written) => drop(self.out.drain(..written)),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => {
                    self.closed = true;
                    return;
                }
            }
        }
    }
}
