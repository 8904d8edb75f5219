//! Two network namespaces joined by a veth pair, each with a supervisor; removed when dropped.

use super::machine::{Refused, refuse};
use super::until;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

pub const PORT: u16 = 51871;
pub const DEVICE: &str = "pe-wg";

pub struct Bed {
    pub folder: PathBuf,
    pub sides: [Side; 2],
}

pub struct Side {
    pub namespace: String,
    pub run_dir: PathBuf,
    pub supervisor: Child,
}

/// Why this machine cannot run it.
pub fn missing() -> Option<String> {
    let programs = ["ip", "iperf3", "tcpdump", "ping"];
    let absent = programs.into_iter().find(|name| {
        !std::env::var_os("PATH")
            .is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join(name).exists()))
    });
    if let Some(name) = absent {
        return Some(format!("needs the program {name}"));
    }
    if !Path::new("/dev/net/tun").exists() {
        return Some("needs /dev/net/tun".into());
    }
    let name = format!("pe-probe-{}", std::process::id());
    if !Command::new("ip").args(["netns", "add", &name]).output().is_ok_and(|output| output.status.success()) {
        return Some("needs root and network namespaces".into());
    }
    run(&["ip", "netns", "del", &name]);
    None
}

pub fn run(words: &[&str]) -> Output {
    let output = Command::new(words[0]).args(&words[1..]).output().expect("the program starts");
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

impl Bed {
    /// Without devices.
    pub fn bare() -> Bed {
        Bed::on(&[], false)
    }

    /// On machines that refuse some things, or have a single processor.
    pub fn on(refused: &[Refused], one_cpu: bool) -> Bed {
        let number = std::process::id();
        let folder = std::env::temp_dir().join(format!("pe-{number}"));
        let names = [format!("pe-{number}-a"), format!("pe-{number}-b")];
        for name in &names {
            run(&["ip", "netns", "add", name]);
            run(&["ip", "-n", name, "link", "set", "lo", "up"]);
        }
        let [a, b] = &names;
        run(&["ip", "link", "add", "under", "netns", a, "type", "veth", "peer", "name", "under", "netns", b]);
        for (index, name) in names.iter().enumerate() {
            let last = index + 1;
            run(&["ip", "-n", name, "addr", "add", &format!("10.77.0.{last}/24"), "dev", "under"]);
            run(&["ip", "-n", name, "addr", "add", &format!("fd77::{last}/64"), "dev", "under", "nodad"]);
            run(&["ip", "-n", name, "link", "set", "under", "up"]);
        }
        let sides = names.map(|namespace| {
            let run_dir = folder.join(&namespace);
            std::fs::create_dir_all(&run_dir).expect("a folder");
            let mut command = supervision(&namespace, &run_dir, &["--linger"]);
            if one_cpu {
                on_one_cpu(&mut command);
            }
            refuse(&mut command, refused);
            let supervisor = command.spawn().expect("the supervisor starts");
            Side { namespace, run_dir, supervisor }
        });
        Bed { folder, sides }
    }

    pub fn add(&self, device: &Value) {
        let name = device["name"].as_str().expect("a name");
        for (index, side) in self.sides.iter().enumerate() {
            let added = side.ask(&json!({ "id": 1, "op": "device.add", "device": device }));
            assert_eq!(added, json!({ "id": 1, "ok": true, "listenPort": device["listenPort"] }));
            let last = index + 1;
            side.ip(&["addr", "add", &format!("10.78.0.{last}/24"), "dev", name]);
            side.ip(&["addr", "add", &format!("fd78::{last}/64"), "dev", name, "nodad"]);
            side.ip(&["link", "set", name, "gso_max_size", "59000"]);
        }
    }

    /// From the first side to an address of the second one: the `end` of iperf3's report.
    pub fn iperf(&self, address: &str, more: &[&str]) -> Value {
        let mut server =
            self.sides[1].command(&["iperf3", "-s", "-1", "-J"]).stdout(Stdio::null()).spawn().expect("iperf3");
        let bounded = more.iter().any(|word| ["-t", "-n"].contains(word));
        let end: &[&str] = if bounded { &[] } else { &["-t", "1"] };
        let words = [&["iperf3", "-J", "-c", address][..], more, end].concat();
        let report: Value = until("iperf3", || {
            let output = self.sides[0].command(&words).output().expect("iperf3 starts");
            let report: Value = serde_json::from_slice(&output.stdout).ok()?;
            report["error"].is_null().then_some(report)
        });
        server.wait().expect("the server ends");
        report["end"].clone()
    }
}

pub fn supervise(namespace: &str, run_dir: &Path, more: &[&str]) -> Child {
    supervision(namespace, run_dir, more).spawn().expect("the supervisor starts")
}

fn supervision(namespace: &str, run_dir: &Path, more: &[&str]) -> Command {
    let mut command = Command::new("ip");
    command
        .args(["netns", "exec", namespace, env!("CARGO_BIN_EXE_pellicle-engine"), "supervise", "--run-dir"])
        .arg(run_dir)
        .args(["--max-peers", "64"])
        .args(more);
    command
}

fn on_one_cpu(command: &mut Command) {
    // SAFETY: between fork and exec a system call is made, nothing else; all zero is an empty set.
    unsafe {
        command.pre_exec(|| {
            let mut set: libc::cpu_set_t = std::mem::zeroed();
            libc::CPU_SET(0, &mut set);
            match libc::sched_setaffinity(0, size_of_val(&set), &raw const set) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            }
        });
    }
}

impl Side {
    pub fn ip(&self, words: &[&str]) {
        run(&[&["ip", "-n", &self.namespace], words].concat());
    }

    /// A program in the namespace.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace]).args(words);
        command
    }

    /// One line to `supervisor.sock`, one back.
    pub fn ask(&self, request: &Value) -> Value {
        let path = self.run_dir.join("supervisor.sock");
        let mut stream = until("supervisor.sock", || UnixStream::connect(&path).ok());
        writeln!(stream, "{request}").expect("asked");
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).expect("answered");
        serde_json::from_str(&line).expect("JSON")
    }

    pub fn status(&self) -> Value {
        self.ask(&json!({ "id": 2, "op": "status" }))
    }

    pub fn engine_pid(&self) -> i64 {
        until("the engine's pid", || self.status()["devices"][0]["engine"]["pid"].as_i64())
    }

    /// How many answers came. The kernel counts them: `ping` itself waits for the last ones no longer than two round trips.
    pub fn ping(&self, address: &str, count: u32, interval: &str) -> u32 {
        self.ping_of(address, count, interval, 56)
    }

    /// Of `size` bytes each.
    pub fn ping_of(&self, address: &str, count: u32, interval: &str, size: u32) -> u32 {
        let replies = || self.echo_replies(address);
        let before = replies();
        let [count_text, size] = [count, size].map(|number| number.to_string());
        let words = ["ping", "-n", "-q", "-c", &count_text, "-s", &size, "-i", interval, "-W", "2", address];
        self.command(&words).output().expect("ping starts");
        // an engine may have no processor for seconds
        let (mut answered, mut quiet) = (replies() - before, 0);
        while answered < count && quiet < 400 {
            std::thread::sleep(Duration::from_millis(10));
            let now = replies() - before;
            quiet = if now == answered { quiet + 1 } else { 0 };
            answered = now;
        }
        answered
    }

    /// Of the address' family, in this namespace, ever.
    pub fn echo_replies(&self, address: &str) -> u32 {
        let counter = if address.contains(':') { "Icmp6InEchoReplies" } else { "IcmpInEchoReps" };
        let output = self.command(&["nstat", "-asz", "--json", counter]).output().expect("nstat starts");
        let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        report["kernel"][counter].as_u64().expect("a number") as u32
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        for side in &mut self.sides {
            // SAFETY: our own child, not yet waited for.
            unsafe { libc::kill(side.supervisor.id() as i32, libc::SIGTERM) };
            let _ = side.supervisor.wait();
            let _ = Command::new("ip").args(["netns", "del", &side.namespace]).output();
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
