//! The header before every packet of a TUN device with IFF_VNET_HDR (virtio 1.2, section 5.1.6; include/uapi/linux/virtio_net.h).
//! Numbers are in the machine's byte order (TUNSETVNETLE is not used).

pub const SIZE: usize = 10;
const NEEDS_CSUM: u8 = 1;
const GSO_TCPV4: u8 = 1;
const GSO_TCPV6: u8 = 4;
const GSO_UDP_L4: u8 = 5;
const GSO_ECN: u8 = 0x80;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gso {
    None,
    Tcp4,
    Tcp6,
    Udp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VirtioHeader {
    /// From `checksum_start` to the end is to be summed and written at `checksum_start + checksum_offset`, where the
    /// sum of the pseudo header stands already.
    pub needs_checksum: bool,
    pub gso: Gso,
    pub header_length: u16,
    /// Payload of one segment.
    pub segment: u16,
    pub checksum_start: u16,
    pub checksum_offset: u16,
}

impl VirtioHeader {
    pub const PLAIN: VirtioHeader = VirtioHeader {
        needs_checksum: false,
        gso: Gso::None,
        header_length: 0,
        segment: 0,
        checksum_start: 0,
        checksum_offset: 0,
    };

    pub fn decode(bytes: &[u8; SIZE]) -> Option<VirtioHeader> {
        let number = |at: usize| u16::from_ne_bytes([bytes[at], bytes[at + 1]]);
        let gso = match bytes[1] & !GSO_ECN {
            0 => Gso::None,
            GSO_TCPV4 => Gso::Tcp4,
            GSO_TCPV6 => Gso::Tcp6,
            GSO_UDP_L4 => Gso::Udp,
            _ => return None,
        };
        Some(VirtioHeader {
            needs_checksum: bytes[0] & NEEDS_CSUM != 0,
            gso,
            header_length: number(2),
            segment: number(4),
            checksum_start: number(6),
            checksum_offset: number(8),
        })
    }

    pub fn encode(&self) -> [u8; SIZE] {
        let mut bytes = [0; SIZE];
        bytes[0] = if self.needs_checksum { NEEDS_CSUM } else { 0 };
        bytes[1] = match self.gso {
            Gso::None => 0,
            Gso::Tcp4 => GSO_TCPV4,
            Gso::Tcp6 => GSO_TCPV6,
            Gso::Udp => GSO_UDP_L4,
        };
        for (at, number) in
            [(2, self.header_length), (4, self.segment), (6, self.checksum_start), (8, self.checksum_offset)]
        {
            bytes[at..at + 2].copy_from_slice(&number.to_ne_bytes());
        }
        bytes
    }
}
