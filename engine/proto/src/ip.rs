//! The inner IP header: as much as tunnelling needs. Every function checks the lengths that it reads.

use crate::checksum::Sum;

pub const TCP: u8 = 6;
pub const UDP: u8 = 17;

/// What was found at the front of a packet that is at least as long as its header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub family: u8,
    /// The length by the header: what follows in the buffer is padding.
    pub total: usize,
    /// Left-aligned as in `Prefix`.
    pub source: u128,
    pub destination: u128,
    pub ecn: u8,
}

/// `None` unless the bytes begin with a whole IPv4 or IPv6 packet.
#[inline]
pub fn parse(packet: &[u8]) -> Option<Header> {
    match packet.first()? >> 4 {
        4 => {
            let header = packet.first_chunk::<20>()?;
            let total = usize::from(u16::from_be_bytes([header[2], header[3]]));
            let own = usize::from(header[0] & 15) * 4;
            let address = |at: usize| {
                u128::from(u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])) << 96
            };
            (own >= 20 && total >= own && total <= packet.len()).then(|| Header {
                family: 4,
                total,
                source: address(12),
                destination: address(16),
                ecn: header[1] & 3,
            })
        }
        6 => {
            let header = packet.first_chunk::<40>()?;
            let total = 40 + usize::from(u16::from_be_bytes([header[4], header[5]]));
            let (_, addresses) = header.split_at(8);
            let (source, destination) = addresses.split_at(16);
            (total <= packet.len()).then(|| Header {
                family: 6,
                total,
                source: number(source),
                destination: number(destination),
                ecn: header[1] >> 4 & 3,
            })
        }
        _ => None,
    }
}

fn number(bytes: &[u8]) -> u128 {
    bytes.iter().fold(0, |sum, byte| sum << 8 | u128::from(*byte))
}

/// Writes the ECN field of a packet that `parse` accepted, and mends the IPv4 header's checksum (RFC 1624, equation 3).
pub fn set_ecn(packet: &mut [u8], ecn: u8) {
    if packet[0] >> 4 == 6 {
        packet[1] = packet[1] & !0x30 | (ecn & 3) << 4;
        return;
    }
    let old = u16::from_be_bytes([packet[0], packet[1]]);
    packet[1] = packet[1] & !3 | ecn & 3;
    let new = u16::from_be_bytes([packet[0], packet[1]]);
    let check = u16::from_be_bytes([packet[10], packet[11]]);
    let mut sum = u32::from(!check) + u32::from(!old) + u32::from(new);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    packet[10..12].copy_from_slice(&(!(sum as u16)).to_be_bytes());
}

/// The sum over the pseudo header of TCP and UDP (RFC 9293, section 3.1; RFC 8200, section 8.1). `ip` is a whole IP header.
#[inline]
pub fn pseudo_sum(ip: &[u8], protocol: u8, length: usize) -> Sum {
    let addresses = if ip[0] >> 4 == 4 { &ip[12..20] } else { &ip[8..40] };
    Sum::default().plus(addresses).plus_u32(u32::from(protocol)).plus_u32(length as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checksum::reference::ones_sum;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn parse_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            if let Some(header) = parse(&bytes) {
                prop_assert!(header.total <= bytes.len());
            }
        }

        #[test]
        fn ecn_keeps_the_checksum_right(mut bytes in prop::collection::vec(any::<u8>(), 20..60), ecn in 0u8..4) {
            bytes[0] = 0x45;
            bytes[2..4].copy_from_slice(&20u16.to_be_bytes());
            bytes[10..12].fill(0);
            let check = !ones_sum(&[&bytes[..20]]);
            bytes[10..12].copy_from_slice(&check.to_be_bytes());
            set_ecn(&mut bytes, ecn);
            prop_assert_eq!(ones_sum(&[&bytes[..20]]), 0xffff);
            prop_assert_eq!(parse(&bytes).map(|header| header.ecn), Some(ecn));
        }

        #[test]
        fn ecn_of_ipv6(mut bytes in prop::collection::vec(any::<u8>(), 40..60), ecn in 0u8..4) {
            bytes[0] = 0x60 | bytes[0] & 15;
            bytes[4..6].fill(0);
            let before = bytes.clone();
            set_ecn(&mut bytes, ecn);
            prop_assert_eq!(parse(&bytes).map(|header| header.ecn), Some(ecn));
            bytes[1] = bytes[1] & !0x30 | before[1] & 0x30;
            prop_assert_eq!(bytes, before);
        }
    }
}
