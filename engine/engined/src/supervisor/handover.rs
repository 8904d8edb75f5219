//! From an old supervisor to a new one: engines stopped at a barrier, then every descriptor changes hands. The very
//! same queues and sockets go on, so what waits in them is not lost; requests to `supervisor.sock` wait meanwhile.

use super::device::Device;
use super::inherited::readable;
use super::options::Options;
use super::paths::{private_folder, random};
use super::run::Supervisor;
use super::settings::Settings;
use super::sockets::{Features, Sockets};
use crate::channel;
use pellicle_net::{rights, wait};
use serde_json::json;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

const PATIENCE: u32 = 5000;

/// The old one's part: true when the new one has everything and we are to end without removing anything.
pub fn give(supervisor: &mut Supervisor, stream: &UnixStream, id: &serde_json::Value) -> io::Result<bool> {
    let (ours, theirs) = rights::pair()?;
    for device in &mut supervisor.devices {
        device.stop_keeper();
        device.stop_engine();
    }
    let mut line = json!({ "id": id, "ok": true }).to_string();
    line.push('\n');
    let done = rights::send(stream.as_raw_fd(), line.as_bytes(), &[theirs.as_raw_fd()])
        .and_then(|()| {
            channel::send(ours.as_raw_fd(), &json!({ "listener": true }), &[supervisor.listener.as_raw_fd()])
        })
        .and_then(|()| supervisor.devices.iter().try_for_each(|device| give_device(&ours, device)))
        .and_then(|()| channel::send(ours.as_raw_fd(), &json!({ "end": true }), &[]));
    drop(theirs);
    let taken = done.is_ok()
        && matches!(wait::readable([ours.as_raw_fd()], Some(PATIENCE)), Ok([true]))
        && matches!(channel::receive(ours.as_raw_fd()), Ok(Some(message)) if message.text["done"] == "taken");
    if !taken {
        say!("level=error msg=\"the new supervisor did not take over; going on\"");
        for device in &mut supervisor.devices {
            device.engine.due = Some(0);
            device.keeper.due = Some(0);
        }
    }
    Ok(taken)
}

fn give_device(socket: &OwnedFd, device: &Device) -> io::Result<()> {
    let mut text = json!({ "device": device.settings.json(), "features": device.features.json(), "maxPeers": device.max_peers, "kept": device.kept });
    let mut fds = vec![device.memory.as_raw_fd(), device.listener.as_raw_fd(), device.tun.as_raw_fd()];
    device.sockets.add_to(&mut text, &mut fds);
    channel::send(socket.as_raw_fd(), &text, &fds)
}

/// What a new supervisor got: the listening socket and the devices.
pub struct Inheritance {
    pub listener: OwnedFd,
    pub devices: Vec<Device>,
    from: OwnedFd,
}

impl Inheritance {
    /// From here on it is ours: the old one ends. An error when that has given up waiting, and goes on: two engines must
    /// not work on one memory.
    pub fn confirm(&self) -> io::Result<()> {
        channel::send(self.from.as_raw_fd(), &json!({ "done": "taken" }), &[])
            .map_err(|error| io::Error::other(format!("the old supervisor did not wait and goes on: {error}")))?;
        // its end is the end of the connection
        let _ = wait::readable([self.from.as_raw_fd()], Some(PATIENCE));
        Ok(())
    }
}

/// The new one's part; `None` when no supervisor answers there.
pub fn take(options: &Options) -> io::Result<Option<Inheritance>> {
    private_folder(&options.run_dir).map_err(|fault| io::Error::other(fault.text()))?;
    let Ok(mut stream) = UnixStream::connect(options.run_dir.join("supervisor.sock")) else { return Ok(None) };
    stream.set_read_timeout(Some(Duration::from_millis(u64::from(PATIENCE) * 2)))?;
    stream.write_all(b"{\"id\":0,\"op\":\"handover\"}\n")?;
    let mut answer = [0; 4096];
    let (length, mut fds) = rights::receive(stream.as_raw_fd(), &mut answer)?;
    let from = fds.pop().ok_or_else(|| {
        io::Error::other(format!("the old supervisor refused: {}", String::from_utf8_lossy(&answer[..length]).trim()))
    })?;
    let (mut listener, mut devices) = (None, Vec::new());
    while let Some(mut message) = channel::receive(from.as_raw_fd())? {
        if message.text["listener"] == true {
            listener = message.fds.pop();
        } else if message.text["end"] == true {
            let listener = listener.ok_or_else(|| io::Error::other("the old supervisor gave no listening socket"))?;
            return Ok(Some(Inheritance { listener, devices, from }));
        } else {
            devices.push(take_device(message)?);
        }
    }
    Err(io::Error::other("the old supervisor ended in the middle of the hand-over"))
}

fn take_device(message: channel::Message) -> io::Result<Device> {
    let bad = || io::Error::other("the old supervisor gave an incomplete device");
    let settings = Settings::parse(&message.text["device"]).map_err(|fault| io::Error::other(fault.message))?;
    let names = [channel::UDP, channel::RAW];
    let places = names.map(|names| channel::socket_places(&message, names));
    let features = Features::parse(&message.text["features"]);
    let kept = message.text["kept"].as_bool().unwrap_or(false);
    let max_peers = message.text["maxPeers"].as_u64().ok_or_else(bad)? as u32;
    let mut fds: Vec<Option<OwnedFd>> = message.fds.into_iter().map(Some).collect();
    let [udp, raw] = places.map(|places| places.map(|place| place.and_then(|index| fds[index].take())));
    let mut next = fds.into_iter().flatten();
    let (memory, listener, tun) =
        (next.next().ok_or_else(bad)?, next.next().ok_or_else(bad)?, next.next().ok_or_else(bad)?);
    let (memory, same) = readable(memory, settings.kind, max_peers, random()?, &settings.name)?;
    let mut device = Device::adopt(settings, tun, Sockets { udp, raw }, memory, listener, features, max_peers);
    device.kept = kept && same;
    device.lock_keys()?;
    Ok(device)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inheritance() -> (Inheritance, OwnedFd) {
        let (from, old) = rights::pair().expect("a pair");
        let (listener, _) = rights::pair().expect("a pair");
        (Inheritance { listener, devices: Vec::new(), from }, old)
    }

    #[test]
    fn nothing_is_taken_from_who_goes_on() {
        let (inheritance, old) = inheritance();
        drop(old);
        assert!(inheritance.confirm().is_err());
    }

    #[test]
    fn who_waits_hears_that_it_was_taken() {
        let (inheritance, old) = inheritance();
        let hears = std::thread::spawn(move || channel::receive(old.as_raw_fd()).expect("a message"));
        inheritance.confirm().expect("heard");
        assert!(hears.join().expect("hears").is_some_and(|message| message.text["done"] == "taken"));
    }
}
