//! Bytes per second of one thread: messages one by one through ring, and in batches. `cargo run --release --example speed`
use pellicle_crypto::{Key, Message, TAG};
use std::time::{Duration, Instant};

fn rate(bytes: usize, mut work: impl FnMut()) -> f64 {
    // the best of several short runs: the machine may have other things to do
    let run = |work: &mut dyn FnMut()| {
        let (start, mut count) = (Instant::now(), 0);
        while start.elapsed() < Duration::from_millis(20) {
            work();
            count += 1;
        }
        (count * bytes) as f64 / start.elapsed().as_secs_f64() / 1e9
    };
    (0..15).map(|_| run(&mut work)).fold(0.0, f64::max)
}

fn main() {
    let key = Key::new(&[7; 32]);
    println!("bytes  messages  seal GB/s  one by one   open GB/s  one by one");
    for (length, count) in
        [(96, 2), (96, 3), (96, 16), (1408, 2), (1408, 3), (1408, 4), (1408, 8), (1408, 16), (1408, 43), (8960, 7)]
    {
        let stride = length + TAG + 16;
        let mut slab = vec![0u8; stride * count];
        let messages: Vec<Message> =
            (0..count).map(|index| Message { counter: index as u64, start: index * stride + 16, length }).collect();
        let sealed = rate(length * count, || key.seal_many(&mut slab, &messages));
        let singly = rate(length * count, || {
            for message in &messages {
                key.seal(message.counter, &mut slab[message.start..message.start + length]);
            }
        });
        // a forged message costs the check but not the decryption: seal anew, and take that time away
        let both = rate(length * count, || {
            key.seal_many(&mut slab, &messages);
            key.open_many(&mut slab, &messages, |_, genuine| assert!(genuine));
        });
        let both_singly = rate(length * count, || {
            for message in &messages {
                let (text, tag) = slab[message.start..message.start + length + TAG].split_at_mut(length);
                tag.copy_from_slice(&key.seal(message.counter, text));
            }
            for message in &messages {
                let opened = key.open(message.counter, &mut slab[message.start..message.start + length + TAG]);
                assert!(opened.is_ok());
            }
        });
        let rest = |both: f64, seal: f64| 1.0 / (1.0 / both - 1.0 / seal);
        let (opened, opened_singly) = (rest(both, sealed), rest(both_singly, singly));
        println!("{length:5}  {count:8}  {sealed:9.2}  {singly:10.2}  {opened:10.2}  {opened_singly:10.2}");
    }
}
