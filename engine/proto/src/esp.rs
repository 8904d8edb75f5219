//! ESP packets (RFC 4303) around what is encrypted: header, trailer, 64-bit sequence numbers, ESP in UDP (RFC 3948).
//! Layout: SPI, low half of the sequence number | IV | text, padding, pad length, next header | ICV.

use crate::ecn;

/// SPI and the low half of the sequence number.
pub const HEADER: usize = 8;
/// Pad length and next header.
pub const TRAILER: usize = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub spi: u32,
    pub sequence_low: u32,
}

/// Undefined when shorter than a header, or of SPI 0, which never is on the wire (section 2.1).
#[inline]
pub fn read_header(packet: &[u8]) -> Option<Header> {
    let (spi, rest) = packet.split_first_chunk::<4>()?;
    let (low, _) = rest.split_first_chunk::<4>()?;
    let header = Header { spi: u32::from_be_bytes(*spi), sequence_low: u32::from_be_bytes(*low) };
    (header.spi != 0).then_some(header)
}

/// What the text of tunnel mode is, by its next header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inner {
    Ipv4 = 4,
    Ipv6 = 41,
    /// Section 2.6: to be dropped without a word.
    Dummy = 59,
}

impl Inner {
    #[inline]
    pub fn from_next_header(number: u8) -> Option<Inner> {
        match number {
            4 => Some(Inner::Ipv4),
            41 => Some(Inner::Ipv6),
            59 => Some(Inner::Dummy),
            _ => None,
        }
    }
}

/// Bytes of `text` with its trailer: a multiple of `block`, at least 4 (section 2.4).
#[inline]
pub fn padded_length(text: usize, block: usize) -> usize {
    (text + TRAILER).next_multiple_of(block)
}

/// Bytes of the whole ESP packet.
#[inline]
pub fn sealed_length(text: usize, block: usize, iv: usize, icv: usize) -> usize {
    HEADER + iv + padded_length(text, block) + icv
}

/// Fills `padded` behind the first `text` bytes; its length is `padded_length`'s.
///
/// # Panics
/// When there is no room for a trailer, or more than 255 bytes of padding.
#[inline]
pub fn write_trailer(padded: &mut [u8], text: usize, inner: Inner) {
    let [padding @ .., pad_length, next_header] = &mut padded[text..] else { panic!("no room for a trailer") };
    assert!(padding.len() <= 255);
    for (index, byte) in padding.iter_mut().enumerate() {
        *byte = index as u8 + 1;
    }
    *pad_length = padding.len() as u8;
    *next_header = inner as u8;
}

/// Length of the text before its trailer, and next header. Undefined when the padding is not 1, 2, 3, … or longer than
/// what there is. The text may be longer than the IP packet in it (section 2.7).
#[inline]
pub fn read_trailer(padded: &[u8]) -> Option<(usize, u8)> {
    let [before @ .., pad_length, next_header] = padded else { return None };
    let text = before.len().checked_sub(usize::from(*pad_length))?;
    let right = before[text..].iter().zip(1..=255).all(|(byte, expected)| *byte == expected);
    right.then_some((text, *next_header))
}

/// The whole sequence number of a packet: the first one with that low half that the window does not lie behind (appendix
/// A2.2, without its cases). `highest`: the highest one that was authenticated, 0 before the first; `window`: so many
/// before it can still be taken (`replay::WINDOW`). Undefined: 0, which is never sent, and what lies behind the last.
#[inline]
pub fn sequence(low: u32, highest: u64, window: u64) -> Option<u64> {
    let bottom = highest.saturating_sub(window);
    let ahead = low.wrapping_sub(bottom as u32);
    bottom.checked_add(u64::from(ahead)).filter(|sequence| *sequence != 0)
}

/// What comes to the UDP port of ESP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Datagram {
    Esp(Header),
    /// Behind a marker of four zero bytes (RFC 3948, section 2.2).
    Ike,
    /// One byte 0xff (section 2.3): keeps a NAT's memory fresh, nothing to answer.
    Keepalive,
    Unknown,
}

#[inline]
pub fn classify(datagram: &[u8]) -> Datagram {
    match datagram {
        [0xff] => Datagram::Keepalive,
        [0, 0, 0, 0, _, ..] => Datagram::Ike,
        _ => read_header(datagram).map_or(Datagram::Unknown, Datagram::Esp),
    }
}

/// Traffic class outside (RFC 4301, section 5.1.2; RFC 6040): DSCP copied, ECN in normal mode.
#[inline]
pub fn outer_class(inner: u8) -> u8 {
    inner & !3 | ecn::encapsulate(inner)
}

/// What the inner traffic class becomes: its own DSCP, and what the way says of congestion. Undefined: to be dropped.
#[inline]
pub fn inner_class(inner: u8, outer: u8) -> Option<u8> {
    Some(inner & !3 | ecn::decapsulate(inner, outer)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_a_header() {
        let header = Header { spi: 3, sequence_low: 0x0102_0304 };
        assert_eq!(read_header(&[0, 0, 0, 3, 1, 2, 3, 4, 9]), Some(header));
        assert_eq!(read_header(&[0, 0, 0, 3, 1, 2, 3]), None);
        assert_eq!(read_header(&[0, 0, 0, 0, 1, 2, 3, 4]), None);
    }

    #[test]
    fn pads_to_the_block() {
        assert_eq!((padded_length(0, 4), padded_length(2, 4), padded_length(3, 4)), (4, 4, 8));
        assert_eq!((padded_length(14, 16), padded_length(15, 16)), (16, 32));
        assert_eq!(sealed_length(84, 4, 8, 16), 8 + 8 + 88 + 16);
        assert_eq!(sealed_length(84, 16, 16, 32), 8 + 16 + 96 + 32);
        let mut padded = [9; 16];
        write_trailer(&mut padded, 10, Inner::Ipv6);
        assert_eq!(padded, [9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 1, 2, 3, 4, 4, 41]);
        assert_eq!(read_trailer(&padded), Some((10, 41)));
    }

    #[test]
    fn refuses_wrong_padding() {
        assert_eq!(read_trailer(&[1, 2, 3, 3, 4]), Some((0, 4)));
        for wrong in [&[1, 2, 4, 3, 4][..], &[0, 1, 2, 3, 4], &[0, 0, 0, 3, 4], &[1, 2, 4, 4], &[4], &[]] {
            assert_eq!(read_trailer(wrong), None, "{wrong:?}");
        }
        assert_eq!(read_trailer(&[0, 4]), Some((0, 4)));
    }

    #[test]
    fn next_headers() {
        let known: Vec<u8> = (0..=255).filter(|number| Inner::from_next_header(*number).is_some()).collect();
        assert_eq!(known, [4, 41, 59]);
        assert!(known.iter().all(|number| Inner::from_next_header(*number).map(|inner| inner as u8) == Some(*number)));
    }

    #[test]
    fn sequences_of_appendix_a() {
        let epoch = 1 << 32;
        // the window within one epoch (case A)
        assert_eq!(sequence(100, 100, 63), Some(100));
        assert_eq!(sequence(37, 100, 63), Some(37));
        assert_eq!(sequence(36, 100, 63), Some(epoch + 36));
        assert_eq!(sequence(u32::MAX, 100, 63), Some(epoch - 1));
        // the window reaches back into the last epoch (case B)
        assert_eq!(sequence(u32::MAX, epoch + 10, 63), Some(epoch - 1));
        assert_eq!(sequence(u32::MAX - 52, epoch + 10, 63), Some(epoch - 53));
        assert_eq!(sequence(u32::MAX - 53, epoch + 10, 63), Some(2 * epoch - 54));
        assert_eq!(sequence(0, epoch + 10, 63), Some(epoch));
        // the first packets, and the ends
        assert_eq!(sequence(1, 0, 63), Some(1));
        assert_eq!(sequence(0, 0, 63), None);
        assert_eq!(sequence(0, 100, 63), Some(epoch));
        assert_eq!(sequence(5, u64::MAX, 63), None);
        assert_eq!(sequence(u32::MAX, u64::MAX, 63), Some(u64::MAX));
    }

    #[test]
    fn tells_datagrams_apart() {
        assert_eq!(classify(&[0xff]), Datagram::Keepalive);
        assert_eq!(classify(&[0, 0, 0, 0, 1, 2]), Datagram::Ike);
        assert_eq!(classify(&[0, 0, 0, 3, 0, 0, 0, 1]), Datagram::Esp(Header { spi: 3, sequence_low: 1 }));
        for unknown in [&[][..], &[0], &[0xff, 0xff], &[0, 0, 0, 0], &[0, 0, 0, 3, 0, 0, 0]] {
            assert_eq!(classify(unknown), Datagram::Unknown, "{unknown:?}");
        }
    }

    #[test]
    fn traffic_classes() {
        assert_eq!(outer_class(0xb9), 0xb9);
        assert_eq!(inner_class(0xba, 0x03), Some(0xbb));
        assert_eq!(inner_class(0xb8, 0x03), None);
        assert_eq!(inner_class(0xb8, 0xfc), Some(0xb8));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            classify(&bytes);
            if let Some((text, _)) = read_trailer(&bytes) {
                prop_assert!(text + TRAILER <= bytes.len());
            }
        }

        #[test]
        fn trailers_there_and_back(text in 0usize..2000, block in prop_oneof![Just(4usize), Just(16)], ipv6 in any::<bool>()) {
            let inner = if ipv6 { Inner::Ipv6 } else { Inner::Ipv4 };
            let mut padded = vec![0xee; padded_length(text, block)];
            prop_assert!(padded.len().is_multiple_of(block) && padded.len() - text - TRAILER < block);
            write_trailer(&mut padded, text, inner);
            prop_assert_eq!(read_trailer(&padded), Some((text, inner as u8)));
        }

        /// What is less than half of 2^32 ahead, or inside the window, is told from its low half.
        #[test]
        fn finds_what_is_near(highest in prop_oneof![0u64..1 << 34, any::<u64>()], distance in 0u64..1 << 31, window in 0u64..10_000, back in any::<bool>()) {
            let sent = if back { highest.checked_sub(distance % (window + 1)) } else { highest.checked_add(distance) };
            if let Some(sent) = sent.filter(|sent| *sent > 0) {
                prop_assert_eq!(sequence(sent as u32, highest, window), Some(sent));
            }
        }
    }
}
