//! Every algorithm there and back, and nothing else back.

use pellicle_crypto::esp::{Algorithm, Association, Forged};

#[test]
fn round_trip() {
    let a = Association::new(Algorithm::AesGcm, 16, &[7; 20], &[]).expect("key");
    let mut packet = vec![5u8; 8 + 8 + 64 + 16];
    a.seal(3, 1, &mut packet);
    assert_ne!(packet[16..80], [5u8; 64]);
    assert_eq!(a.open(3, 1, &mut packet), Ok::<(), Forged>(()));
    assert_eq!(packet[16..80], [5u8; 64]);
}
