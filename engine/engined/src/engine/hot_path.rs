//! That an ordinary packet costs neither an allocation nor a lock: two engines in this process, with socket pairs in the
//! place of TUN devices and UDP on the loopback device between them. Allocations of their packet threads are counted,
//! and all locks are held by the test while packets cross.

use super::counters::Counter;
use super::ipsec::Memory;
use super::kind::Kind;
use super::shared::Shared;
use super::state::State;
use crate::counting::count_here;
use pellicle_net::memory::{Mapping, create};
use pellicle_net::{clock, udp};
use pellicle_proto::checksum::Sum;
use pellicle_proto::endpoint::{Endpoint, Outer};
use pellicle_proto::prefix::Prefix;
use pellicle_proto::request::{AssociationKeys, NewReceiving, NewSending, NewSession, Order, Place, Request, Role};
use pellicle_proto::virtio::{Gso, SIZE, VirtioHeader};
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixDatagram;
use std::sync::atomic::{AtomicU64, Ordering::*};
use std::time::Duration;

const LOOPBACK: [u8; 4] = [127, 0, 0, 1];
const SEGMENT: usize = 1380;

struct End<K: Kind> {
    shared: Shared<K>,
    /// The kernel's side of the device.
    kernel: UnixDatagram,
    _device: UnixDatagram,
    socket: UdpSocket,
}

impl<K: Kind> End<K> {
    fn new(state: K) -> End<K> {
        let (kernel, device) = UnixDatagram::pair().expect("a pair");
        device.set_nonblocking(true).expect("non-blocking");
        // for ever: nothing here waits for time to pass
        kernel.set_read_timeout(Some(Duration::from_secs(60))).expect("a timeout");
        let (socket, features) = udp::bind(4, 0, 0).expect("a socket");
        let fds = [socket.as_raw_fd(), -1];
        let shared = Shared::new(state, device.as_raw_fd(), fds, 1420, false, features.segment).expect("shared");
        End { shared, kernel, _device: device, socket: socket.into() }
    }

    fn port(&self) -> u16 {
        self.socket.local_addr().expect("its address").port()
    }

    fn order(&self, order: Order) {
        K::carry_out(&self.shared, &Request { id: 1, order }, &mut Vec::new());
    }

    /// As the kernel would give it to the device.
    fn send(&self, frame: &[u8]) {
        self.kernel.send(frame).expect("sent");
    }

    /// Until so many bytes came out of the device, headers of packets apart.
    fn receive(&self, bytes: usize) {
        let mut frame = vec![0; SIZE + 65_536];
        let mut left = bytes;
        while left > 0 {
            let length = self.kernel.recv(&mut frame).expect("a packet comes within a minute");
            left -= length - SIZE - headers(frame[SIZE + 9]);
        }
    }
}

/// Of IPv4 and what is in it.
fn headers(protocol: u8) -> usize {
    if protocol == 6 { 40 } else { 28 }
}

fn address(end: u8) -> [u8; 4] {
    [10, 9, 0, end]
}

fn ipv4(from: u8, protocol: u8, payload: usize) -> Vec<u8> {
    let total = (headers(protocol) + payload) as u16;
    let mut packet = vec![0x45, 0];
    packet.extend_from_slice(&total.to_be_bytes());
    packet.extend_from_slice(&[0, 1, 0, 0, 64, protocol, 0, 0]);
    packet.extend_from_slice(&address(from));
    packet.extend_from_slice(&address(1 - from));
    let check = Sum::default().plus(&packet).checksum();
    packet[10..12].copy_from_slice(&check);
    packet
}

fn small(from: u8, payload: usize) -> Vec<u8> {
    let mut packet = [&VirtioHeader::PLAIN.encode()[..], &ipv4(from, 17, payload)].concat();
    packet.extend_from_slice(&[0, 7, 0, 9]);
    packet.extend_from_slice(&((8 + payload) as u16).to_be_bytes());
    packet.resize(SIZE + headers(17) + payload, 0);
    packet
}

/// A super packet of TCP.
fn large(from: u8, payload: usize) -> Vec<u8> {
    let header = VirtioHeader {
        needs_checksum: true,
        gso: Gso::Tcp4,
        header_length: headers(6) as u16,
        segment: SEGMENT as u16,
        checksum_start: 20,
        checksum_offset: 16,
    };
    let packet = ipv4(from, 6, payload);
    let pseudo = Sum::default().plus(&packet[12..20]).plus_u32(20 + payload as u32).plus_u32(6).fold();
    let mut frame = [&header.encode()[..], &packet].concat();
    frame.extend_from_slice(&[0, 7, 0, 9, 0, 0, 0, 1, 0, 0, 0, 2, 0x50, 0x10, 1, 0]);
    frame.extend_from_slice(&pseudo);
    frame.resize(SIZE + headers(6) + payload, 0);
    frame
}

/// Ends the threads, also when the test fails in the middle.
struct Stop<'a, K: Kind>(&'a [End<K>; 2]);

impl<K: Kind> Drop for Stop<'_, K> {
    fn drop(&mut self) {
        for End { shared, .. } in self.0 {
            shared.stop.store(true, SeqCst);
            shared.wake_outbound.notify();
            shared.wake_inbound.notify();
        }
    }
}

/// `join` gives an end, by its number, the other one as its peer 0, which has that port.
fn prove<K: Kind>(ends: [End<K>; 2], join: impl Fn(&End<K>, u8, u16), counter: &'static AtomicU64) {
    let ports = ends.each_ref().map(End::port);
    for (number, end) in ends.iter().enumerate() {
        // nobody waits for threads that do not run yet
        end.shared.stop.store(true, SeqCst);
        let prefix = Prefix::new(4, 32, {
            let mut bytes = [0; 16];
            bytes[..4].copy_from_slice(&address(1 - number as u8));
            bytes
        });
        let endpoint = Endpoint::v4(LOOPBACK, ports[1 - number]);
        end.order(Order::SetPeer { peer: 0, public_key: [number as u8 + 1; 32], endpoint });
        end.order(Order::Allow { peer: 0, prefixes: vec![prefix.expect("a prefix")] });
        join(end, number as u8, ports[1 - number]);
        end.shared.stop.store(false, SeqCst);
    }
    // More at once than comes later, so that everything that grows has grown: messages that nobody understands, as many
    // packets as are read together, and one super packet.
    let stranger = UdpSocket::bind((std::net::Ipv4Addr::LOCALHOST, 0)).expect("a socket");
    let lengths = || 100..160;
    let most = 44 * SEGMENT;
    for (number, end) in ends.iter().enumerate() {
        for length in 2..34 {
            stranger.send_to(&[0xee; 34][..length], (std::net::Ipv4Addr::LOCALHOST, ports[number])).expect("sent");
        }
        end.send(&large(number as u8, most));
        lengths().for_each(|length| end.send(&small(number as u8, length)));
    }
    std::thread::scope(|scope| {
        let _stop = Stop(&ends);
        let start = |end: &'static str, work: fn(&Shared<K>), shared| {
            std::thread::Builder::new()
                .name(end.into())
                .spawn_scoped(scope, move || {
                    count_here(counter);
                    work(shared);
                })
                .expect("a thread");
        };
        ends.iter().for_each(|end| start("outbound", K::outbound, &end.shared));
        // all of it waits when the first look at the socket is taken
        let sent = |end: &End<K>| end.shared.counters().0[Counter::PacketsSent as usize].load(SeqCst);
        while ends.iter().any(|end| sent(end) < 44 + lengths().len() as u64) {
            std::thread::sleep(Duration::from_millis(1));
        }
        ends.iter().for_each(|end| start("inbound", K::inbound, &end.shared));
        ends.iter().for_each(|end| end.receive(most + lengths().sum::<usize>()));
        let exchange = |times: usize| {
            for _ in 0..times {
                for (number, end) in ends.iter().enumerate() {
                    end.send(&large(number as u8, 20 * SEGMENT));
                    lengths().take(10).for_each(|length| end.send(&small(number as u8, length)));
                }
                ends.iter().for_each(|end| end.receive(20 * SEGMENT + lengths().take(10).sum::<usize>()));
            }
        };
        exchange(20);
        let before = counter.load(SeqCst);
        assert!(before > 0, "their buffers were counted");
        let held = ends.each_ref().map(|End { shared, .. }| {
            let writer = shared.endpoint_writer.lock().expect("a lock");
            (writer, shared.notices.hold(), shared.errands.hold(), shared.links.hold())
        });
        exchange(200);
        drop(held);
        assert_eq!(counter.load(SeqCst), before, "packets were allocated for");
    });
}

#[test]
fn packets_of_wireguard_cost_no_allocation_and_no_lock() {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let ends = [1, 2].map(|instance| {
        let memory = create(c"pellicle-test", State::size(1)).expect("shared memory");
        End::new(State::format(Mapping::new(&memory).expect("a mapping"), 1, [instance; 16]))
    });
    let join = |end: &End<State>, number: u8, _port: u16| {
        let (own, other) = (number + 1, 2 - number);
        end.order(Order::SetSession(NewSession {
            peer: 0,
            place: Place::Current,
            role: if number == 0 { Role::Initiator } else { Role::Responder },
            local: own.into(),
            remote: other.into(),
            born: clock::now(),
            send_key: [own; 32],
            receive_key: [other; 32],
        }));
    };
    prove(ends, join, &COUNTER);
}

#[test]
fn packets_of_ipsec_cost_no_allocation_and_no_lock() {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let ends = [1, 2].map(|instance| {
        let memory = create(c"pellicle-test", Memory::size(1)).expect("shared memory");
        End::new(Memory::format(Mapping::new(&memory).expect("a mapping"), 1, [instance; 16]))
    });
    let join = |end: &End<Memory>, number: u8, port: u16| {
        let (own, other) = (number + 1, 2 - number);
        let outer = Outer { source: Endpoint::v4(LOOPBACK, 0), destination: Endpoint::v4(LOOPBACK, 0) };
        let [sending, receiving] = [[own; 20], [other; 20]];
        let keys = |encryption| AssociationKeys { algorithm: 1, icv: 16, encryption, authentication: &[] };
        let spi = |end: u8| 0x100 + u32::from(end);
        end.order(Order::SetReceiving(NewReceiving { peer: 0, spi: spi(own), outer, keys: keys(&receiving) }));
        let udp = Some(port);
        end.order(Order::SetSending(NewSending { peer: 0, spi: spi(other), udp, outer, keys: keys(&sending) }));
        end.shared.state.peers()[0].heard.store(1, SeqCst);
    };
    prove(ends, join, &COUNTER);
}
