//! WireGuard messages on the wire (paper, section 5.4). Type and three reserved zero bytes, then what the type says.

/// Type, receiver index, counter.
pub const HEADER: usize = 16;
pub const TAG: usize = 16;
/// What a data message adds to the padded packet.
pub const OVERHEAD: usize = HEADER + TAG;

#[derive(Debug, PartialEq, Eq)]
pub enum Message {
    /// Types 1, 2, 3 of the right length: the keeper's.
    Handshake,
    Data {
        receiver: u32,
        counter: u64,
    },
    Unknown,
}

#[inline]
pub fn classify(datagram: &[u8]) -> Message {
    let Some((kind, rest)) = datagram.split_first_chunk::<4>() else { return Message::Unknown };
    match (u32::from_le_bytes(*kind), datagram.len()) {
        (4, length) if length >= OVERHEAD => {
            let Some((receiver, rest)) = rest.split_first_chunk::<4>() else { return Message::Unknown };
            let Some((counter, _)) = rest.split_first_chunk::<8>() else { return Message::Unknown };
            Message::Data { receiver: u32::from_le_bytes(*receiver), counter: u64::from_le_bytes(*counter) }
        }
        (1, 148) | (2, 92) | (3, 64) => Message::Handshake,
        _ => Message::Unknown,
    }
}

#[inline]
pub fn write_header(out: &mut [u8; HEADER], receiver: u32, counter: u64) {
    out[..4].copy_from_slice(&[4, 0, 0, 0]);
    out[4..8].copy_from_slice(&receiver.to_le_bytes());
    out[8..].copy_from_slice(&counter.to_le_bytes());
}

/// The length of a packet with its padding: a multiple of 16, but never beyond the device's MTU
/// (as the kernel's `calculate_skb_padding`; a packet longer than the MTU is padded by its last piece).
#[inline]
pub fn padded(length: usize, mtu: usize) -> usize {
    if mtu == 0 {
        return length.next_multiple_of(16);
    }
    let last = if length > mtu { length % mtu } else { length };
    length - last + last.next_multiple_of(16).min(mtu)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pads_to_16_up_to_the_mtu() {
        assert_eq!(padded(0, 1420), 0);
        assert_eq!(padded(1, 1420), 16);
        assert_eq!(padded(84, 1420), 96);
        assert_eq!(padded(1409, 1420), 1420);
        assert_eq!(padded(1420, 1420), 1420);
        assert_eq!(padded(1421, 1420), 1436);
    }

    #[test]
    fn wants_exact_lengths() {
        let mut bytes = [0u8; 200];
        for kind in 0..6u8 {
            bytes[0] = kind;
            for length in 0..200 {
                let expected = match kind {
                    1 if length == 148 => "handshake",
                    2 if length == 92 => "handshake",
                    3 if length == 64 => "handshake",
                    4 if length >= 32 => "data",
                    _ => "unknown",
                };
                let found = match classify(&bytes[..length]) {
                    Message::Handshake => "handshake",
                    Message::Data { .. } => "data",
                    Message::Unknown => "unknown",
                };
                assert_eq!(found, expected, "type {kind}, {length} bytes");
            }
        }
        bytes[0] = 4;
        bytes[3] = 1;
        assert_eq!(classify(&bytes[..64]), Message::Unknown);
    }
}
