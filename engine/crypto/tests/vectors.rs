//! The AEAD against RFC 8439 and against WireGuard data messages that OpenSSL made.

use pellicle_crypto::{Forged, Key, TAG};
use pellicle_proto::transport::{HEADER, Message, classify, write_header};
use serde_json::Value;

fn hex(text: &str) -> Vec<u8> {
    let text: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let digit = |byte: u8| (byte as char).to_digit(16).expect("hex") as u8;
    text.chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}

/// Section 2.8.2 has an additional text, which WireGuard has not: this one is for the library itself.
#[test]
fn rfc_8439_section_2_8_2() {
    use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
    let key: Vec<u8> = (0x80..0xa0).collect();
    let nonce: [u8; 12] = hex("070000004041424344454647").try_into().expect("12 bytes");
    let text = b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, sunscreen would be it.";
    let mut bytes = text.to_vec();
    let key = LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, &key).expect("32 bytes"));
    let aad = hex("50515253c0c1c2c3c4c5c6c7");
    let tag = key
        .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(aad), &mut bytes)
        .expect("sealed");
    assert_eq!(tag.as_ref(), hex("1ae10b594f09e26a7e902ecbd0600691"));
    assert_eq!(bytes[..16], hex("d31a8d34648e60db7b86afbc53ef7ec2"));
    assert_eq!(bytes[112..], hex("6116"));
}

#[test]
fn wireguard_data_messages() {
    let vectors: Value =
        serde_json::from_str(include_str!("../../../test/vectors/wireguard-transport.json")).expect("JSON");
    let messages = vectors["messages"].as_array().expect("messages");
    assert!(messages.len() >= 5);
    for vector in messages {
        let field = |name: &str| hex(vector[name].as_str().expect("hex"));
        let key = Key::new(&field("key").try_into().expect("32 bytes"));
        let counter: u64 = vector["counter"].as_str().expect("a number").parse().expect("a number");
        let receiver = vector["receiver"].as_u64().expect("a number") as u32;
        let (text, message) = (field("text"), field("message"));
        let mut made = [0; HEADER];
        write_header(&mut made, receiver, counter);
        let mut body = text.clone();
        let tag = key.seal(counter, &mut body);
        assert_eq!([&made[..], &body, &tag].concat(), message);
        assert_eq!(classify(&message), Message::Data { receiver, counter });
        let mut sealed = message[HEADER..].to_vec();
        assert_eq!(key.open(counter, &mut sealed).map(|opened| opened.to_vec()), Ok(text));
        for wrong in 0..sealed.len().min(40) {
            let mut sealed = message[HEADER..].to_vec();
            sealed[wrong] ^= 1;
            assert_eq!(key.open(counter, &mut sealed), Err(Forged));
        }
        assert_eq!(key.open(counter ^ 1, &mut message[HEADER..].to_vec()), Err(Forged));
        assert_eq!(key.open(counter, &mut message[HEADER..HEADER + TAG - 1].to_vec()), Err(Forged));
    }
}
