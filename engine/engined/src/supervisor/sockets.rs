//! The UDP sockets of a device, and what the kernel turned out to have.

use super::fault::Fault;
use pellicle_net::udp;
use serde_json::{Value, json};
use std::io;
use std::os::fd::OwnedFd;

/// Sockets for IPv4 and IPv6; none where the machine has no such family.
pub type Sockets = [Option<OwnedFd>; 2];

#[derive(Clone, Copy, Default)]
pub struct Features {
    pub tun_tcp: bool,
    pub tun_udp: bool,
    /// The TUN device was given to us and has no virtio headers.
    pub tun_plain: bool,
    pub segment: bool,
    pub gro: bool,
    pub locked: bool,
}

impl Features {
    pub fn json(self) -> Value {
        json!({ "tunTcpOffload": self.tun_tcp, "tunUdpOffload": self.tun_udp, "tunPlain": self.tun_plain, "udpSegment": self.segment,
            "udpGro": self.gro, "keysLocked": self.locked })
    }

    pub fn parse(value: &Value) -> Features {
        let flag = |name: &str| value[name].as_bool().unwrap_or(false);
        Features {
            tun_tcp: flag("tunTcpOffload"),
            tun_udp: flag("tunUdpOffload"),
            tun_plain: flag("tunPlain"),
            segment: flag("udpSegment"),
            gro: flag("udpGro"),
            locked: flag("keysLocked"),
        }
    }
}

/// Sockets of both families on one port.
pub fn bind(port: u16, mark: u32) -> Result<(Sockets, Features, u16), Fault> {
    let taken = |error: &io::Error| error.raw_os_error() == Some(libc::EADDRINUSE);
    let absent = |error: &io::Error| error.raw_os_error() == Some(libc::EAFNOSUPPORT);
    let fault = |error: &io::Error| {
        if taken(error) {
            Fault::new(
                "port.taken",
                format!("UDP port {port} is in use"),
                "choose another port, or end what listens there (ss -lunp)",
            )
        } else {
            Fault::system("the UDP socket", error)
        }
    };
    for attempt in 0.. {
        let four = match udp::bind(4, port, mark) {
            Ok(bound) => Some(bound),
            Err(error) if absent(&error) => None,
            Err(error) => return Err(fault(&error)),
        };
        let chosen = match &four {
            Some((socket, _)) => udp::port(socket).map_err(|error| fault(&error))?,
            None => port,
        };
        let six = match udp::bind(6, chosen, mark) {
            Ok(bound) => Some(bound),
            Err(error) if absent(&error) && four.is_some() => None,
            // the kernel chose a port that is free for one family only
            Err(error) if port == 0 && taken(&error) && attempt < 16 => continue,
            Err(error) => return Err(fault(&error)),
        };
        let found: Vec<udp::Features> = [&four, &six].into_iter().flatten().map(|(_, features)| *features).collect();
        let features = Features {
            segment: found.iter().all(|features| features.segment),
            gro: found.iter().all(|features| features.gro),
            ..Features::default()
        };
        let chosen = match (&four, &six) {
            (None, Some((socket, _))) => udp::port(socket).map_err(|error| fault(&error))?,
            _ => chosen,
        };
        return Ok(([four.map(|(socket, _)| socket), six.map(|(socket, _)| socket)], features, chosen));
    }
    unreachable!("the loop returns")
}
