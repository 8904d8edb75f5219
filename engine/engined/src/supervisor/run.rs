//! The poll loop.

use super::alone::Alone;
use super::connection::Connection;
use super::device::Device;
use super::fault::Fault;
use super::handover;
use super::operations::{self, Answer};
use super::options::Options;
use super::paths::{listen, private_folder};
use super::signals::{Signals, reap};
use pellicle_net::{accept, clock, wait};
use serde_json::{Value, json};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

/// How often a keeper that does not answer yet is tried, in milliseconds.
const PROBE: u64 = 10;
const NANOS: u64 = 1_000_000;
/// A device that is not ready after so long is told as failed; it is kept and tried on.
const PATIENCE: u64 = 30_000 * NANOS;

pub struct Supervisor {
    /// Alone for one device, as a program that replaces wireguard-go.
    pub alone: Option<Alone>,
    pub options: Options,
    pub devices: Vec<Device>,
    pub listener: OwnedFd,
    connections: Vec<Connection>,
    pending: Vec<Pending>,
    next: u64,
}

/// An answer that waits for a device.
struct Pending {
    connection: u64,
    id: Value,
    device: String,
    until: u64,
}

pub fn run(arguments: &[String]) -> Result<(), String> {
    let options = Options::parse(arguments)?;
    let signals = Signals::new().map_err(|error| error.to_string())?;
    let mut supervisor = begin(options)?;
    for wanted in supervisor.options.devices.clone() {
        operations::add(&mut supervisor, &wanted, true).map_err(|fault| fault.text())?;
    }
    say!("level=info msg=\"supervising\" pid={} devices={}", std::process::id(), supervisor.devices.len());
    if !supervisor.serve(&signals) || !supervisor.options.linger {
        return Ok(());
    }
    drop(supervisor);
    // a process image of its own: no key and no descriptor stays in what only waits
    let error = Command::new("/proc/self/exe").arg("rest").exec();
    Err(format!("cannot rest after the hand-over: {error}"))
}

/// After a hand-over: waits to be ended. Kubernetes starts a container again that ends by itself, and that one would
/// take everything back from its successor.
pub fn rest() -> Result<(), String> {
    let signals = Signals::new().map_err(|error| error.to_string())?;
    say!("level=info msg=\"handed over; resting\"");
    loop {
        while reap().is_some() {}
        let _ = wait::readable([signals.fd()], None);
        if signals.told_to_end() {
            return Ok(());
        }
    }
}

pub fn begin(options: Options) -> Result<Supervisor, String> {
    let text = |error: std::io::Error| error.to_string();
    let path = options.run_dir.join("supervisor.sock");
    let inheritance = if options.take_over { handover::take(&options).map_err(text)? } else { None };
    let (listener, devices) = match inheritance {
        Some(inheritance) => {
            inheritance.confirm().map_err(text)?;
            say!("level=info msg=\"took over\" devices={}", inheritance.devices.len());
            (inheritance.listener, inheritance.devices)
        }
        None => {
            private_folder(&options.run_dir).map_err(|fault| fault.text())?;
            if std::os::unix::net::UnixStream::connect(&path).is_ok() {
                return Err(format!("a supervisor answers at {} already: --take-over replaces it", path.display()));
            }
            (listen(&path).map_err(|fault| fault.text())?, Vec::new())
        }
    };
    Ok(Supervisor { alone: None, options, devices, listener, connections: Vec::new(), pending: Vec::new(), next: 0 })
}

impl Supervisor {
    /// Until a signal ends it, or a successor: then true.
    pub fn serve(&mut self, signals: &Signals) -> bool {
        loop {
            let now = clock::now();
            for device in &mut self.devices {
                device.start_due(&self.options, now);
            }
            let probing = self.probe();
            self.answer_pending(now);
            if self.alone.as_mut().is_some_and(|alone| !alone.look(&self.devices)) {
                self.end();
                return false;
            }
            let mut polled = self.polled(signals);
            if wait::poll(&mut polled, self.timeout(clock::now(), probing)).is_err() {
                continue;
            }
            let ready: Vec<bool> = polled.iter().map(|entry| entry.revents != 0).collect();
            if ready[0] {
                if signals.told_to_end() {
                    self.end();
                    return false;
                }
                let now = clock::now();
                while let Some((pid, how)) = reap() {
                    self.devices.iter_mut().any(|device| device.ended(pid, &how, now));
                }
            }
            if ready[1] {
                while let Ok(stream) = accept(self.listener.as_raw_fd()) {
                    self.next += 1;
                    self.connections.push(Connection::new(self.next, stream));
                }
            }
            for (device, ready) in self.devices.iter_mut().zip(&ready[2..]) {
                if *ready && device.channel_fd() >= 0 {
                    device.hear();
                }
            }
            if self.talk() {
                return true;
            }
        }
    }

    fn polled(&self, signals: &Signals) -> Vec<libc::pollfd> {
        let entry = |fd, events| libc::pollfd { fd, events, revents: 0 };
        let mut polled = vec![entry(signals.fd(), libc::POLLIN), entry(self.listener.as_raw_fd(), libc::POLLIN)];
        polled.extend(self.devices.iter().map(|device| entry(device.channel_fd(), libc::POLLIN)));
        polled.extend(self.connections.iter().map(|connection| {
            let events = if connection.wants_to_write() { libc::POLLIN | libc::POLLOUT } else { libc::POLLIN };
            entry(connection.stream.as_raw_fd(), events)
        }));
        if let Some(alone) = &self.alone {
            polled.push(alone.polled());
        }
        polled
    }

    fn timeout(&self, now: u64, probing: bool) -> Option<u32> {
        let dues = self.devices.iter().flat_map(|device| [device.engine.due, device.keeper.due]).flatten();
        let dues = dues.chain(self.pending.iter().map(|pending| pending.until));
        let due = dues.map(|due| due.saturating_sub(now).div_ceil(NANOS)).min();
        due.into_iter().chain(probing.then_some(PROBE)).min().map(|time| time as u32)
    }

    fn probe(&mut self) -> bool {
        let mut again = false;
        for device in &mut self.devices {
            again |= device.probe_keeper(&self.options);
        }
        again
    }

    /// Reads requests and answers them; true when a successor has taken over.
    fn talk(&mut self) -> bool {
        let mut requests = Vec::new();
        for connection in &mut self.connections {
            connection.write();
            requests.extend(connection.read().into_iter().map(|request| (connection.number, request)));
        }
        for (number, request) in requests {
            let mut answer = match operations::carry_out(self, &request) {
                Ok(Answer::Now(answer)) => answer,
                Err(fault) => fault.json(),
                Ok(Answer::WhenReady(device)) => {
                    let until = clock::now() + PATIENCE;
                    self.pending.push(Pending { connection: number, id: request["id"].clone(), device, until });
                    continue;
                }
                Ok(Answer::HandOver) => {
                    let Some(at) = self.connections.iter().position(|connection| connection.number == number) else {
                        continue;
                    };
                    let connection = self.connections.remove(at);
                    let _ = connection.stream.set_nonblocking(false);
                    match handover::give(self, &connection.stream, &request["id"]) {
                        Ok(true) => return true,
                        Ok(false) | Err(_) => continue,
                    }
                }
            };
            answer["id"] = request["id"].clone();
            self.say(number, &answer);
        }
        self.connections.retain(|connection| !connection.closed);
        false
    }

    fn say(&mut self, number: u64, answer: &Value) {
        if let Some(connection) = self.connections.iter_mut().find(|connection| connection.number == number) {
            connection.say(answer);
        }
    }

    fn answer_pending(&mut self, now: u64) {
        let pending = std::mem::take(&mut self.pending);
        for entry in pending {
            let device = self.devices.iter().find(|device| device.settings.name == entry.device);
            let mut answer = match device {
                Some(device) if device.ready() => json!({ "ok": true, "listenPort": device.settings.port }),
                Some(_) if now < entry.until => {
                    self.pending.push(entry);
                    continue;
                }
                Some(_) => Fault::new(
                    "keeper.silent",
                    format!("engine or keeper of {} do not answer", entry.device),
                    "look at the log of the supervisor; they are started on and on",
                )
                .json(),
                None => Fault::new("device.unknown", format!("{} was removed meanwhile", entry.device), "add it again")
                    .json(),
            };
            answer["id"] = entry.id;
            self.say(entry.connection, &answer);
        }
    }

    /// Told to end: children end, devices go.
    fn end(&mut self) {
        for device in std::mem::take(&mut self.devices) {
            device.remove(&self.options);
        }
        let _ = std::fs::remove_file(self.options.run_dir.join("supervisor.sock"));
    }
}
