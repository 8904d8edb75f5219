//! A file system that is full or read-only where the supervisor makes its folders and sockets, and where the log goes:
//! nothing is half begun, and what runs goes on with the numbers that it had.

mod kit;

use kit::agent::{Keys, PEER, Shape, outer};
use kit::bed::{missing, run};
use kit::keeper::{Keeper, prefix};
use kit::until;
use serde_json::{Value, json};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

const DEVICE: &str = "pe-full";
const ENGINE: &str = env!("CARGO_BIN_EXE_pellicle-engine");

/// A tmpfs in a mount namespace of its own, and a network namespace for devices. Gone with the process that holds it.
struct Disk {
    holder: Child,
    folder: PathBuf,
    namespace: String,
}

impl Disk {
    fn new(name: &str, options: &str) -> Disk {
        let namespace = format!("pe-disk-{name}-{}", std::process::id());
        let folder = std::env::temp_dir().join(&namespace);
        fs::create_dir_all(&folder).expect("a folder");
        run(&["ip", "netns", "add", &namespace]);
        run(&["ip", "-n", &namespace, "link", "set", "lo", "up"]);
        // `cat` ends when we do
        let mount = format!("mount -t tmpfs -o {options} pe-full {} && echo mounted && exec cat", folder.display());
        let mut holder = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "sh", "-c", &mount])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare starts");
        let mut line = String::new();
        BufReader::new(holder.stdout.take().expect("a pipe")).read_line(&mut line).expect("read");
        assert_eq!(line, "mounted\n");
        Disk { holder, folder, namespace }
    }

    /// As the supervisor has it.
    fn run_dir(&self) -> PathBuf {
        self.folder.join("run")
    }

    /// The same, seen from here.
    fn seen(&self) -> PathBuf {
        let path = self.folder.strip_prefix("/").expect("an absolute path");
        PathBuf::from(format!("/proc/{}/root", self.holder.id())).join(path)
    }

    fn supervisor(&self) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--mount=/proc/{}/ns/mnt", self.holder.id()));
        command.args(["ip", "netns", "exec", &self.namespace, ENGINE, "supervise", "--max-peers", "16", "--run-dir"]);
        command.arg(self.run_dir());
        command
    }

    /// What a supervisor says that cannot begin.
    fn refusal(&self) -> String {
        let output = self.supervisor().output().expect("it starts");
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).expect("text")
    }

    /// Not even an empty file has room any more.
    fn fill(&self) {
        let full = (0..10_000).find_map(|number| File::create(self.seen().join(format!("{number}"))).err());
        assert_eq!(full.and_then(|error| error.raw_os_error()), Some(libc::ENOSPC));
    }

    fn free(&self) {
        for entry in fs::read_dir(self.seen()).expect("the disk") {
            let path = entry.expect("an entry").path();
            if path.is_file() {
                fs::remove_file(path).expect("removed");
            }
        }
    }

    fn ask(&self, request: &Value) -> Value {
        let path = self.seen().join("run/supervisor.sock");
        let mut stream = until("supervisor.sock", || UnixStream::connect(&path).ok());
        writeln!(stream, "{request}").expect("asked");
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).expect("answered");
        serde_json::from_str(&line).expect("JSON")
    }

    fn add(&self) -> Value {
        let device = json!({ "name": DEVICE, "kind": "ipsec", "mtu": 1400, "listenPort": 4500, "mark": 0 });
        self.ask(&json!({ "op": "device.add", "device": device }))
    }

    fn connect(&self) -> Keeper {
        Keeper::connect(self.seen().join("run").join(DEVICE).join("engine.sock"))
    }

    fn device_is_there(&self) -> bool {
        let show = Command::new("ip").args(["-n", &self.namespace, "link", "show", DEVICE]).output();
        show.expect("ip starts").status.success()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        let _ = self.holder.wait();
        let _ = Command::new("ip").args(["netns", "del", &self.namespace]).output();
        let _ = fs::remove_dir(&self.folder);
    }
}

struct Running(Child);

impl Running {
    fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The log has no room either.
fn start(disk: &Disk) -> Running {
    let full = || File::options().write(true).open("/dev/full").expect("/dev/full");
    Running(disk.supervisor().stdout(full()).stderr(full()).spawn().expect("the supervisor starts"))
}

#[test]
fn a_supervisor_says_what_it_cannot_make_and_where() {
    if let Some(reason) = missing() {
        eprintln!("skipped: {reason}");
        return;
    }
    for (name, options, words) in [
        ("ro", "ro", ["Read-only file system", "mount the file system of"]),
        ("none", "nr_inodes=1", ["No space left on device", "free space or inodes there"]),
        // room for the folder alone
        ("one", "nr_inodes=2", ["supervisor.sock: No space left on device", "df -i"]),
    ] {
        let disk = Disk::new(name, options);
        let said = disk.refusal();
        let path = format!("cannot make {}", disk.run_dir().display());
        assert!(said.contains(&path) && words.iter().all(|word| said.contains(word)), "{options}: {said}");
    }
}

/// Gives a key to send by; a dummy packet leaves at once.
fn send_by(agent: &mut Keeper, key: &Keys) -> u64 {
    agent.identify(1);
    agent.prefixes(0x82, &[prefix("10.79.0.2", 32)]);
    agent.send_by(3, Shape::Udp(4500), &outer("127.0.0.1", "127.0.0.2"), key);
    last_sent(agent)
}

fn last_sent(agent: &mut Keeper) -> u64 {
    agent.associations().iter().find(|one| one.out).expect("one to send by").sequence
}

#[test]
fn nothing_is_half_begun_and_no_number_comes_back() {
    if let Some(reason) = missing() {
        eprintln!("skipped: {reason}");
        return;
    }
    let disk = Disk::new("full", "size=256k,nr_inodes=16");
    let mut supervisor = start(&disk);
    assert_eq!(disk.ask(&json!({ "op": "status" }))["ok"], true);

    disk.fill();
    let refused = disk.add();
    let message = refused["message"].as_str().unwrap_or_default();
    let path = disk.run_dir().join(DEVICE);
    assert_eq!((&refused["ok"], &refused["code"]), (&json!(false), &json!("file")), "{refused}");
    assert!(message.contains(&format!("{}: No space left", path.display())), "{refused}");
    assert!(refused["remedy"].as_str().is_some_and(|remedy| remedy.contains("df -i")), "{refused}");
    assert!(!disk.device_is_there());
    assert_eq!(disk.ask(&json!({ "op": "status" }))["devices"], json!([]));

    disk.free();
    assert_eq!(disk.add()["ok"], true);
    disk.fill();
    let key = Keys::gcm(7);
    let mut agent = disk.connect();
    send_by(&mut agent, &key);
    let before = until("some packets", || {
        agent.done(0x87, &PEER.to_le_bytes());
        Some(last_sent(&mut agent)).filter(|sequence| *sequence > 5)
    });
    let instance = agent.instance.clone();

    // the engine needs no file to go on
    let pid = || disk.ask(&json!({ "op": "status" }))["devices"][0]["engine"]["pid"].as_i64();
    let killed = until("the engine", pid);
    // SAFETY: the engine of our own supervisor, which restarts it.
    unsafe { libc::kill(killed as i32, libc::SIGKILL) };
    until("another engine", || pid().filter(|pid| *pid != killed));
    agent = disk.connect();
    assert_eq!(agent.instance, instance);
    assert!(last_sent(&mut agent) >= before);
    agent.remove(2, 3, &key);
    assert!(send_by(&mut agent, &key) >= before, "the key kept its numbers");

    // its memory is gone with the supervisor: numbers begin again, and say so
    supervisor.kill();
    supervisor = start(&disk);
    // what it replaces leaves the room that it needs, as soon as the engine of before has ended
    until("the device", || (disk.add()["ok"] == true).then_some(()));
    agent = disk.connect();
    assert_ne!(agent.instance, instance);
    assert!(send_by(&mut agent, &key) < before, "another boot id, so another key: it begins at 1");
    supervisor.kill();
}
