//! The control thread: the keeper's connection, what packet threads have to say, and the supervisor's orders.

use super::kind::Kind;
use super::notice::{Notice, PERIOD};
use super::shared::{Errand, Shared};
use crate::channel;
use pellicle_net::{accept, clock, wait};
use pellicle_proto::event;
use pellicle_proto::frame::Deframer;
use pellicle_proto::request::Request;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::Ordering::SeqCst;

/// Notices to a keeper that does not read stay where they are beyond this: handshakes in a queue that drops and counts,
/// activity in its bits. Nothing that was taken is dropped.
const PATIENCE: usize = 1 << 20;

struct Keeper {
    stream: UnixStream,
    frames: Deframer,
    out: Vec<u8>,
}

pub struct Control<'a, K: Kind> {
    shared: &'a Shared<K>,
    listener: RawFd,
    channel: RawFd,
    keeper: Option<Keeper>,
    /// Sockets that the supervisor replaced the first ones by.
    sockets: Vec<OwnedFd>,
    reported: u64,
    reminded: u64,
}

impl<'a, K: Kind> Control<'a, K> {
    pub fn new(shared: &'a Shared<K>, listener: RawFd, channel: RawFd, sockets: Vec<OwnedFd>) -> Control<'a, K> {
        Control { shared, listener, channel, keeper: None, sockets, reported: 0, reminded: 0 }
    }

    /// Until the supervisor says stop, or is gone.
    pub fn run(&mut self) {
        let shared = self.shared;
        while !shared.stop.load(SeqCst) {
            let (stream, events) = match &self.keeper {
                Some(keeper) if keeper.out.is_empty() => (keeper.stream.as_raw_fd(), libc::POLLIN),
                Some(keeper) => (keeper.stream.as_raw_fd(), libc::POLLIN | libc::POLLOUT),
                None => (-1, 0),
            };
            let entry = |fd, events| libc::pollfd { fd, events, revents: 0 };
            let mut polled = [
                entry(self.channel, libc::POLLIN),
                entry(self.listener, libc::POLLIN),
                entry(shared.notices.event.fd(), libc::POLLIN),
                entry(stream, events),
                entry(shared.links.wanted.fd(), libc::POLLIN),
            ];
            let timeout = self.timeout(clock::now());
            if wait::poll(&mut polled, timeout).is_err() {
                continue;
            }
            let [channel, listener, event, stream, link] = polled.map(|entry| entry.revents != 0);
            if channel {
                self.supervisor();
            }
            if stream {
                self.requests();
            }
            if listener {
                self.accept();
            }
            if event {
                shared.notices.event.clear();
            }
            if link {
                shared.links.resolve();
            }
            self.notices();
            self.report(clock::now());
            let behind = !self.listens();
            self.flush();
            if behind && self.listens() {
                shared.notices.event.notify();
            }
        }
    }

    /// Nothing to look after: no timeout.
    fn timeout(&self, now: u64) -> Option<u32> {
        let shared = self.shared;
        let until = |last: u64| ((last + PERIOD).saturating_sub(now) / 1_000_000 + 1) as u32;
        let activity = (shared.notices.alerted() && self.listens()).then(|| until(self.reported));
        let waiting = (shared.errands.waiting.load(SeqCst) > 0).then(|| until(self.reminded));
        activity.into_iter().chain(waiting).min()
    }

    fn report(&mut self, now: u64) {
        let shared = self.shared;
        if shared.notices.alerted() && now.saturating_sub(self.reported) >= PERIOD && self.listens() {
            let peers = shared.notices.take_dirty();
            if !peers.is_empty() {
                self.reported = now;
                let changes: Vec<_> = peers.iter().map(|peer| (*peer, shared.state.activity(*peer))).collect();
                self.say(|out| event::activity(out, &changes));
            }
        }
        if shared.errands.waiting.load(SeqCst) > 0 && now.saturating_sub(self.reminded) >= PERIOD {
            self.reminded = now;
            shared.ask(Errand::Remind);
        }
    }

    /// False while there is a keeper that has enough to read.
    fn listens(&self) -> bool {
        self.keeper.as_ref().is_none_or(|keeper| keeper.out.len() < PATIENCE)
    }

    fn say(&mut self, frame: impl FnOnce(&mut Vec<u8>)) {
        if let Some(keeper) = &mut self.keeper {
            frame(&mut keeper.out);
        }
    }

    fn notices(&mut self) {
        // Without a keeper handshakes stay where they are, for the next one.
        let mut left = 4096;
        while left > 0 {
            // comes back when there is one, or when it has read
            if self.keeper.is_none() || !self.listens() {
                return;
            }
            let Some(notice) = self.shared.notices.pop() else { return };
            left -= 1;
            match notice {
                Notice::Handshake(message) => self.say(|out| {
                    let bytes = &message.bytes[..message.length];
                    event::handshake(out, &message.source, &message.destination, message.ecn, bytes);
                }),
                Notice::Wanted(peer, reason) => self.say(|out| event::wanted(out, peer, reason)),
                Notice::Confirmed(peer, local) => {
                    K::confirmed(self.shared, peer);
                    self.say(|out| event::confirmed(out, peer, local));
                }
                Notice::Moved(peer, endpoint) => self.say(|out| event::moved(out, peer, &endpoint)),
                // not of who had the slot before
                Notice::Heard(peer) if self.shared.state.activity(peer).last_authenticated == 0 => {}
                Notice::Heard(peer) => self.say(|out| event::heard(out, peer)),
            }
        }
        self.shared.notices.event.notify();
    }

    fn accept(&mut self) {
        let Ok(stream) = accept(self.listener) else { return };
        let mut out = Vec::new();
        let shared = self.shared;
        event::hello(
            &mut out,
            &shared.state.instance(),
            std::process::id(),
            shared.state.max_peers() as u32,
            concat!("pellicle-engine ", env!("CARGO_PKG_VERSION")),
        );
        self.keeper = Some(Keeper { stream, frames: Deframer::default(), out });
    }

    fn requests(&mut self) {
        let shared = self.shared;
        let Some(keeper) = &mut self.keeper else { return };
        let mut bytes = vec![0; 1 << 16];
        let alive = match keeper.stream.read(&mut bytes) {
            Ok(0) => false,
            Ok(length) => {
                keeper.frames.push(&bytes[..length]);
                bytes.fill(0);
                loop {
                    match keeper.frames.frame() {
                        Ok(Some((kind, body))) => K::carry_out(shared, &Request::decode(kind, body), &mut keeper.out),
                        Ok(None) => break true,
                        Err(_) => {
                            say!("level=warning msg=\"the keeper sent no frame; its connection is closed\"");
                            break false;
                        }
                    }
                }
            }
            Err(error) => matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted),
        };
        if !alive {
            self.keeper = None;
        }
    }

    fn flush(&mut self) {
        let Some(keeper) = &mut self.keeper else { return };
        while !keeper.out.is_empty() {
            match keeper.stream.write(&keeper.out) {
                Ok(written) => drop(keeper.out.drain(..written)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => {
                    self.keeper = None;
                    return;
                }
            }
        }
    }

    fn supervisor(&mut self) {
        let shared = self.shared;
        match channel::receive(self.channel) {
            Ok(Some(message)) if message.text["op"] == "sockets" => {
                self.replace_sockets(message);
                channel::answer(self.channel, "sockets");
            }
            Ok(Some(message)) if message.text["op"] == "mtu" => {
                shared.mtu.store(message.text["mtu"].as_u64().unwrap_or(1420) as u32, SeqCst);
                shared.epochs.synchronise();
                channel::answer(self.channel, "mtu");
            }
            Ok(Some(message)) if message.text["op"] == "mark" => {
                shared.links.set_mark(message.text["mark"].as_u64().unwrap_or(0) as u32);
                channel::answer(self.channel, "mark");
            }
            Ok(Some(_)) => self.stop(),
            Ok(None) | Err(_) => self.stop(),
        }
    }

    fn stop(&self) {
        self.shared.stop.store(true, SeqCst);
        self.shared.wake_outbound.notify();
        self.shared.wake_inbound.notify();
    }

    fn replace_sockets(&mut self, message: channel::Message) {
        let shared = self.shared;
        for (names, current) in [(channel::UDP, &shared.udp), (channel::RAW, &shared.raw)] {
            for (fd, current) in channel::sockets(&message, names).into_iter().zip(current) {
                current.store(fd, SeqCst);
            }
        }
        shared.wake_inbound.notify();
        shared.epochs.synchronise();
        // the old ones close here, when no batch uses them any more
        self.sockets = message.fds;
    }
}

#[cfg(test)]
mod tests {
    use super::super::ipsec::Memory;
    use super::*;
    use pellicle_net::memory::{Mapping, create};

    #[test]
    fn who_had_the_slot_before_was_not_heard() {
        let file = create(c"pellicle-test", Memory::size(2)).expect("shared memory");
        let memory = Memory::format(Mapping::new(&file).expect("a mapping"), 2, [1; 16]);
        memory.peers()[1].last_authenticated.store(7, SeqCst);
        let shared = Shared::new(memory, -1, [-1, -1], 1420, false, false).expect("shared");
        let mut control = Control::new(&shared, -1, -1, Vec::new());
        let (stream, _other) = UnixStream::pair().expect("a pair");
        control.keeper = Some(Keeper { stream, frames: Deframer::default(), out: Vec::new() });
        // both were heard, and then slot 0 was emptied for another
        (0..2).for_each(|peer| assert!(shared.notices.push(Notice::Heard(peer))));
        control.notices();
        let mut expected = Vec::new();
        event::heard(&mut expected, 1);
        assert_eq!(control.keeper.map(|keeper| keeper.out), Some(expected));
    }
}
