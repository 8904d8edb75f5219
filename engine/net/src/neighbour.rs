//! What the kernel would do with an IPv4 packet: which device, which neighbour (rtnetlink(7)). Asking needs no right;
//! hearing of every change is what makes it safe to remember an answer.

use crate::checked;
use crate::link::Link;
use pellicle_proto::endpoint::Endpoint;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// Links, neighbours, addresses, routes, rules (RTMGRP_…) and next hops (RTNLGRP_NEXTHOP): bits of groups.
const GROUPS: u32 = 1 | 1 << 2 | 1 << 4 | 1 << 6 | 1 << 7 | 1 << 31;
const NLMSG: usize = 16;
const RTMSG: usize = 12;
const NDMSG: usize = 12;
const RTA_DST: u16 = 1;
const RTA_SRC: u16 = 2;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_METRICS: u16 = 8;
const RTA_MULTIPATH: u16 = 9;
const RTA_MARK: u16 = 16;
const RTA_VIA: u16 = 18;
const RTA_ENCAP: u16 = 22;
const RTAX_HOPLIMIT: u16 = 10;
const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;
/// REACHABLE, STALE, DELAY, PROBE, NOARP, PERMANENT: those by whose address the kernel sends (NUD_VALID).
const VALID: u16 = 0x02 | 0x04 | 0x08 | 0x10 | 0x40 | 0x80;

/// An answer. Without a link address packets cannot be sent past the kernel, for now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hop {
    pub device: u32,
    pub address: [u8; 4],
    pub link: Option<Link>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// A neighbour has this address on the link from now on, or none.
    Neighbour { device: u32, address: [u8; 4], mac: Option<[u8; 6]> },
    /// Anything else that routes may depend on.
    Routes,
}

/// To ask by, and to hear changes by.
pub fn open() -> io::Result<[OwnedFd; 2]> {
    Ok([netlink(0)?, netlink(GROUPS)?])
}

fn netlink(groups: u32) -> io::Result<OwnedFd> {
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: the descriptor is new and ours; the address is whole.
    unsafe {
        let socket = OwnedFd::from_raw_fd(checked(libc::socket(libc::AF_NETLINK, kind, libc::NETLINK_ROUTE))?);
        let mut address: libc::sockaddr_nl = std::mem::zeroed();
        address.nl_family = libc::AF_NETLINK as u16;
        address.nl_groups = groups;
        let size = size_of::<libc::sockaddr_nl>() as u32;
        checked(libc::bind(socket.as_raw_fd(), (&raw const address).cast(), size))?;
        Ok(socket)
    }
}

/// The next hop of what goes between these IPv4 addresses with this mark and TOS. `None`: not by a way that can be
/// described so. `hops`: the machine's usual hop limit.
pub fn find(socket: RawFd, source: &Endpoint, destination: &Endpoint, tos: u8, mark: u32, hops: u8) -> Option<Hop> {
    let (from, to) = (first(&source.address), first(&destination.address));
    let mut body = vec![libc::AF_INET as u8, 32, 32, tos & 0xfc, 0, 0, 0, 0, 0, 0, 0, 0];
    attribute(&mut body, RTA_DST, &to);
    attribute(&mut body, RTA_SRC, &from);
    attribute(&mut body, RTA_MARK, &mark.to_ne_bytes());
    let answer = ask(socket, libc::RTM_GETROUTE, &body, libc::RTM_NEWROUTE)?;
    let (device, address, limit) = read_route(&answer)?;
    let mut hop = Hop { device, address: address.unwrap_or(to), link: None };
    let mut body = vec![libc::AF_INET as u8, 0, 0, 0];
    body.extend_from_slice(&device.to_ne_bytes());
    body.extend_from_slice(&[0; 4]);
    attribute(&mut body, NDA_DST, &hop.address);
    let answer = ask(socket, libc::RTM_GETNEIGH, &body, libc::RTM_NEWNEIGH);
    if let Some(Change::Neighbour { mac: Some(mac), .. }) = answer.and_then(|answer| read_neighbour(&answer, true)) {
        hop.link = Some(Link { device, mac, hops: limit.unwrap_or(hops) });
    }
    Some(hop)
}

fn first(address: &[u8; 16]) -> [u8; 4] {
    [address[0], address[1], address[2], address[3]]
}

fn attribute(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    body.extend_from_slice(&(4 + value.len() as u16).to_ne_bytes());
    body.extend_from_slice(&kind.to_ne_bytes());
    body.extend_from_slice(value);
    body.resize(body.len().next_multiple_of(4), 0);
}

/// The body of the answer; the kernel has it ready when the request was taken.
fn ask(socket: RawFd, kind: u16, body: &[u8], expected: u16) -> Option<Vec<u8>> {
    let mut message = Vec::with_capacity(NLMSG + body.len());
    message.extend_from_slice(&((NLMSG + body.len()) as u32).to_ne_bytes());
    message.extend_from_slice(&kind.to_ne_bytes());
    message.extend_from_slice(&(libc::NLM_F_REQUEST as u16).to_ne_bytes());
    message.extend_from_slice(&[0; 8]);
    message.extend_from_slice(body);
    let mut room = [0; 4096];
    // what was answered too late for whoever asked
    while receive(socket, &mut room).is_ok() {}
    // SAFETY: pointer and length describe `message`.
    checked(unsafe { libc::send(socket, message.as_ptr().cast(), message.len(), 0) }).ok()?;
    let length = receive(socket, &mut room).ok()?;
    let (found, body, _) = split(&room[..length])?;
    (found == expected).then(|| body.to_vec())
}

fn receive(socket: RawFd, room: &mut [u8]) -> io::Result<usize> {
    // SAFETY: pointer and length describe `room`.
    checked(unsafe { libc::recv(socket, room.as_mut_ptr().cast(), room.len(), libc::MSG_DONTWAIT) })
        .map(|length| length as usize)
}

/// Takes the changes that were told since the last call. True: there was at least one.
pub fn changes(socket: RawFd, mut change: impl FnMut(Change)) -> bool {
    let mut room = [0; 8192];
    let mut any = false;
    loop {
        match receive(socket, &mut room) {
            Ok(length) => {
                any = true;
                let mut rest = &room[..length];
                while let Some((kind, body, after)) = split(rest) {
                    rest = after;
                    let neighbour = match kind {
                        libc::RTM_NEWNEIGH => read_neighbour(body, true),
                        libc::RTM_DELNEIGH => read_neighbour(body, false),
                        _ => Some(Change::Routes),
                    };
                    // none: of another family
                    neighbour.into_iter().for_each(&mut change);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return any,
            // some were lost (ENOBUFS)
            Err(error) => {
                any = true;
                change(Change::Routes);
                if !matches!(error.raw_os_error(), Some(libc::ENOBUFS | libc::EINTR)) {
                    return any;
                }
            }
        }
    }
}

/// Kind and body of the first message, and what follows it.
fn split(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = u32::from_ne_bytes(*bytes.first_chunk()?) as usize;
    let kind = u16::from_ne_bytes([*bytes.get(4)?, *bytes.get(5)?]);
    let body = bytes.get(NLMSG..length)?;
    Some((kind, body, bytes.get(length.next_multiple_of(4)..).unwrap_or(&[])))
}

fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let [a, b, c, d] = *bytes.first_chunk()?;
        let length = usize::from(u16::from_ne_bytes([a, b]));
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or(&[]);
        // without the flags for nested ones and byte order
        Some((u16::from_ne_bytes([c, d]) & 0x3fff, value))
    })
}

/// Device, gateway and hop limit of a plain unicast route.
fn read_route(body: &[u8]) -> Option<(u32, Option<[u8; 4]>, Option<u8>)> {
    // rtm_type
    if *body.get(7)? != libc::RTN_UNICAST {
        return None;
    }
    let (mut device, mut gateway, mut hops) = (None, None, None);
    for (kind, value) in attributes(body.get(RTMSG..)?) {
        match kind {
            RTA_OIF => device = value.first_chunk().map(|value| u32::from_ne_bytes(*value)),
            RTA_GATEWAY => gateway = Some(*value.first_chunk()?),
            // what is put around the packet on its way
            RTA_VIA | RTA_ENCAP | RTA_MULTIPATH => return None,
            RTA_METRICS => {
                let limit = attributes(value).find(|(kind, _)| *kind == RTAX_HOPLIMIT);
                hops = limit.and_then(|(_, value)| value.first_chunk()).map(|value| u32::from_ne_bytes(*value) as u8);
            }
            _ => {}
        }
    }
    Some((device?, gateway, hops.filter(|hops| *hops != 0)))
}

/// `there` is false of one that was deleted. `None`: not of IPv4.
fn read_neighbour(body: &[u8], there: bool) -> Option<Change> {
    if i32::from(*body.first()?) != libc::AF_INET {
        return None;
    }
    let device = u32::from_ne_bytes(*body.get(4..)?.first_chunk()?);
    let state = u16::from_ne_bytes([*body.get(8)?, *body.get(9)?]);
    let (mut address, mut mac) = (None, None);
    for (kind, value) in attributes(body.get(NDMSG..)?) {
        match kind {
            NDA_DST => address = value.first_chunk().copied(),
            NDA_LLADDR => mac = value.try_into().ok(),
            _ => {}
        }
    }
    let mac = mac.filter(|_| there && state & VALID != 0);
    Some(Change::Neighbour { device, address: address?, mac })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(kind: u8, more: &[(u16, &[u8])]) -> Vec<u8> {
        let mut body = vec![2, 32, 0, 0, 254, 0, 0, kind, 0, 0, 0, 0];
        more.iter().for_each(|(kind, value)| attribute(&mut body, *kind, value));
        body
    }

    fn neighbour(family: i32, state: u16, mac: &[u8]) -> Vec<u8> {
        let mut body = vec![family as u8, 0, 0, 0, 7, 0, 0, 0, state as u8, 0, 0, 1];
        attribute(&mut body, NDA_DST, &[10, 0, 0, 2]);
        attribute(&mut body, NDA_LLADDR, mac);
        body
    }

    #[test]
    fn routes_are_read() {
        let device = (RTA_OIF, &[7u8, 0, 0, 0][..]);
        let gateway = (RTA_GATEWAY, &[10u8, 0, 0, 9][..]);
        let metrics: &[u8] = &[8, 0, RTAX_HOPLIMIT as u8, 0, 12, 0, 0, 0];
        assert_eq!(read_route(&route(1, &[device])), Some((7, None, None)));
        let all = route(1, &[gateway, (RTA_METRICS | 0x8000, metrics), device]);
        assert_eq!(read_route(&all), Some((7, Some([10, 0, 0, 9]), Some(12))));
        // local, blackhole; without a device; through something else
        for other in [route(2, &[device]), route(6, &[device]), route(1, &[gateway]), all[..8].to_vec(), vec![]] {
            assert_eq!(read_route(&other), None);
        }
        assert_eq!(read_route(&route(1, &[device, (RTA_ENCAP, &[1, 0, 0, 0])])), None);
        assert_eq!(read_route(&route(1, &[device, (RTA_VIA, &[10, 0, 1, 2])])), None);
    }

    #[test]
    fn neighbours_are_read() {
        let mac = [2, 0, 0, 0, 0, 1];
        let of = |mac| Some(Change::Neighbour { device: 7, address: [10, 0, 0, 2], mac });
        for state in [0x02, 0x04, 0x08, 0x10, 0x80] {
            assert_eq!(read_neighbour(&neighbour(libc::AF_INET, state, &mac), true), of(Some(mac)));
            assert_eq!(read_neighbour(&neighbour(libc::AF_INET, state, &mac), false), of(None));
        }
        // incomplete, failed; of another kind of link
        for (state, mac) in [(0x01, &mac[..]), (0x20, &mac[..]), (0x02, &[1; 20]), (0x02, &[])] {
            assert_eq!(read_neighbour(&neighbour(libc::AF_INET, state, mac), true), of(None));
        }
        assert_eq!(read_neighbour(&neighbour(libc::AF_INET6, 0x02, &mac), true), None);
    }

    #[test]
    fn the_kernel_answers() {
        let [routes, _] = open().expect("sockets of rtnetlink");
        let end = |last| Endpoint::v4([127, 0, 0, last], 0);
        // what is this machine's own does not leave it
        assert_eq!(find(routes.as_raw_fd(), &end(1), &end(1), 0, 0, 64), None);
    }
}
