//! Without words: bytes per second of one thread by algorithm, packets of 1,400 bytes. `cargo run --release --example esp`
//! `seal|open ALGORITHM ICV ENCRYPTION AUTHENTICATION extended|short SPI SEQUENCE PACKET`, all but numbers in hex: one
//! packet, for test/interop (its keys are seen by whoever lists processes). Of `seal` the packet has its rooms; `open`
//! says `forged` or prints text and trailer.
use pellicle_crypto::esp::{Algorithm, Association, HEADER, Packet};
use std::process::ExitCode;
use std::time::{Duration, Instant};

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if words.is_empty() {
        speed();
        return ExitCode::SUCCESS;
    }
    match convert(&words) {
        Some(answer) => {
            println!("{answer}");
            ExitCode::SUCCESS
        }
        None => {
            eprintln!("esp seal|open ALGORITHM ICV ENCRYPTION AUTHENTICATION extended|short SPI SEQUENCE PACKET");
            ExitCode::from(2)
        }
    }
}

fn convert(words: &[String]) -> Option<String> {
    let [verb, algorithm, icv, encryption, authentication, numbers, spi, sequence, packet] = words else { return None };
    let algorithm = Algorithm::from_number(algorithm.parse().ok()?)?;
    let association =
        Association::new(algorithm, icv.parse().ok()?, &read(encryption)?, &read(authentication)?).ok()?;
    let association = match numbers.as_str() {
        "extended" => association,
        "short" => association.without_extended_sequence(),
        _ => return None,
    };
    let (spi, sequence, mut packet) = (spi.parse().ok()?, sequence.parse().ok()?, read(packet)?);
    match verb.as_str() {
        "seal" => {
            association.seal(spi, sequence, &mut packet);
            Some(write(&packet))
        }
        "open" => match association.open(spi, sequence, &mut packet) {
            Ok(()) => Some(write(&packet[HEADER + association.iv_len()..packet.len() - association.icv_len()])),
            Err(_) => Some("forged".into()),
        },
        _ => None,
    }
}

fn read(hex: &str) -> Option<Vec<u8>> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(hex.get(at..at + 2)?, 16).ok()).collect()
}

fn write(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn speed() {
    println!("GB/s of text                  seal   of 16   open");
    let kinds = [
        ("AES-GCM-128", Algorithm::AesGcm, 16, 20, 0),
        ("AES-GCM-192", Algorithm::AesGcm, 16, 28, 0),
        ("AES-GCM-256", Algorithm::AesGcm, 16, 36, 0),
        ("AES-GCM-128, ICV 12", Algorithm::AesGcm, 12, 20, 0),
        ("ChaCha20-Poly1305", Algorithm::ChaCha20Poly1305, 16, 36, 0),
        ("AES-CBC-128, HMAC-SHA-256", Algorithm::AesCbcHmacSha256, 16, 16, 32),
        ("AES-CBC-256, HMAC-SHA-384", Algorithm::AesCbcHmacSha384, 24, 32, 48),
        ("AES-CBC-256, HMAC-SHA-512", Algorithm::AesCbcHmacSha512, 32, 32, 64),
    ];
    for (name, algorithm, icv, encryption, authentication) in kinds {
        let keys = (vec![7; encryption], vec![9; authentication]);
        let Ok(association) = Association::new(algorithm, icv, &keys.0, &keys.1) else { continue };
        let text = 1400_usize.next_multiple_of(association.block());
        let length = HEADER + association.iv_len() + text + association.icv_len();
        let count = 16;
        let packets: Vec<Packet> =
            (0..count).map(|index| Packet { sequence: index as u64 + 1, start: index * length, length }).collect();
        let mut slab = vec![0; count * length];
        let singly = rate(text * count, || {
            for packet in &packets {
                association.seal(3, packet.sequence, &mut slab[packet.start..][..length]);
            }
        });
        let sealed = rate(text * count, || association.seal_many(3, &mut slab, &packets));
        // opening needs something genuine: seal anew, and take that time away
        let both = rate(text * count, || {
            association.seal_many(3, &mut slab, &packets);
            association.open_many(3, &mut slab, &packets, |_, genuine| assert!(genuine));
        });
        let opened = 1.0 / (1.0 / both - 1.0 / sealed);
        println!("{name:28} {singly:5.2}   {sealed:5.2}  {opened:5.2}");
    }
}

/// The best of several short runs: the machine may have other things to do.
fn rate(bytes: usize, mut work: impl FnMut()) -> f64 {
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
