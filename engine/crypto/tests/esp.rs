//! ESP's ciphers: packets of others (test/vectors/esp-packets.json), every algorithm there and back, nothing else back.

use pellicle_crypto::esp::{Algorithm, Association, BadKey, Forged, HEADER, Packet};
use pellicle_proto::esp::{self, Inner};
use proptest::prelude::*;
use serde_json::Value;

fn hex(text: &Value) -> Vec<u8> {
    let text = text.as_str().expect("text").as_bytes();
    let digit = |byte: u8| (byte as char).to_digit(16).expect("hex") as u8;
    text.chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}

/// Every algorithm with every key size and ICV: algorithm, ICV, bytes of encryption and authentication key.
const KINDS: [(Algorithm, usize, usize, usize); 20] = [
    (Algorithm::AesGcm, 16, 20, 0),
    (Algorithm::AesGcm, 16, 28, 0),
    (Algorithm::AesGcm, 16, 36, 0),
    (Algorithm::AesGcm, 12, 20, 0),
    (Algorithm::AesGcm, 12, 28, 0),
    (Algorithm::AesGcm, 12, 36, 0),
    (Algorithm::AesGcm, 8, 20, 0),
    (Algorithm::AesGcm, 8, 28, 0),
    (Algorithm::AesGcm, 8, 36, 0),
    (Algorithm::ChaCha20Poly1305, 16, 36, 0),
    (Algorithm::AesCbcHmacSha256, 16, 16, 32),
    (Algorithm::AesCbcHmacSha256, 16, 24, 16),
    (Algorithm::AesCbcHmacSha256, 16, 32, 128),
    (Algorithm::AesCbcHmacSha256, 12, 16, 32),
    (Algorithm::AesCbcHmacSha384, 24, 16, 48),
    (Algorithm::AesCbcHmacSha384, 24, 24, 48),
    (Algorithm::AesCbcHmacSha384, 24, 32, 48),
    (Algorithm::AesCbcHmacSha512, 32, 16, 64),
    (Algorithm::AesCbcHmacSha512, 32, 24, 64),
    (Algorithm::AesCbcHmacSha512, 32, 32, 64),
];

fn key(length: usize, seed: u8) -> Vec<u8> {
    (0..length).map(|index| (index as u8).wrapping_mul(37).wrapping_add(seed)).collect()
}

fn association((algorithm, icv, encryption, authentication): (Algorithm, usize, usize, usize)) -> Association {
    Association::new(algorithm, icv, &key(encryption, 1), &key(authentication, 2)).expect("a legal key")
}

/// A packet with rooms around a text of IPv4 with its trailer.
fn packet(association: &Association, text: usize, byte: u8) -> Vec<u8> {
    let padded = esp::padded_length(text, association.block());
    let from = HEADER + association.iv_len();
    let mut packet = vec![byte; from + padded + association.icv_len()];
    assert_eq!(
        packet.len(),
        esp::sealed_length(text, association.block(), association.iv_len(), association.icv_len())
    );
    esp::write_trailer(&mut packet[from..from + padded], text, Inner::Ipv4);
    packet
}

fn text<'a>(association: &Association, packet: &'a [u8]) -> &'a [u8] {
    &packet[HEADER + association.iv_len()..packet.len() - association.icv_len()]
}

#[test]
fn packets_of_others() {
    let vectors: Value =
        serde_json::from_str(include_str!("../../../test/vectors/esp-packets.json")).expect("the vectors are JSON");
    let vectors = vectors["packets"].as_array().expect("a list");
    assert_eq!(vectors.len(), 29);
    for vector in vectors {
        let name = &vector["name"];
        let number = |field: &str| vector[field].as_u64().expect("a number");
        let algorithm = Algorithm::from_number(number("algorithm") as u8).expect("known");
        let (encryption, authentication) = (hex(&vector["encryption"]), hex(&vector["authentication"]));
        let association = Association::new(algorithm, number("icv") as usize, &encryption, &authentication);
        let association = match vector["extended"].as_bool() {
            Some(true) => association.expect("a legal key"),
            _ => association.expect("a legal key").without_extended_sequence(),
        };
        let sequence: u64 = vector["sequence"].as_str().and_then(|text| text.parse().ok()).expect("a number");
        let spi = number("spi") as u32;
        let genuine = hex(&vector["packet"]);
        let mut opened = genuine.clone();
        assert_eq!(association.open(spi, sequence, &mut opened), Ok(()), "{name}");
        assert_eq!(text(&association, &opened), hex(&vector["text"]), "{name}");

        // sealed by the same code it is the same but for the IV, which is ours to choose
        association.seal(spi, sequence, &mut opened);
        assert_eq!(opened[..HEADER], genuine[..HEADER], "{name}");
        let iv = HEADER..HEADER + association.iv_len();
        assert_eq!(opened[iv.clone()] == genuine[iv], opened == genuine, "{name}");
        assert_eq!(association.open(spi, sequence, &mut opened), Ok(()), "{name}");
        assert_eq!(text(&association, &opened), hex(&vector["text"]), "{name}");
    }
}

/// HMAC of the library itself: RFC 4231, test cases 1 and 6 (a key longer than the block of SHA-256).
#[test]
fn rfc_4231() {
    use ring::hmac;
    let starts = |algorithm, key: &[u8], text: &[u8], expected: [u8; 8]| {
        assert_eq!(hmac::sign(&hmac::Key::new(algorithm, key), text).as_ref()[..8], expected);
    };
    starts(hmac::HMAC_SHA256, &[0x0b; 20], b"Hi There", 0xb034_4c61_d8db_3853_u64.to_be_bytes());
    starts(hmac::HMAC_SHA384, &[0x0b; 20], b"Hi There", 0xafd0_3944_d848_9562_u64.to_be_bytes());
    starts(hmac::HMAC_SHA512, &[0x0b; 20], b"Hi There", 0x87aa_7cde_a5ef_619d_u64.to_be_bytes());
    let text = b"Test Using Larger Than Block-Size Key - Hash Key First";
    starts(hmac::HMAC_SHA256, &[0xaa; 131], text, 0x60e4_3159_1ee0_b67f_u64.to_be_bytes());
    starts(hmac::HMAC_SHA512, &[0xaa; 131], text, 0x80b2_4263_c7c1_a3eb_u64.to_be_bytes());
}

#[test]
fn there_and_back_at_every_length() {
    for kind in KINDS {
        let association = association(kind);
        for length in (0..130).chain([1400, 9000, 65_000]) {
            let sent = packet(&association, length, 0x5a);
            let sequence = 0x0001_0000_0000 + length as u64;
            let mut made = sent.clone();
            association.seal(0x3003, sequence, &mut made);
            assert_eq!(esp::read_header(&made), Some(esp::Header { spi: 0x3003, sequence_low: length as u32 }));
            assert_ne!(text(&association, &made), text(&association, &sent));
            assert_eq!(association.open(0x3003, sequence, &mut made), Ok(()), "{kind:?} {length}");
            assert_eq!(text(&association, &made), text(&association, &sent));
            assert_eq!(esp::read_trailer(text(&association, &made)), Some((length, 4)));
        }
    }
}

#[test]
fn every_flipped_bit_is_refused() {
    for kind in KINDS {
        let association = association(kind);
        let mut sealed = packet(&association, 40, 9);
        association.seal(7, 1 << 40 | 3, &mut sealed);
        for bit in 0..sealed.len() * 8 {
            let mut forged = sealed.clone();
            forged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(association.open(7, 1 << 40 | 3, &mut forged), Err(Forged), "{kind:?} bit {bit}");
        }
    }
}

/// SPI, low half and high half are authenticated, also where the packet agrees with what the caller says.
#[test]
fn another_number_is_refused() {
    for kind in KINDS {
        let association = association(kind);
        let mut sealed = packet(&association, 40, 9);
        association.seal(7, 5 << 32 | 3, &mut sealed);
        for (spi, sequence) in [(7, 3), (7, 4 << 32 | 3), (7, 6 << 32 | 3), (7, 5 << 32 | 4), (8, 5 << 32 | 3)] {
            let mut forged = sealed.clone();
            assert_eq!(association.open(spi, sequence, &mut forged), Err(Forged), "{kind:?}");
            let mut forged = sealed.clone();
            forged[..4].copy_from_slice(&u32::to_be_bytes(spi));
            forged[4..8].copy_from_slice(&(sequence as u32).to_be_bytes());
            assert_eq!(association.open(spi, sequence, &mut forged), Err(Forged), "{kind:?}");
        }
        let short = association.clone().without_extended_sequence();
        assert_eq!(short.open(7, 5 << 32 | 3, &mut sealed.clone()), Err(Forged), "{kind:?}");
        assert_eq!(association.open(7, 5 << 32 | 3, &mut sealed), Ok(()), "{kind:?}");
    }
}

#[test]
fn another_key_is_refused() {
    for kind in KINDS {
        let (algorithm, icv, encryption, authentication) = kind;
        let mut sealed = packet(&association(kind), 40, 9);
        association(kind).seal(7, 1, &mut sealed);
        let other = match authentication {
            0 => Association::new(algorithm, icv, &key(encryption, 3), &[]),
            _ => Association::new(algorithm, icv, &key(encryption, 1), &key(authentication, 3)),
        };
        assert_eq!(other.expect("a legal key").open(7, 1, &mut sealed), Err(Forged), "{kind:?}");
    }
}

#[test]
fn short_packets_are_refused() {
    for kind in KINDS {
        let association = association(kind);
        for length in 0..100 {
            assert_eq!(association.open(0, 0, &mut vec![0; length]), Err(Forged), "{kind:?} {length}");
        }
    }
}

/// The IV of CBC tells nothing of the number, and differs between keys.
#[test]
fn ivs() {
    let iv = |association: &Association, sequence: u64| {
        let mut packet = packet(association, 40, 0);
        association.seal(7, sequence, &mut packet);
        packet[HEADER..HEADER + association.iv_len()].to_vec()
    };
    let counter = 0x0102_0304_0506_0708_u64;
    for kind in &KINDS[..10] {
        assert_eq!(iv(&association(*kind), counter), counter.to_be_bytes());
    }
    let ivs: Vec<Vec<u8>> = [KINDS[10], KINDS[11], KINDS[12]]
        .into_iter()
        .flat_map(|kind| [1, 2, counter].map(|sequence| iv(&association(kind), sequence)))
        .collect();
    for (index, iv) in ivs.iter().enumerate() {
        assert!(!ivs[..index].contains(iv));
        assert!(iv.iter().filter(|byte| **byte == 0).count() < 6, "{iv:02x?}");
    }
}

#[test]
fn bad_keys() {
    let refused = |algorithm, icv, encryption, authentication| {
        Association::new(algorithm, icv, &key(encryption, 1), &key(authentication, 2)).err()
    };
    for algorithm in Algorithm::ALL {
        assert_eq!(Algorithm::from_number(algorithm as u8), Some(algorithm));
        for icv in [0, 4, 10, 20, 64] {
            assert_eq!(refused(algorithm, icv, 36, 32), Some(BadKey::Icv));
        }
    }
    assert_eq!((Algorithm::from_number(0), Algorithm::from_number(6)), (None, None));
    for length in [0, 3, 4, 16, 19, 21, 24, 32, 35, 37, 64] {
        assert_eq!(refused(Algorithm::AesGcm, 16, length, 0), Some(BadKey::Encryption), "{length}");
    }
    for length in [0, 4, 20, 28, 32, 35, 37] {
        assert_eq!(refused(Algorithm::ChaCha20Poly1305, 16, length, 0), Some(BadKey::Encryption), "{length}");
    }
    assert_eq!(refused(Algorithm::ChaCha20Poly1305, 12, 36, 0), Some(BadKey::Icv));
    assert_eq!(refused(Algorithm::AesGcm, 16, 20, 16), Some(BadKey::Authentication));
    for length in [0, 8, 15, 20, 36] {
        assert_eq!(refused(Algorithm::AesCbcHmacSha256, 16, length, 32), Some(BadKey::Encryption), "{length}");
    }
    for length in [0, 15, 129] {
        assert_eq!(refused(Algorithm::AesCbcHmacSha512, 32, 32, length), Some(BadKey::Authentication), "{length}");
    }
}

#[test]
fn goes_between_threads() {
    fn shared<T: Send + Sync + Clone>(_: &T) {}
    shared(&association(KINDS[0]));
}

#[test]
#[should_panic(expected = "room")]
fn no_room() {
    association(KINDS[0]).seal(1, 1, &mut [0; 31]);
}

#[test]
#[should_panic(expected = "whole blocks")]
fn no_whole_blocks() {
    association(KINDS[10]).seal(1, 1, &mut [0; 8 + 16 + 17 + 16]);
}

proptest! {
    #![proptest_config(ProptestConfig { rng_seed: proptest::test_runner::RngSeed::Fixed(4303), ..ProptestConfig::with_cases(200) })]

    /// A slab of packets of all lengths: together as one by one, and nothing between them changed.
    #[test]
    fn many_as_one_by_one(
        kind in 0..KINDS.len(),
        lengths in prop::collection::vec(prop_oneof![0usize..200, 0usize..1600, Just(1400)], 0..40),
        first in any::<u64>(),
        wrong in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 0..4),
    ) {
        let association = association(KINDS[kind]);
        let (mut slab, mut packets) = (vec![0xcc; 3], Vec::new());
        for (index, length) in lengths.iter().enumerate() {
            let sequence = first.wrapping_add(index as u64);
            let bytes = packet(&association, *length, index as u8);
            packets.push(Packet { sequence, start: slab.len(), length: bytes.len() });
            slab.extend(bytes);
            slab.extend(std::iter::repeat_n(0xcc, index % 5));
        }
        let mut expected = slab.clone();
        for packet in &packets {
            association.seal(9, packet.sequence, &mut expected[packet.start..][..packet.length]);
        }
        let mut made = slab.clone();
        association.seal_many(9, &mut made, &packets);
        prop_assert!(made == expected);

        let mut genuine = vec![true; packets.len()];
        for (packet, bit) in wrong {
            if packets.is_empty() {
                break;
            }
            let index = packet.index(packets.len());
            if std::mem::take(&mut genuine[index]) {
                let bit = bit.index(packets[index].length * 8);
                made[packets[index].start + bit / 8] ^= 1 << (bit % 8);
            }
        }
        let mut verdicts = Vec::new();
        association.open_many(9, &mut made, &packets, |index, verdict| {
            assert_eq!(index, verdicts.len());
            verdicts.push(verdict);
        });
        prop_assert_eq!(&verdicts, &genuine);
        for (packet, genuine) in packets.iter().zip(genuine) {
            let range = packet.start..packet.start + packet.length;
            prop_assert!(!genuine || text(&association, &made[range.clone()]) == text(&association, &slab[range]));
        }
    }

    #[test]
    fn any_bytes_are_refused(kind in 0..KINDS.len(), mut bytes in prop::collection::vec(any::<u8>(), 0..300), sequence: u64) {
        prop_assert_eq!(association(KINDS[kind]).open(1, sequence, &mut bytes.clone()), Err(Forged));
        // with a header that agrees
        if let Some(header) = bytes.first_chunk_mut::<8>() {
            *header = (1 << 32 | sequence & 0xffff_ffff).to_be_bytes();
        }
        prop_assert_eq!(association(KINDS[kind]).open(1, sequence, &mut bytes), Err(Forged));
    }
}
