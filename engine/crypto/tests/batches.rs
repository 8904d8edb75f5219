//! Many messages at once against one after the other, which `vectors.rs` holds against RFC 8439 and OpenSSL.

use pellicle_crypto::{Key, Message, TAG};
use proptest::prelude::*;

/// A slab with messages of these lengths at odd places, and what it holds when all are sealed one by one.
fn sealed(key: &Key, lengths: &[usize], first: u64, fill: impl Fn(usize) -> u8) -> (Vec<u8>, Vec<u8>, Vec<Message>) {
    let mut messages = Vec::new();
    let mut end = 3;
    for (index, length) in lengths.iter().enumerate() {
        messages.push(Message { counter: first.wrapping_add(index as u64), start: end, length: *length });
        end += length + TAG + index % 5;
    }
    let slab: Vec<u8> = (0..end + 7).map(fill).collect();
    let mut expected = slab.clone();
    for message in &messages {
        let (text, tag) = expected[message.start..message.start + message.length + TAG].split_at_mut(message.length);
        tag.copy_from_slice(&key.seal(message.counter, text));
    }
    (slab, expected, messages)
}

fn verdicts(key: &Key, slab: &mut [u8], messages: &[Message]) -> Vec<bool> {
    let mut verdicts = Vec::new();
    key.open_many(slab, messages, |index, genuine| {
        assert_eq!(index, verdicts.len());
        verdicts.push(genuine);
    });
    verdicts
}

/// Every length around the edges of blocks, in every lane.
#[test]
fn every_length() {
    let key = Key::new(&std::array::from_fn(|index| index as u8 * 7 + 1));
    let lengths: Vec<usize> = (0..530).chain([1408, 1420, 1472, 8960, 65_000]).collect();
    for rotation in 0..3 {
        let mut lengths = lengths.clone();
        lengths.rotate_left(rotation * 5 + 1);
        let (slab, expected, messages) = sealed(&key, &lengths, u64::MAX - 200, |at| ((at * 131) >> 3) as u8);
        let mut made = slab.clone();
        key.seal_many(&mut made, &messages);
        assert!(made == expected);
        assert!(verdicts(&key, &mut made, &messages).into_iter().all(|genuine| genuine));
        for message in &messages {
            let text = message.start..message.start + message.length;
            assert!(made[text.clone()] == slab[text]);
        }
    }
}

/// Sums with the longest carries: texts and keys of all ones and all zeros.
#[test]
fn extremes() {
    for key in [[0; 32], [0xff; 32], [0x80; 32]] {
        let key = Key::new(&key);
        for byte in [0, 0xff, 0x7f, 0x80, 1] {
            let (mut slab, expected, messages) = sealed(&key, &[1408; 20], u64::from(byte) << 56, |_| byte);
            key.seal_many(&mut slab, &messages);
            assert!(slab == expected);
        }
    }
}

#[test]
#[should_panic(expected = "inside")]
fn refuses_what_lies_outside() {
    let messages = [Message { counter: 0, start: 0, length: 85 }; 4];
    Key::new(&[0; 32]).seal_many(&mut [0; 100], &messages);
}

#[test]
#[should_panic(expected = "inside")]
fn refuses_lengths_that_wrap() {
    let messages = [Message { counter: 0, start: 2, length: usize::MAX - 1 }; 4];
    Key::new(&[0; 32]).open_many(&mut [0; 100], &messages, |_, _| {});
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn equal_to_one_by_one(
        key in any::<[u8; 32]>(),
        lengths in prop::collection::vec(prop_oneof![0usize..200, 0usize..1600, Just(1408)], 1..50),
        first in any::<u64>(),
        seed in any::<u64>(),
        wrong in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 0..4),
    ) {
        let key = Key::new(&key);
        let (slab, expected, messages) =
            sealed(&key, &lengths, first, |at| (seed.wrapping_mul(at as u64 * 2 + 1) >> 56) as u8);
        let mut made = slab.clone();
        key.seal_many(&mut made, &messages);
        prop_assert!(made == expected);

        let mut genuine = vec![true; messages.len()];
        for (message, bit) in wrong {
            let index = message.index(messages.len());
            if std::mem::take(&mut genuine[index]) {
                let bit = bit.index((messages[index].length + TAG) * 8);
                made[messages[index].start + bit / 8] ^= 1 << (bit % 8);
            }
        }
        prop_assert_eq!(verdicts(&key, &mut made, &messages), genuine.clone());
        for (message, genuine) in messages.iter().zip(genuine) {
            let text = message.start..message.start + message.length;
            prop_assert!(!genuine || made[text.clone()] == slab[text]);
        }
        // nothing between the messages changed
        let mut at = 0;
        for message in &messages {
            prop_assert!(made[at..message.start] == slab[at..message.start]);
            at = message.start + message.length + TAG;
        }
        prop_assert!(made[at..] == slab[at..]);
    }
}
