//! One device: what the supervisor holds for it, and the two processes that use it.

use super::child::Child;
use super::fault::Fault;
use super::given::{ControlSocket, Queue};
use super::kind::Kind;
use super::left::{MEMORY, erase_files, memory, open_after};
use super::options::Options;
use super::paths::{listen, private_folder, random};
use super::settings::Settings;
use super::sockets::{Features, Link, Sockets, bind, forbid_fragments, open_link};
use crate::channel;
use crate::engine::start::CHANNEL;
use pellicle_net::memory::Mapping;
use pellicle_net::{clock, privilege, rights, tun, udp, wait};
use serde_json::{Value, json};
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::process::Command;

/// How long an engine may take to come to a barrier.
const PATIENCE: u32 = 2000;
/// Where the control socket lies in a keeper that inherits it.
const KEEPER_CONTROL: RawFd = 3;

pub struct Device {
    pub settings: Settings,
    pub tun: OwnedFd,
    pub sockets: Sockets,
    /// Not handed over: nothing waits in it.
    link: Option<Link>,
    pub memory: OwnedFd,
    /// Memory and TUN device outlive even this process: whoever is started next goes on with them.
    pub kept: bool,
    /// Of that, with the keys kept out of swap.
    locked: Option<Mapping>,
    pub listener: OwnedFd,
    pub features: Features,
    pub max_peers: u32,
    pub engine: Child,
    pub keeper: Child,
    /// Our end of the engine's channel.
    channel: Option<OwnedFd>,
    engine_ready: bool,
    keeper_ready: bool,
    probe: Option<UnixStream>,
    pub control: Option<ControlSocket>,
    /// Somebody deleted the TUN device.
    pub gone: bool,
}

impl Device {
    /// Opens everything. What fails leaves nothing behind.
    pub fn open(settings: &Settings, options: &Options, up: bool) -> Result<Device, Fault> {
        Device::with(settings, options, true, || {
            let name = &settings.name;
            let (queue, offload) = tun::open(name).map_err(|error| Fault::system("the TUN device", &error))?;
            tun::set_mtu(name, settings.mtu).map_err(|error| Fault::system("the device's MTU", &error))?;
            if up {
                tun::set_up(name, true).map_err(|error| Fault::system("bringing the device up", &error))?;
            }
            Ok(Queue { fd: queue, offload, plain: false })
        })
    }

    /// The same with a TUN queue from elsewhere, which is asked for when everything else is there. `keep`: sessions that a
    /// killed supervisor has left are gone on with, and left in turn, where that can be.
    pub fn with(
        settings: &Settings,
        options: &Options,
        keep: bool,
        queue: impl FnOnce() -> Result<Queue, Fault>,
    ) -> Result<Device, Fault> {
        let mut settings = settings.clone();
        let name = &settings.name;
        let folder = options.folder(name);
        let keep = (keep && settings.kind.outlives()).then(|| folder.join(MEMORY));
        let left = keep.as_ref().is_some_and(|path| path.exists());
        let (sockets, features, port) = open_after(&settings, left)?;
        settings.port = port;
        let system = |what: &'static str| move |error: io::Error| Fault::system(what, &error);
        private_folder(&folder)?;
        let instance = random().map_err(system("random numbers"))?;
        let (memory, kept) =
            memory(settings.kind, options.max_peers, keep.as_deref(), instance).map_err(system("shared memory"))?;
        let listener = listen(&folder.join("engine.sock"))?;
        let Queue { fd, offload, plain } = queue()?;
        let features = Features { tun_tcp: offload.tcp, tun_udp: offload.udp, tun_plain: plain, ..features };
        let mut device = Device::adopt(settings, fd, sockets, memory, listener, features, options.max_peers);
        device.lock_keys().map_err(system("locking the key pages"))?;
        // last: what failed would leave the device behind
        device.kept = kept && tun::persist(&device.tun, true).is_ok();
        Ok(device)
    }

    /// From descriptors that are there already.
    pub fn adopt(
        settings: Settings,
        tun: OwnedFd,
        sockets: Sockets,
        memory: OwnedFd,
        listener: OwnedFd,
        features: Features,
        max_peers: u32,
    ) -> Device {
        let due = Child::due_at;
        Device {
            link: open_link(&sockets.raw, settings.mark),
            settings,
            tun,
            sockets,
            memory,
            kept: false,
            locked: None,
            listener,
            features,
            max_peers,
            engine: due(0),
            keeper: due(0),
            channel: None,
            engine_ready: false,
            keeper_ready: false,
            probe: None,
            control: None,
            gone: false,
        }
    }

    /// Keeps the keys out of swap for as long as we have the device.
    pub fn lock_keys(&mut self) -> io::Result<()> {
        let mapping = Mapping::new(&self.memory)?;
        let (offset, length) = self.settings.kind.key_pages(self.max_peers);
        self.features.locked = mapping.lock(offset, length);
        self.locked = Some(mapping);
        Ok(())
    }

    /// Overwrites the keys of a memory that no engine works on any more.
    pub fn wipe_keys(&mut self) {
        if let Some(mapping) = self.locked.take() {
            let (offset, length) = self.settings.kind.key_pages(self.max_peers);
            // SAFETY: the range lies inside the mapping, and nobody else uses it any more.
            unsafe { std::ptr::write_bytes(mapping.pointer().add(offset), 0, length) };
        }
    }

    pub fn channel_fd(&self) -> RawFd {
        self.channel.as_ref().map_or(-1, |channel| channel.as_raw_fd())
    }

    pub fn ready(&self) -> bool {
        self.engine_ready && self.keeper_ready
    }

    /// Starts what is due.
    pub fn start_due(&mut self, options: &Options, now: u64) {
        if self.engine.due.is_some_and(|due| due <= now)
            && let Err(error) = self.start_engine(options, now)
        {
            say!(
                "level=error device={} msg=\"the engine does not start\" error={:?}",
                self.settings.name,
                error.to_string()
            );
            self.engine.ended(now);
        }
        if self.keeper.due.is_some_and(|due| due <= now) {
            if options.keeper.is_empty() || !self.settings.kind.has_keeper() {
                self.keeper.due = None;
                self.keeper_ready = true;
            } else if let Err(error) = self.start_keeper(options, now) {
                say!(
                    "level=error device={} msg=\"the keeper does not start\" error={:?}",
                    self.settings.name,
                    error.to_string()
                );
                self.keeper.ended(now);
            }
        }
    }

    fn start_engine(&mut self, options: &Options, now: u64) -> io::Result<()> {
        let (ours, theirs) = rights::pair()?;
        let mut command = Command::new("/proc/self/exe");
        command.arg("engine").env_clear();
        let fd = theirs.as_raw_fd();
        // alone it is no part of the system, and asks for no more than others
        let system = self.control.is_none();
        self.engine.start(command, now, move || {
            if system {
                privilege::prefer();
            }
            rights::pass(fd, CHANNEL)
        })?;
        let mut fds = vec![self.memory.as_raw_fd(), self.listener.as_raw_fd(), self.tun.as_raw_fd()];
        let mut text = json!({ "op": "start", "kind": self.settings.kind.word(), "mtu": self.settings.mtu, "user": options.user, "group": options.user,
            "tunUdp": self.features.tun_udp, "tunPlain": self.features.tun_plain, "segment": self.features.segment });
        if let Some(link) = &self.link {
            text["mark"] = json!(self.settings.mark);
            link.add(&mut text, &mut fds);
        }
        self.sockets.add_to(&mut text, &mut fds);
        channel::send(ours.as_raw_fd(), &text, &fds)?;
        self.channel = Some(ours);
        self.engine_ready = false;
        Ok(())
    }

    fn start_keeper(&mut self, options: &Options, now: u64) -> io::Result<()> {
        let mut command = Command::new(&options.keeper[0]);
        command
            .args(&options.keeper[1..])
            .env("PELLICLE_DEVICE", &self.settings.name)
            .env("PELLICLE_RUN_DIR", &options.run_dir)
            .env("PELLICLE_UAPI_DIR", &options.uapi_dir)
            .env("PELLICLE_LISTEN_PORT", self.settings.port.to_string())
            .env("PELLICLE_MARK", self.settings.mark.to_string());
        self.keeper_ready = false;
        self.probe = None;
        let Some(control) = &self.control else { return self.keeper.start(command, now, || Ok(())) };
        let fd = control.listener.as_raw_fd();
        command.env("PELLICLE_UAPI_FD", KEEPER_CONTROL.to_string());
        if std::env::var_os("LOG_LEVEL").is_none_or(|level| level.is_empty()) {
            command.env("LOG_LEVEL", "error");
        }
        self.keeper.start(command, now, move || rights::pass(fd, KEEPER_CONTROL))
    }

    /// A child ended: true when it was one of ours.
    pub fn ended(&mut self, pid: i32, how: &str, now: u64) -> bool {
        let (which, child) = if self.engine.pid == Some(pid) {
            self.channel = None;
            self.engine_ready = false;
            ("engine", &mut self.engine)
        } else if self.keeper.pid == Some(pid) {
            self.keeper_ready = false;
            self.probe = None;
            ("keeper", &mut self.keeper)
        } else {
            return false;
        };
        child.ended(now);
        say!(
            "level=warning device={} msg=\"the {which} ended and is started again\" pid={pid} how={how:?}",
            self.settings.name
        );
        true
    }

    fn note(&mut self, message: &channel::Message) {
        self.engine_ready |= message.text["done"] == "start";
        if message.text["done"] == channel::GONE && !self.gone {
            self.gone = true;
            say!("level=info device={} msg=\"the device was deleted\"", self.settings.name);
        }
    }

    /// What the engine said: only that it runs is of interest here.
    pub fn hear(&mut self) {
        match self.channel.as_ref().map(|channel| channel::receive(channel.as_raw_fd())) {
            Some(Ok(Some(message))) => self.note(&message),
            // It is ending; waitpid will say how.
            Some(_) => self.channel = None,
            None => {}
        }
    }

    /// Looks whether the keeper answers at its control socket; true when that (or its failing) needs another look soon.
    pub fn probe_keeper(&mut self, options: &Options) -> bool {
        if self.keeper_ready || self.keeper.pid.is_none() {
            return false;
        }
        if let Some(probe) = &mut self.probe {
            match probe.read(&mut [0; 64]) {
                Ok(0) => self.probe = None,
                Ok(_) => {
                    self.keeper_ready = true;
                    self.probe = None;
                    return false;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => self.probe = None,
            }
            return true;
        }
        let path = match &self.control {
            Some(control) => control.path.clone(),
            None => options.uapi_dir.join(format!("{}.sock", self.settings.name)),
        };
        self.probe = UnixStream::connect(path)
            .and_then(|mut stream| {
                stream.set_nonblocking(true)?;
                stream.write_all(b"get=1\n\n")?;
                Ok(stream)
            })
            .ok();
        true
    }

    /// Asks the engine for something and waits until that holds. An engine that is being started gets it with its start.
    fn ask(&mut self, text: &Value, fds: &[RawFd], done: &str) -> Result<(), Fault> {
        let Some(channel) = self.channel.as_ref().map(|channel| channel.as_raw_fd()) else { return Ok(()) };
        if channel::send(channel, text, fds).is_err() {
            return Ok(());
        }
        let until = clock::now() + u64::from(PATIENCE) * 1_000_000;
        loop {
            let left = (until.saturating_sub(clock::now()) / 1_000_000) as u32;
            match wait::readable([channel], Some(left)) {
                Ok([true]) => match channel::receive(channel) {
                    Ok(Some(message)) if message.text["done"] == done => return Ok(()),
                    Ok(Some(message)) => self.note(&message),
                    _ => return Ok(()),
                },
                _ if left == 0 => {
                    return Err(Fault::new(
                        "engine.silent",
                        "the engine does not answer",
                        "look at its log; it is started again when it ends",
                    ));
                }
                _ => {}
            }
        }
    }

    pub fn set_mtu(&mut self, mtu: u16) -> Result<(), Fault> {
        tun::set_mtu(&self.settings.name, mtu).map_err(|error| Fault::system("the device's MTU", &error))?;
        self.settings.mtu = mtu;
        self.ask(&json!({ "op": "mtu", "mtu": mtu }), &[], "mtu")
    }

    /// Another port means other sockets; another mark is set on those that are there.
    pub fn listen(&mut self, port: u16, mark: u32) -> Result<(), Fault> {
        if mark != self.settings.mark {
            self.sockets.set_mark(mark).map_err(|error| Fault::system("the firewall mark", &error))?;
            self.settings.mark = mark;
            if let Some(link) = &self.link {
                udp::set_mark(&link.fds[0], mark).map_err(|error| Fault::system("the firewall mark", &error))?;
                self.ask(&json!({ "op": "mark", "mark": mark }), &[], "mark")?;
            }
        }
        if port != 0 && port == self.settings.port {
            return Ok(());
        }
        let (sockets, _, port) = bind(port, mark)?;
        if self.settings.kind == Kind::Ipsec {
            forbid_fragments(&sockets)?;
        }
        self.sockets.udp = sockets;
        self.settings.port = port;
        let (mut text, mut fds) = (json!({ "op": "sockets" }), Vec::new());
        self.sockets.add_to(&mut text, &mut fds);
        self.ask(&text, &fds, "sockets")
    }

    /// The engine at a barrier and ended; what was not yet read stays in the queues.
    pub fn stop_engine(&mut self) {
        let stopped = self.ask(&json!({ "op": "stop" }), &[], "stop");
        self.engine.finish(if stopped.is_ok() { PATIENCE } else { 0 });
        self.channel = None;
        self.engine_ready = false;
    }

    pub fn stop_keeper(&mut self) {
        if !self.settings.kind.has_keeper() {
            return;
        }
        self.keeper.signal(libc::SIGTERM);
        self.keeper.finish(PATIENCE);
        self.keeper_ready = false;
        self.probe = None;
    }

    /// Ends both processes, overwrites the keys and gives everything back: the TUN device goes with its last descriptor.
    pub fn remove(mut self, options: &Options) {
        self.stop_keeper();
        self.stop_engine();
        self.wipe_keys();
        let folder = options.folder(&self.settings.name);
        let _ = std::fs::remove_file(folder.join(MEMORY));
        let _ = tun::persist(&self.tun, false);
        erase_files(&folder, &self.settings.name);
    }

    pub fn json(&self) -> Value {
        let mut value = self.settings.json();
        value["engine"] = json!({ "pid": self.engine.pid, "restarts": self.engine.restarts });
        value["keeper"] = json!({ "pid": self.keeper.pid, "restarts": self.keeper.restarts });
        value["features"] = self.features.json();
        value["ready"] = json!(self.ready());
        value
    }
}
