use proptest::prelude::*;

use super::*;

#[test]
fn a_header_needs_five_bytes() {
    let message = *b"Q\x00\x00\x00\x09";
    for cut in 0..HEADER_LEN {
        assert_eq!(header(&message[..cut]), Ok(None));
    }
    let whole = header(&message).unwrap().unwrap();
    assert_eq!(whole, Header { tag: b'Q', body_len: 5 });
    assert_eq!(whole.total(), 10);
}

#[test]
fn lengths_have_bounds() {
    let of = |length: u32| header(&[&b"d"[..], &length.to_be_bytes()].concat());
    for length in [0, 3, 1 << 30, u32::MAX] {
        assert_eq!(of(length), Err(FrameError { tag: b'd', length }));
    }
    assert_eq!(of(4), Ok(Some(Header { tag: b'd', body_len: 0 })));
    assert_eq!(of((1 << 30) - 1), Ok(Some(Header { tag: b'd', body_len: (1 << 30) - 5 })));
    assert_eq!(of(3).unwrap_err().to_string(), "a message of type 'd' claims a length of 3 bytes");
}

#[test]
fn a_string_ends_at_its_nul() {
    let mut out = Vec::new();
    put_text(&mut out, b"user\0database\0postgres");
    assert_eq!(out, b"user\0");
}

proptest! {
    #[test]
    fn what_is_written_has_its_length(tag: u8, front in prop::collection::vec(any::<u8>(), 0..9), body: Vec<u8>) {
        let mut out = front.clone();
        write(&mut out, tag, |out| out.extend_from_slice(&body));
        prop_assert!(out.starts_with(&front));
        let message = &out[front.len()..];
        prop_assert_eq!(header(message), Ok(Some(Header { tag, body_len: body.len() })));
        prop_assert_eq!(&message[HEADER_LEN..], &body[..]);
    }
}
