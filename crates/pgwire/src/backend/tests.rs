use bytes::BytesMut;
use fallible_iterator::FallibleIterator;
use postgres_protocol::message::backend::Message;
use proptest::prelude::*;

use super::*;
use crate::frame::{HEADER_LEN, header};

const REPORT: Report<'static> = Report {
    severity: Severity::Fatal,
    code: "53300",
    message: "tenant acme has all of its 20 connections open",
    detail: None,
    hint: Some("Raise client_connections_max of the tier."),
};

fn written(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out);
    let header = header(&out).unwrap().unwrap();
    assert_eq!(header.total(), out.len());
    out
}

/// What another client reads in the one message written.
fn as_read(write: impl FnOnce(&mut Vec<u8>)) -> Message {
    let mut bytes = BytesMut::from(&written(write)[..]);
    let message = Message::parse(&mut bytes).unwrap().unwrap();
    assert!(bytes.is_empty());
    message
}

macro_rules! read_as {
    ($variant:ident, $write:expr) => {{
        let Message::$variant(body) = as_read($write) else { panic!("not read as {}", stringify!($variant)) };
        body
    }};
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
fn a_report_is_read_by_a_client() {
    let expected = [(b'S', "FATAL"), (b'V', "FATAL"), (b'C', "53300"), (b'M', REPORT.message), (b'H', REPORT.hint.unwrap())];
    let error = read_as!(ErrorResponse, |out| write_error(out, &REPORT));
    let fields: Vec<_> = error.fields().map(|field| Ok((field.type_(), field.value_bytes().to_vec()))).collect().unwrap();
    assert_eq!(fields, expected.map(|(code, text)| (code, text.as_bytes().to_vec())));
    let report = Report { severity: Severity::Warning, detail: Some("d"), ..REPORT };
    let notice = read_as!(NoticeResponse, |out| write_notice(out, &report));
    let fields: Vec<_> = notice.fields().map(|field| Ok(field.value_bytes().to_vec())).collect().unwrap();
    assert_eq!(fields[..2], [b"WARNING", b"WARNING"]);
    assert_eq!(fields[4], b"d");
    assert_eq!([Severity::Error, Severity::Notice].map(Severity::text), ["ERROR", "NOTICE"]);
}

#[test]
fn a_report_is_read_by_us() {
    let error = written(|out| write_error(out, &REPORT));
    let body = &error[HEADER_LEN..];
    assert_eq!(fields(body).map(|(code, _)| code).collect::<Vec<_>>(), b"SVCMH");
    assert_eq!(field(body, b'C'), Some(&b"53300"[..]));
    assert_eq!(field(body, b'D'), None);
    // Cut anywhere, the fields that are whole stay what they are.
    let whole: Vec<_> = fields(body).collect();
    for cut in 0..body.len() {
        let some: Vec<_> = fields(&body[..cut]).collect();
        assert_eq!(some, whole[..some.len()]);
    }
    assert_eq!(fields(b"\0Mx\0").count(), 0);
    assert_eq!(fields(b"").count(), 0);
}

#[test]
fn a_text_forges_no_field() {
    let report = Report { message: "no\0C00000\0", ..REPORT };
    let error = written(|out| write_error(out, &report));
    assert_eq!(field(&error[HEADER_LEN..], b'C'), Some(&b"53300"[..]));
    assert_eq!(fields(&error[HEADER_LEN..]).filter(|(code, _)| *code == b'C').count(), 1);
}

#[test]
fn authentication_is_read_by_a_client_and_by_us() {
    assert!(matches!(as_read(write_auth_ok), Message::AuthenticationOk));
    let offer = read_as!(AuthenticationSasl, |out| write_auth_sasl(out, &["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"]));
    let names: Vec<_> = offer.mechanisms().map(|name| Ok(name.to_owned())).collect().unwrap();
    assert_eq!(names, ["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"]);
    assert_eq!(read_as!(AuthenticationSaslContinue, |out| write_auth_sasl_continue(out, b"r=x")).data(), b"r=x");
    assert_eq!(read_as!(AuthenticationSaslFinal, |out| write_auth_sasl_final(out, b"v=x")).data(), b"v=x");

    let offer = written(|out| write_auth_sasl(out, &["a", "b"]));
    let Ok(Auth::Sasl(list)) = auth(&offer[HEADER_LEN..]) else { panic!("no offer") };
    assert_eq!(mechanisms(list).collect::<Vec<_>>(), [b"a", b"b"]);
    assert_eq!(mechanisms(b"a\0b").collect::<Vec<_>>(), [b"a"]);
    assert_eq!(mechanisms(b"\0a\0").count(), 0);

    assert_eq!(auth(&[0, 0, 0, 0]), Ok(Auth::Ok));
    assert_eq!(auth(&[0, 0, 0, 3]), Ok(Auth::Cleartext));
    assert_eq!(auth(&[0, 0, 0, 5, 1, 2, 3, 4]), Ok(Auth::Md5([1, 2, 3, 4])));
    assert_eq!(auth(&[0, 0, 0, 11, 9]), Ok(Auth::SaslContinue(&[9])));
    assert_eq!(auth(&[0, 0, 0, 12, 9]), Ok(Auth::SaslFinal(&[9])));
    assert_eq!(auth(&[0, 0, 0, 7]), Ok(Auth::Other(7)));
    is_exact(&[0, 0, 0, 0], &[0, 0, 0, 0, 1], "Authentication", auth);
    is_exact(&[0, 0, 0, 5, 1, 2, 3, 4], &[0, 0, 0, 5, 1, 2, 3, 4, 5], "Authentication", auth);
}

#[test]
fn a_session_is_greeted() {
    let status = read_as!(ParameterStatus, |out| write_parameter_status(out, "TimeZone", "Etc/UTC"));
    assert_eq!((status.name().unwrap(), status.value().unwrap()), ("TimeZone", "Etc/UTC"));
    let key_data = read_as!(BackendKeyData, |out| write_key(out, 77, &[0, 0, 1, 0]));
    assert_eq!((key_data.process_id(), key_data.secret_key()), (77, 256));
    assert_eq!(read_as!(ReadyForQuery, |out| write_ready(out, b'T')).status(), b'T');
    let negotiate = written(|out| write_negotiate(out, 0, &["_pq_.a", "_pq_.b"]));
    assert_eq!(negotiate, b"v\0\0\0\x1a\0\x03\0\0\0\0\0\x02_pq_.a\0_pq_.b\0");
}

#[test]
fn a_result_is_read_by_a_client() {
    let description = read_as!(RowDescription, |out| write_row_description(out, &["tenant", "connections"]));
    let columns: Vec<_> = description
        .fields()
        .map(|field| {
            Ok((field.name().to_owned(), field.type_oid(), field.type_size(), field.type_modifier(), field.format()))
        })
        .collect()
        .unwrap();
    assert_eq!(columns, [("tenant".to_owned(), 25, -1, -1, 0), ("connections".to_owned(), 25, -1, -1, 0)]);
    let row = read_as!(DataRow, |out| write_row(out, &[Some("acme"), None, Some("")]));
    let values: Vec<_> = row.ranges().map(|range| Ok(range.map(|range| row.buffer()[range].to_vec()))).collect().unwrap();
    assert_eq!(values, [Some(b"acme".to_vec()), None, Some(Vec::new())]);
    assert_eq!(read_as!(CommandComplete, |out| write_complete(out, "SHOW")).tag().unwrap(), "SHOW");
    let types = read_as!(ParameterDescription, |out| write_parameter_description(out, &[25, u32::MAX]));
    assert_eq!(types.parameters().collect::<Vec<_>>().unwrap(), [25, u32::MAX]);
}

#[test]
fn messages_without_a_body() {
    assert!(matches!(as_read(write_empty_query), Message::EmptyQueryResponse));
    assert!(matches!(as_read(write_parse_complete), Message::ParseComplete));
    assert!(matches!(as_read(write_bind_complete), Message::BindComplete));
    assert!(matches!(as_read(write_close_complete), Message::CloseComplete));
    assert!(matches!(as_read(write_no_data), Message::NoData));
}

#[test]
fn a_status_is_two_strings() {
    assert_eq!(parameter_status(b"TimeZone\0UTC\0"), Ok((&b"TimeZone"[..], &b"UTC"[..])));
    is_exact(b"TimeZone\0UTC\0", b"TimeZone\0UTC\0x", "ParameterStatus", parameter_status);
}

#[test]
fn a_secret_has_4_to_256_bytes() {
    let body = |len: usize| [&7_u32.to_be_bytes()[..], &vec![9; len]].concat();
    for len in [4, 32, 256] {
        assert_eq!(key(&body(len)), Ok((7, &vec![9; len][..])));
    }
    is_exact(&body(4), &body(257), "BackendKeyData", key);
}

#[test]
fn values_may_be_null() {
    assert_eq!(function_result(&[0, 0, 0, 2, 8, 9]), Ok(Some(&[8, 9][..])));
    assert_eq!(function_result(&[0xff; 4]), Ok(None));
    is_exact(&[0, 0, 0, 2, 8, 9], &[0, 0, 0, 2, 8, 9, 1], "FunctionCallResponse", function_result);
    let row = written(|out| write_row(out, &[Some("acme"), None]));
    assert_eq!(first_column(&row[HEADER_LEN..]), Ok(Some(&b"acme"[..])));
    let row = written(|out| write_row(out, &[None, Some("acme")]));
    assert_eq!(first_column(&row[HEADER_LEN..]), Ok(None));
    for short in [&[][..], &[0], &[0, 0], &[0, 1, 0, 0, 0], &[0, 1, 0, 0, 0, 1], &[0, 1, 0xff, 0xff, 0xff, 0xfe]] {
        assert_eq!(first_column(short), Err(MessageError::Short("DataRow")));
    }
}

proptest! {
    #[test]
    fn rows_and_statuses_survive(name in "[^\0]{0,20}", value in prop::option::of(".{0,40}"), other in "[^\0]{0,20}") {
        let row = written(|out| write_row(out, &[value.as_deref(), Some(&other)]));
        prop_assert_eq!(first_column(&row[HEADER_LEN..]), Ok(value.as_deref().map(str::as_bytes)));
        let status = written(|out| write_parameter_status(out, &name, &other));
        prop_assert_eq!(parameter_status(&status[HEADER_LEN..]), Ok((name.as_bytes(), other.as_bytes())));
    }
}
