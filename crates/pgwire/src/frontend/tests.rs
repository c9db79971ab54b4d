use bytes::BytesMut;
use postgres_protocol::{IsNull, message::frontend as theirs};
use proptest::prelude::*;

use super::*;
use crate::frame::{HEADER_LEN, header};

/// The body of the one message that `out` is.
fn body(out: &[u8], tag: u8) -> &[u8] {
    let header = header(out).unwrap().unwrap();
    assert_eq!((header.tag, header.total()), (tag, out.len()));
    &out[HEADER_LEN..]
}

fn written(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out);
    out
}

fn by_another(write: impl FnOnce(&mut BytesMut)) -> Vec<u8> {
    let mut out = BytesMut::new();
    write(&mut out);
    out.to_vec()
}

/// A body that is cut, or has a byte too many, is refused.
fn is_exact<'a, T: std::fmt::Debug + PartialEq>(
    body: &'a [u8],
    longer: &'a [u8],
    message: &'static str,
    parse: impl Fn(&'a [u8]) -> Result<T, MessageError>,
) {
    for cut in 0..body.len() {
        assert_eq!(parse(&body[..cut]), Err(MessageError::Short(message)), "cut at {cut}");
    }
    assert_eq!(parse(longer), Err(MessageError::Trailing(message)));
}

#[test]
fn a_query_is_one_string() {
    assert_eq!(query(b"SELECT 1\0"), Ok(&b"SELECT 1"[..]));
    assert_eq!(query(b"\0"), Ok(&b""[..]));
    is_exact(b"SELECT 1\0", b"SELECT 1\0x", "Query", query);
    assert_eq!(query(b"SELECT 1\0DROP TABLE x\0"), Err(MessageError::Trailing("Query")));
    let message = written(|out| write_query(out, b"SELECT 'h\xe9'"));
    assert_eq!(query(body(&message, b'Q')), Ok(&b"SELECT 'h\xe9'"[..]));
}

#[test]
fn a_parse_is_read_whole_or_by_its_front() {
    let message = by_another(|out| theirs::parse("s1", "SELECT $1, $2", [23, 25], out).unwrap());
    let whole = body(&message, b'P');
    let types = [0, 2, 0, 0, 0, 23, 0, 0, 0, 25];
    assert_eq!(parse(whole), Ok(ParseMessage { name: b"s1", text: b"SELECT $1, $2", types: &types }));
    is_exact(whole, &[whole, b"x"].concat(), "Parse", parse);
    for cut in 0..=whole.len() {
        let front = (cut > 2).then(|| ParsePrefix { name: b"s1", rest: &whole[3..cut] });
        assert_eq!(parse_prefix(&whole[..cut]), Ok(front));
    }
    assert_eq!(written(|out| write_parse(out, b"s1", &whole[3..])), message);
    assert_eq!(parse(b"\0\0\xff\xff"), Err(MessageError::Short("Parse")));
}

#[test]
fn a_bind_is_read_by_its_front() {
    let value = |value: &[u8], out: &mut BytesMut| {
        out.extend_from_slice(value);
        Ok(IsNull::No)
    };
    let message = by_another(|out| assert!(theirs::bind("p", "s1", [1], [&b"abc"[..]], value, [], out).is_ok()));
    let whole = body(&message, b'B');
    for cut in 0..=whole.len() {
        let front = (cut > 4).then_some(BindPrefix { portal: b"p", statement: b"s1", len: 5 });
        assert_eq!(bind_prefix(&whole[..cut]), Ok(front));
    }
    let renamed = written(|out| {
        write_bind_prefix(out, b"p", b"guardian_17", whole.len() - 5);
        out.extend_from_slice(&whole[5..]);
    });
    let expected = by_another(|out| assert!(theirs::bind("p", "guardian_17", [1], [&b"abc"[..]], value, [], out).is_ok()));
    assert_eq!(renamed, expected);
}

#[test]
fn names_have_a_bound() {
    let name = |len: usize| [&vec![b'n'; len][..], b"\0"].concat();
    let (fits, long) = (name(NAME_LEN_MAX), name(NAME_LEN_MAX + 1));
    let target = |name: &[u8]| super::target(&[b"S", name].concat()).map(|target| target.name.len());
    assert_eq!(parse_prefix(&fits).unwrap().unwrap().name.len(), NAME_LEN_MAX);
    assert_eq!(bind_prefix(&[&fits[..], &fits].concat()).unwrap().unwrap().len, 2 * NAME_LEN_MAX + 2);
    assert_eq!(target(&fits), Ok(NAME_LEN_MAX));
    // Whether the NUL is there yet or not.
    for long in [&long[..], &long[..=NAME_LEN_MAX]] {
        assert_eq!(parse_prefix(long), Err(MessageError::NameTooLong("Parse")));
        assert_eq!(bind_prefix(long), Err(MessageError::NameTooLong("Bind")));
        assert_eq!(bind_prefix(&[b"\0", long].concat()), Err(MessageError::NameTooLong("Bind")));
        assert_eq!(target(long), Err(MessageError::NameTooLong("Describe or Close")));
    }
    assert_eq!(parse_prefix(&fits[..NAME_LEN_MAX]), Ok(None));
    assert_eq!(MessageError::NameTooLong("Bind").to_string(), "a Bind message has a name of more than 1024 bytes");
}

#[test]
fn a_target_is_a_statement_or_a_portal() {
    for (kind, code) in [(TargetKind::Statement, b'S'), (TargetKind::Portal, b'P')] {
        let describe = written(|out| write_describe(out, kind, b"one"));
        let close = written(|out| write_close(out, kind, b"one"));
        assert_eq!(describe, by_another(|out| theirs::describe(code, "one", out).unwrap()));
        assert_eq!(close, by_another(|out| theirs::close(code, "one", out).unwrap()));
        assert_eq!(target(body(&describe, b'D')), Ok(Target { kind, name: b"one" }));
        assert_eq!(target(body(&close, b'C')), Ok(Target { kind, name: b"one" }));
    }
    is_exact(b"Sone\0", b"Sone\0x", "Describe or Close", target);
    assert_eq!(target(b"Xone\0").unwrap_err().to_string(), "a Describe or Close message has an unknown kind");
}

#[test]
fn a_sasl_response_is_optional() {
    let message = written(|out| write_sasl_initial(out, "SCRAM-SHA-256", b"n,,n=,r=x"));
    assert_eq!(message, by_another(|out| theirs::sasl_initial_response("SCRAM-SHA-256", b"n,,n=,r=x", out).unwrap()));
    let whole = body(&message, b'p');
    assert_eq!(sasl_initial(whole), Ok(SaslInitial { mechanism: b"SCRAM-SHA-256", response: b"n,,n=,r=x" }));
    is_exact(whole, &[whole, b"x"].concat(), "SASLInitialResponse", sasl_initial);
    assert_eq!(sasl_initial(b"M\0\xff\xff\xff\xff"), Ok(SaslInitial { mechanism: b"M", response: b"" }));
    assert_eq!(sasl_initial(b"M\0\xff\xff\xff\xfe"), Err(MessageError::Short("SASLInitialResponse")));
    let later = written(|out| write_sasl_response(out, b"c=biws"));
    assert_eq!(later, by_another(|out| theirs::sasl_response(b"c=biws", out).unwrap()));
}

#[test]
fn messages_without_a_body() {
    assert_eq!(written(write_sync), by_another(theirs::sync));
    assert_eq!(written(write_terminate), by_another(theirs::terminate));
}

#[test]
fn a_function_call_is_binary_both_ways() {
    let expected = b"F\0\0\0\x17\0\x01\0\0\0\x01\0\x01\0\x01\0\0\0\x03abc\0\x01";
    assert_eq!(written(|out| write_function_call(out, 65536, b"abc")), expected);
}

#[test]
fn a_nul_in_a_name_forges_no_field() {
    let message = written(|out| write_parse(out, b"s1\0DROP TABLE x", b"SELECT 1\0\0\0"));
    assert_eq!(parse(body(&message, b'P')).unwrap().text, b"SELECT 1");
    let message = written(|out| write_bind_prefix(out, b"", b"s1\0\0\x01\0\0", 0));
    assert_eq!(body(&message, b'B'), b"\0s1\0");
}

proptest! {
    #[test]
    fn what_another_client_writes_is_read(name in "[^\0]{0,20}", text in "[^\0]{0,80}", types in prop::collection::vec(any::<u32>(), 0..9)) {
        let message = by_another(|out| theirs::query(&text, out).unwrap());
        prop_assert_eq!(query(body(&message, b'Q')), Ok(text.as_bytes()));
        prop_assert_eq!(written(|out| write_query(out, text.as_bytes())), message);

        let message = by_another(|out| theirs::parse(&name, &text, types.iter().copied(), out).unwrap());
        let whole = body(&message, b'P');
        let parsed = parse(whole).unwrap();
        prop_assert_eq!((parsed.name, parsed.text), (name.as_bytes(), text.as_bytes()));
        prop_assert_eq!(parsed.types.len(), 2 + 4 * types.len());
        let prefix = parse_prefix(whole).unwrap().unwrap();
        prop_assert_eq!(written(|out| write_parse(out, prefix.name, prefix.rest)), message);
    }

    #[test]
    fn a_front_stays_what_it_was(body: Vec<u8>, more: Vec<u8>) {
        let longer = [&body[..], &more].concat();
        if let Some(front) = bind_prefix(&body).unwrap() {
            prop_assert_eq!(bind_prefix(&longer), Ok(Some(front)));
            prop_assert_eq!(&body[..front.len], [front.portal, b"\0", front.statement, b"\0"].concat());
        }
        if let Some(front) = parse_prefix(&body).unwrap() {
            prop_assert_eq!(parse_prefix(&longer).unwrap().unwrap().name, front.name);
        }
    }
}
