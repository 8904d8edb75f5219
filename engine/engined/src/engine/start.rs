//! The engine's beginning: descriptors from the supervisor, then no rights, then packets.

use super::control::Control;
use super::counters::Counter;
use super::ipsec::Memory;
use super::kind::Kind;
use super::links::Links;
use super::shared::Shared;
use super::state::State;
use crate::channel;
use pellicle_net::memory::Mapping;
use pellicle_net::{privilege, seccomp};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Barrier;
use std::sync::atomic::AtomicI32;

/// Where the supervisor's channel lies in a new engine.
pub const CHANNEL: RawFd = 3;

/// Runs until the supervisor stops it. Everything that can fail for a lack of rights happens before the first packet.
pub fn run() -> io::Result<()> {
    let parent = privilege::parent();
    let message = channel::receive(CHANNEL)?.ok_or_else(|| io::Error::other("the supervisor is gone"))?;
    if message.text["kind"] == "ipsec" { serve::<Memory>(message, parent) } else { serve::<State>(message, parent) }
}

fn serve<K: Kind>(mut message: channel::Message, parent: i32) -> io::Result<()> {
    let text = &message.text;
    let number = |name: &str| text[name].as_u64().unwrap_or(0) as u32;
    let [memory, listener, tun, ..] = message.fds.as_slice() else {
        return Err(io::Error::other("the supervisor sent too few descriptors"));
    };
    let (udp, raw) = (channel::sockets(&message, channel::UDP), channel::sockets(&message, channel::RAW));
    let state = K::attach(Mapping::new(memory)?).ok_or_else(|| {
        io::Error::other(
            "the shared memory has another layout: end the supervisor and start it anew, sessions are made again",
        )
    })?;
    state.repair();
    let flag = |name: &str| text[name].as_bool().unwrap_or(false);
    let (tun_udp, segment) = (flag("tunUdp"), flag("segment"));
    let mut shared = Shared::new(state, tun.as_raw_fd(), udp, number("mtu"), tun_udp, segment)?;
    shared.plain = flag("tunPlain");
    shared.raw = raw.map(AtomicI32::new);
    shared.links = Links::new(channel::sockets(&message, channel::LINK), number("mark"), number("hops") as u8)?;
    let shared = shared;
    shared.count(Counter::EngineStarts);
    let (listener, tun) = (listener.as_raw_fd(), tun.as_raw_fd());
    // the control thread closes them when it gets others: their port must be free again
    let kept = 3 + channel::socket_places(&message, channel::LINK).iter().flatten().count();
    let mut control = Control::new(&shared, listener, CHANNEL, message.fds.split_off(kept));
    privilege::drop_all(number("user"), number("group"))?;
    privilege::die_with(parent, libc::SIGKILL)?;
    let ready = Barrier::new(3);
    std::thread::scope(|scope| {
        let spawn = |name: &str| std::thread::Builder::new().name(name.into()).stack_size(256 << 10);
        spawn("outbound").spawn_scoped(scope, || {
            ready.wait();
            ready.wait();
            K::outbound(&shared);
        })?;
        spawn("inbound").spawn_scoped(scope, || {
            ready.wait();
            ready.wait();
            K::inbound(&shared);
        })?;
        // Only when both threads run: what the C library does to start them is not on the list.
        ready.wait();
        let filtered = seccomp::install();
        if filtered.is_err() {
            shared.stop.store(true, std::sync::atomic::Ordering::SeqCst);
        }
        ready.wait();
        filtered?;
        channel::answer(CHANNEL, "start");
        control.run();
        Ok::<(), io::Error>(())
    })?;
    // Both packet threads are at the barrier: nothing is read or sent any more.
    let _ = tun;
    channel::answer(CHANNEL, "stop");
    Ok(())
}
