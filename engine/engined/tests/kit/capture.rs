//! What was seen on the underlay: tcpdump's file, read by hand (the format is in pcap-savefile(5)).

use super::until;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

pub struct Capture {
    child: Child,
    path: PathBuf,
}

impl Capture {
    /// `filter` in tcpdump's words.
    pub fn start(namespace: &str, path: &Path, filter: &str) -> Capture {
        // one of an earlier capture would look like the new one's beginning
        let _ = std::fs::remove_file(path);
        let child = Command::new("ip")
            .args([
                "netns",
                "exec",
                namespace,
                "tcpdump",
                "-n",
                "-U",
                "--immediate-mode",
                "-B",
                "65536",
                "-i",
                "under",
                "-w",
            ])
            .arg(path)
            .arg(filter)
            .stderr(Stdio::null())
            .spawn()
            .expect("tcpdump starts");
        until("tcpdump's file", || std::fs::metadata(path).ok().filter(|file| file.len() >= 24));
        Capture { child, path: path.to_path_buf() }
    }

    /// The UDP payloads over IPv4 with the last byte of their source address.
    pub fn stop(self) -> Vec<(u8, Vec<u8>)> {
        let udp = |frame: &Vec<u8>| frame.len() > 42 && frame[12..14] == [8, 0];
        let payload = |frame: Vec<u8>| {
            let end = (14 + usize::from(u16::from_be_bytes([frame[16], frame[17]]))).min(frame.len());
            (frame[29], frame[42..end].to_vec())
        };
        self.frames().into_iter().filter(udp).map(payload).collect()
    }

    /// Everything from the Ethernet header on.
    pub fn frames(mut self) -> Vec<Vec<u8>> {
        std::thread::sleep(std::time::Duration::from_millis(300));
        // each packet is there for tcpdump at once: it has taken all when it waits for more
        let status = format!("/proc/{}/status", self.child.id());
        until("an idle tcpdump", || {
            let status = std::fs::read_to_string(&status).unwrap_or_default();
            (!status.contains("State:\tR") && !status.contains("State:\tD")).then_some(())
        });
        // SAFETY: our own child (ip has become tcpdump by exec), not yet waited for.
        unsafe { libc::kill(self.child.id() as i32, libc::SIGINT) };
        let _ = self.child.wait();
        let bytes = std::fs::read(&self.path).expect("the capture");
        let mut rest = &bytes[24..];
        let mut found = Vec::new();
        while rest.len() >= 16 {
            let length = u32::from_le_bytes(rest[8..12].try_into().expect("4")) as usize;
            let Some(frame) = rest.get(16..16 + length) else { break };
            rest = &rest[16 + length..];
            found.push(frame.to_vec());
        }
        found
    }
}

/// The (receiver, counter) of every data message of a payload, which may be a super packet of equal messages.
pub fn counters(payload: &[u8]) -> Vec<(u32, u64)> {
    let header = payload.first_chunk::<8>().expect("a message");
    assert_eq!(header[..4], [4, 0, 0, 0], "only data is sent");
    let starts: Vec<usize> = (0..payload.len() - 15).step_by(4).filter(|at| payload[*at..*at + 8] == *header).collect();
    // The messages of a run have one length, so a chance hit in the text lies off the raster of the first true one.
    let size = starts.get(1).copied().unwrap_or(payload.len());
    let number = |at: usize| u64::from_le_bytes(payload[at + 8..at + 16].try_into().expect("8"));
    (0..payload.len())
        .step_by(size)
        .map(|at| (u32::from_le_bytes(header[4..].try_into().expect("4")), number(at)))
        .collect()
}
