//! `wireguard INTERFACE`: a supervisor for one device that behaves as wireguard-go does, so that `wg-quick` and whatever
//! else starts that program can start this one. The device is made where it is started and may then be renamed or moved
//! to another network namespace; the UDP sockets stay. It ends when the device or its control socket is removed.

use super::device::Device;
use super::fault::Fault;
use super::given::{ControlSocket, Queue};
use super::kind::Kind;
use super::options::Options;
use super::run::begin;
use super::settings::Settings;
use super::signals::Signals;
use pellicle_net::daemon::{Role, Starter, daemonise, private_files, silence};
use pellicle_net::watch::Watch;
use pellicle_net::{clock, tun};
use std::env;
use std::fs;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

const USAGE: &str = "usage: pellicle wireguard [-f|--foreground] INTERFACE

Starts a WireGuard device in user space, to be configured by wg and ip. It ends when the device is deleted.

environment: LOG_LEVEL=debug|error|silent (error), WG_PROCESS_FOREGROUND=1,
             WG_TUN_FD and WG_UAPI_FD: descriptors of an open TUN device and of a listening control socket";

const MTU: u16 = 1420;
/// How many times 20 ms we wait for another one to end.
const LEAVING: u64 = 50;
const PATIENCE: u64 = 30_000_000_000;

pub struct Alone {
    starter: Starter,
    control: Watch,
    announced: bool,
    until: u64,
}

struct Wanted {
    name: String,
    foreground: bool,
    keeper: Vec<String>,
    run_dir: PathBuf,
    uapi_dir: PathBuf,
}

impl Wanted {
    fn parse(arguments: &[String]) -> Result<Wanted, String> {
        let mut wanted = Wanted {
            name: String::new(),
            foreground: env::var("WG_PROCESS_FOREGROUND").is_ok_and(|value| value == "1"),
            keeper: Vec::new(),
            run_dir: "/run/pellicle-wireguard".into(),
            uapi_dir: "/var/run/wireguard".into(),
        };
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            let mut value = || rest.next().ok_or_else(|| format!("{argument} wants a value\n\n{USAGE}"));
            match argument.as_str() {
                "-f" | "--foreground" => wanted.foreground = true,
                "--keeper-command" => wanted.keeper = value()?.split_whitespace().map(String::from).collect(),
                "--run-dir" => wanted.run_dir = value()?.into(),
                "--uapi-dir" => wanted.uapi_dir = value()?.into(),
                name if wanted.name.is_empty() && !name.starts_with('-') => wanted.name = name.into(),
                _ => return Err(USAGE.into()),
            }
        }
        if wanted.name.is_empty() || wanted.keeper.is_empty() {
            return Err(USAGE.into());
        }
        Ok(wanted)
    }
}

pub fn run(arguments: &[String]) -> Result<(), String> {
    if arguments.iter().any(|argument| argument == "--help" || argument == "-h") {
        println!("{USAGE}");
        return Ok(());
    }
    let wanted = Wanted::parse(arguments)?;
    if wanted.foreground {
        return serve(wanted, Starter::default());
    }
    match daemonise().map_err(|error| error.to_string())? {
        Role::Started(outcome) => outcome,
        Role::Daemon(starter) => serve(wanted, starter),
    }
}

fn serve(wanted: Wanted, mut starter: Starter) -> Result<(), String> {
    let outcome = quiet(wanted.foreground).map_err(|error| error.to_string()).and_then(|()| prepare(&wanted));
    let (mut supervisor, signals, control) = match outcome {
        Ok(prepared) => prepared,
        // said once: here, or by the process that was started
        Err(message) => return if starter.failed(&message) { Ok(()) } else { Err(message) },
    };
    let until = clock::now() + PATIENCE;
    let path = control.path().to_path_buf();
    supervisor.alone = Some(Alone { starter, control, announced: false, until });
    supervisor.serve(&signals);
    let _ = fs::remove_file(path);
    let _ = fs::remove_dir_all(&supervisor.options.run_dir);
    match supervisor.alone {
        Some(alone) if !alone.announced => Err("ended before it was ready".into()),
        _ => Ok(()),
    }
}

/// Standard streams as wireguard-go has them: a daemon is heard only when LOG_LEVEL asks for it.
fn quiet(foreground: bool) -> io::Result<()> {
    let level = env::var("LOG_LEVEL").ok();
    let level = level.as_deref().filter(|level| !level.is_empty());
    if level == Some("silent") || (!foreground && level.is_none()) {
        silence(1)?;
        silence(2)?;
    }
    if foreground { Ok(()) } else { silence(0) }
}

fn prepare(wanted: &Wanted) -> Result<(super::run::Supervisor, Signals, Watch), String> {
    let say = |fault: Fault| fault.text();
    private_files();
    let signals = Signals::new().map_err(|error| error.to_string())?;
    let given = inherited("WG_TUN_FD")?.map(|fd| {
        let (name, offload, virtio) = tun::inherit(&fd).map_err(|error| format!("WG_TUN_FD: {error}"))?;
        Ok::<_, String>((name, Queue { fd, offload, plain: !virtio }))
    });
    let (name, given) = match given.transpose()? {
        Some((name, queue)) => (name, Some(queue)),
        None => (wanted.name.clone(), None),
    };
    let settings = Settings { name: name.clone(), kind: Kind::Wireguard, mtu: MTU, port: 0, mark: 0 };
    if Settings::from_flag(&format!("name={name}")).is_err() {
        return Err(format!("{name:?} is no name for a device: 1 to 15 letters, digits and _-.=+"));
    }
    let options = Options {
        run_dir: wanted.run_dir.join(&name),
        uapi_dir: wanted.uapi_dir.clone(),
        keeper: wanted.keeper.clone(),
        ..Options::parse(&[])?
    };
    let control = control_socket(&options.uapi_dir, &name)?;
    let watch = Watch::new(&control.path).map_err(|error| format!("{}: {error}", control.path.display()))?;
    let opened = begin(options).and_then(|mut supervisor| {
        // a device that was killed may have left its configuration: here every device begins without one
        let _ = fs::remove_dir_all(supervisor.options.folder(&name));
        let device = Device::with(&settings, &supervisor.options, false, || given.map_or_else(|| create(&name), Ok));
        supervisor.devices.push(device.map_err(|fault| {
            let _ = fs::remove_dir_all(&supervisor.options.run_dir);
            say(fault)
        })?);
        Ok(supervisor)
    });
    let path = control.path.clone();
    match opened {
        Ok(mut supervisor) => {
            supervisor.devices[0].control = Some(control);
            Ok((supervisor, signals, watch))
        }
        Err(message) => {
            let _ = fs::remove_file(path);
            Err(message)
        }
    }
}

fn create(name: &str) -> Result<Queue, Fault> {
    let (fd, offload) = tun::create(name).map_err(|error| match error.raw_os_error() {
        Some(libc::EBUSY | libc::EEXIST | libc::EINVAL) => Fault::new(
            "device.taken",
            format!("there is a device {name} already"),
            format!("delete it (ip link del {name}) or choose another name"),
        ),
        _ => Fault::system("the TUN device", &error),
    })?;
    tun::set_mtu(name, MTU).map_err(|error| Fault::system("the device's MTU", &error))?;
    Ok(Queue { fd, offload, plain: false })
}

fn control_socket(folder: &Path, name: &str) -> Result<ControlSocket, String> {
    if let Some(fd) = inherited("WG_UAPI_FD")? {
        let listener = UnixListener::from(fd);
        let path = listener.local_addr().ok().and_then(|address| address.as_pathname().map(Path::to_path_buf));
        let path = path.ok_or("WG_UAPI_FD: not a listening Unix socket with a path")?;
        return Ok(ControlSocket { listener: listener.into(), path });
    }
    let path = folder.join(format!("{name}.sock"));
    let at = |error: io::Error| format!("{}: {error}", path.display());
    fs::create_dir_all(folder).map_err(at)?;
    // one that was just deleted may still be on its way out
    let ended = |_: &u64| {
        let free = UnixStream::connect(&path).is_err();
        if !free {
            std::thread::sleep(Duration::from_millis(20));
        }
        free
    };
    if (0..LEAVING).find(ended).is_none() {
        return Err(format!("something answers at {} already: a device {name} is running", path.display()));
    }
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at(error)),
        _ => {}
    }
    let listener = UnixListener::bind(&path).map_err(at)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).map_err(at)?;
    Ok(ControlSocket { listener: listener.into(), path })
}

/// A descriptor whose number stands in the environment.
fn inherited(name: &str) -> Result<Option<OwnedFd>, String> {
    let text = env::var(name).unwrap_or_default();
    if text.is_empty() {
        return Ok(None);
    }
    let fd: i32 = text.parse().map_err(|_| format!("{name}: {text:?} is no descriptor"))?;
    // SAFETY: F_GETFD of any number is harmless.
    if fd < 0 || unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) } == -1 {
        return Err(format!("{name}: descriptor {fd} is not open"));
    }
    // SAFETY: it is open, and whoever started us gave it to us.
    Ok(Some(unsafe { OwnedFd::from_raw_fd(fd) }))
}

impl Alone {
    /// Also polled: what happens to the control socket's file.
    pub fn polled(&self) -> libc::pollfd {
        libc::pollfd { fd: self.control.fd(), events: libc::POLLIN, revents: 0 }
    }

    /// False when it is time to end.
    pub fn look(&mut self, devices: &[Device]) -> bool {
        let Some(device) = devices.first() else { return false };
        if !self.announced {
            let failed = if device.keeper.restarts > 0 {
                Some("the keeper ended (LOG_LEVEL=debug tells more)")
            } else if clock::now() > self.until {
                Some("engine or keeper do not answer")
            } else {
                None
            };
            if let Some(why) = failed {
                self.starter.failed(why);
                return false;
            }
            self.announced = device.ready();
            if self.announced && self.starter.ready().is_err() {
                return false;
            }
        }
        !device.gone && !self.control.gone()
    }
}
