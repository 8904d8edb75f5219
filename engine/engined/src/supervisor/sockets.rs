//! The UDP sockets of a device, and what the kernel turned out to have.

use super::fault::Fault;
use super::kind::Kind;
use crate::channel;
use pellicle_net::{esp, link, neighbour, udp};
use serde_json::{Value, json};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

/// For IPv4 and IPv6; none where the machine has no such family.
pub type Pair = [Option<OwnedFd>; 2];

#[derive(Default)]
pub struct Sockets {
    pub udp: Pair,
    /// Of IP protocol 50: of devices of IPsec, where the machine lets us.
    pub raw: Pair,
}

impl Sockets {
    /// Says in `text` where the sockets lie in `fds`.
    pub fn add_to(&self, text: &mut Value, fds: &mut Vec<RawFd>) {
        for (names, pair) in [(channel::UDP, &self.udp), (channel::RAW, &self.raw)] {
            for (name, socket) in names.iter().zip(pair) {
                if let Some(socket) = socket {
                    text[*name] = json!(fds.len());
                    fds.push(socket.as_raw_fd());
                }
            }
        }
    }

    pub fn set_mark(&self, mark: u32) -> io::Result<()> {
        self.udp.iter().chain(&self.raw).flatten().try_for_each(|socket| udp::set_mark(socket, mark))
    }
}

#[derive(Clone, Copy, Default)]
pub struct Features {
    pub tun_tcp: bool,
    pub tun_udp: bool,
    /// The TUN device was given to us and has no virtio headers.
    pub tun_plain: bool,
    pub segment: bool,
    pub gro: bool,
    pub locked: bool,
    /// IP protocol 50 can be spoken; undefined of WireGuard.
    pub raw_esp: Option<bool>,
}

impl Features {
    pub fn json(self) -> Value {
        let mut value = json!({ "tunTcpOffload": self.tun_tcp, "tunUdpOffload": self.tun_udp, "tunPlain": self.tun_plain,
            "udpSegment": self.segment, "udpGro": self.gro, "keysLocked": self.locked });
        if let Some(raw_esp) = self.raw_esp {
            value["rawEsp"] = json!(raw_esp);
        }
        value
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
            raw_esp: value["rawEsp"].as_bool(),
        }
    }
}

/// What a device of this kind wants.
pub fn open(kind: Kind, port: u16, mark: u32) -> Result<(Sockets, Features, u16), Fault> {
    let (udp, features, port) = bind(port, mark)?;
    if kind == Kind::Wireguard {
        return Ok((Sockets { udp, raw: Pair::default() }, features, port));
    }
    forbid_fragments(&udp)?;
    let raw = raw_esp(mark);
    let features = Features { raw_esp: Some(raw.iter().any(Option::is_some)), ..features };
    Ok((Sockets { udp, raw }, features, port))
}

/// As tunnels of IPsec have it: who sends too much hears so.
pub fn forbid_fragments(sockets: &Pair) -> Result<(), Fault> {
    for (socket, family) in sockets.iter().zip([4, 6]) {
        if let Some(socket) = socket {
            udp::forbid_fragments(socket, family).map_err(|error| Fault::system("the UDP socket", &error))?;
        }
    }
    Ok(())
}

/// Without the right to open them ESP in UDP still works; what asks for protocol 50 is refused.
fn raw_esp(mark: u32) -> Pair {
    [4, 6].map(|family| match esp::open(family, mark) {
        Ok(socket) => Some(socket),
        Err(error) if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => None,
        Err(error) => {
            say!(
                "level=warning msg=\"no raw socket of IPv{family}: only ESP in UDP works (CAP_NET_RAW is needed for IP protocol 50)\" error={:?}",
                error.to_string()
            );
            None
        }
    })
}

/// What native ESP is sent by where that is faster: a packet socket, and what tells by which link.
pub struct Link {
    pub fds: [OwnedFd; 3],
    /// The machine's usual hop limit.
    hops: u8,
}

impl Link {
    /// Says in `text` where they lie in `fds`.
    pub fn add(&self, text: &mut Value, fds: &mut Vec<RawFd>) {
        text["hops"] = json!(self.hops);
        for (name, fd) in channel::LINK.iter().zip(&self.fds) {
            text[*name] = json!(fds.len());
            fds.push(fd.as_raw_fd());
        }
    }
}

/// Without it everything is sent by raw socket, where there is one.
pub fn open_link(raw: &Pair, mark: u32) -> Option<Link> {
    let raw = raw[0].as_ref()?;
    let opened = || {
        let [routes, changes] = neighbour::open()?;
        Ok::<_, io::Error>(Link { fds: [link::open(mark)?, routes, changes], hops: link::hops(raw)? })
    };
    opened()
        .inspect_err(|error| {
            let error = error.to_string();
            say!("level=warning msg=\"no packet socket: native ESP is sent by raw socket, which is slower\" error={error:?}");
        })
        .ok()
}

/// Sockets of both families on one port.
pub fn bind(port: u16, mark: u32) -> Result<(Pair, Features, u16), Fault> {
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
