use std::collections::BTreeMap;

use bytes::BytesMut;
use postgres_protocol::message::frontend;
use proptest::prelude::*;

use super::*;

fn packet(code: u32, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    write_untagged(&mut out, |out| {
        out.extend_from_slice(&code.to_be_bytes());
        out.extend_from_slice(body);
    });
    out
}

/// Reads a whole packet, with bytes behind it and at every cut.
fn read(packet: &[u8]) -> FirstPacket {
    for cut in 0..packet.len() {
        assert_eq!(parse(&packet[..cut]), Ok(None), "cut at {cut}");
    }
    let (first, len) = parse(&[packet, b"behind"].concat()).unwrap().unwrap();
    assert_eq!(len, packet.len());
    first
}

fn refused(body: &[u8]) -> StartupError {
    parse(&packet(VERSION_3_0, body)).unwrap_err()
}

#[test]
fn a_start_up_packet_has_its_parameters_in_order() {
    let FirstPacket::Startup(startup) =
        read(&packet((3 << 16) + 2, b"user\0app.acme\0database\0shop\0_pq_.wish\0on\0application_name\0\0_pq_.other\0\0\0"))
    else {
        panic!("no start-up")
    };
    assert_eq!((startup.major, startup.minor), (3, 2));
    assert_eq!(startup.get("user"), Some("app.acme"));
    assert_eq!(startup.get("application_name"), Some(""));
    assert_eq!((startup.get("User"), startup.get("_pq_.wish")), (None, None));
    assert_eq!(
        startup.parameters.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(),
        ["user", "database", "application_name"]
    );
    assert_eq!(startup.extensions, ["_pq_.wish", "_pq_.other"]);
}

#[test]
fn requests_are_told_apart() {
    assert_eq!(read(&[0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f]), FirstPacket::Ssl);
    assert_eq!(read(&[0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x30]), FirstPacket::GssEncryption);
    assert_eq!(
        read(&packet(VERSION_3_0, b"\0")),
        FirstPacket::Startup(Startup { major: 3, minor: 0, parameters: Vec::new(), extensions: Vec::new() })
    );
    for len in [4, 32, 256] {
        let secret = vec![7; len];
        let mut out = Vec::new();
        write_cancel(&mut out, 0xdead_beef, &secret);
        assert_eq!(read(&out), FirstPacket::Cancel { process: 0xdead_beef, secret });
    }
}

#[test]
fn lengths_have_bounds() {
    for length in [0, 7, 10_001, 0x1603_0100, u32::MAX] {
        assert_eq!(parse(&length.to_be_bytes()), Err(StartupError::Length(length)));
    }
    let body = [&b"user\0"[..], &vec![b'x'; PACKET_LEN_MAX - 15], b"\0\0"].concat();
    assert!(matches!(read(&packet(VERSION_3_0, &body)), FirstPacket::Startup(_)));
    for (code, body) in [(SSL, &b"x"[..]), (GSS_ENCRYPTION, b"x"), (CANCEL, b""), (CANCEL, b"1234567"), (CANCEL, &[0; 261])]
    {
        assert_eq!(parse(&packet(code, body)), Err(StartupError::Length(8 + u32::try_from(body.len()).unwrap())));
    }
}

#[test]
fn what_is_no_start_up_is_refused() {
    for body in
        [&b""[..], b"user", b"user\0", b"user\0a", b"user\0a\0", b"user\0a\0\0x", b"user\0a\0\0\0", b"\0\0", b"\0x\0\0"]
    {
        assert_eq!(refused(body), StartupError::Layout, "{body:?}");
    }
    assert_eq!(refused(b"user\0\xff\0\0"), StartupError::Encoding);
    assert_eq!(refused(b"user\0a\0user\0b\0\0"), StartupError::Duplicate("user".to_owned()));
    assert_eq!(refused(b"DateStyle\0a\0datestyle\0a\0\0"), StartupError::Duplicate("datestyle".to_owned()));
    assert_eq!(refused(b"_pq_.a\0a\0_pq_.a\0a\0\0"), StartupError::Duplicate("_pq_.a".to_owned()));
    for (major, minor) in [(2, 0), (4, 0), (0, 0), (1234, 5677)] {
        let code = u32::from(major) << 16 | u32::from(minor);
        assert_eq!(parse(&packet(code, b"user\0a\0\0")), Err(StartupError::Version { major, minor }));
    }
}

#[test]
fn options_are_settings() {
    let settings = |text| {
        let settings = options(text).unwrap();
        settings.into_iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>()
    };
    assert_eq!(settings(""), [""; 0]);
    assert_eq!(settings(" \t "), [""; 0]);
    assert_eq!(settings("-c a=1 -cb=2 --c=3"), ["a=1", "b=2", "c=3"]);
    assert_eq!(settings("\n-c\x0b guardian.tenant=acme\r"), ["guardian.tenant=acme"]);
    assert_eq!(settings("--statement-timeout=5 -c lock-timeout=6"), ["statement_timeout=5", "lock_timeout=6"]);
    assert_eq!(settings(r"-c search_path=a,\ b\\c --x=\-c"), [r"search_path=a, b\c", "x=-c"]);
    assert_eq!(settings("-c a=b=c --d="), ["a=b=c", "d="]);
    assert_eq!(settings(r"-c a=b\"), ["a=b"]);
    assert_eq!(settings("--c=1"), ["c=1"]);
    assert_eq!(settings("-c a='1 --b=2'"), ["a='1", "b=2'"]);
}

#[test]
fn other_options_are_refused() {
    for text in
        ["-c", "-c a", "-ca", "--a", "--", "-", "-c =1", "--=1", "a=1", "-d 5", "-B 100", "\\", "-c -c a=1", "-e -c a=1"]
    {
        assert!(matches!(options(text), Err(StartupError::Option(_))), "{text}");
    }
    assert_eq!(
        options("-x a").unwrap_err().to_string(),
        "`-x` in options is no setting; write -c name=value or --name=value"
    );
}

#[test]
fn requests_are_what_another_client_writes() {
    let (mut theirs, mut ours) = (BytesMut::new(), Vec::new());
    frontend::ssl_request(&mut theirs);
    frontend::cancel_request(1234, 0x0102_0304, &mut theirs);
    write_ssl_request(&mut ours);
    write_cancel(&mut ours, 1234, &[1, 2, 3, 4]);
    assert_eq!(theirs, ours);
}

proptest! {
    #[test]
    fn parameters_survive(map in prop::collection::btree_map("[a-z.\u{e9}]{1,9}", "[^\0]{0,12}", 0..9), suffix in "[^\0]{0,20}") {
        prop_assume!(!map.contains_key("options"));
        let map: BTreeMap<String, String> = map.into_iter().chain([("options".to_owned(), suffix)]).collect();
        let pairs: Vec<_> = map.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let (mut theirs, mut ours) = (BytesMut::new(), Vec::new());
        write_startup(&mut ours, &pairs);
        let FirstPacket::Startup(startup) = read(&ours) else { panic!("no start-up") };
        prop_assert_eq!((startup.major, startup.minor), (3, 0));
        prop_assert_eq!(startup.parameters, map.clone().into_iter().collect::<Vec<_>>());
        // The other writer puts a setting of its own in front.
        frontend::startup_message(pairs, &mut theirs).unwrap();
        let own = b"client_encoding\0UTF8\0";
        let at = theirs.windows(own.len()).position(|window| window == own);
        let mut theirs = theirs.to_vec();
        if let Some(at) = at {
            theirs.drain(at..at + own.len());
            let len = u32::try_from(theirs.len()).unwrap();
            theirs[..4].copy_from_slice(&len.to_be_bytes());
        }
        prop_assert_eq!(theirs, ours);
    }

    #[test]
    fn any_value_can_be_written_as_an_option(name in "[a-z_.]{1,12}", value: String, long: bool) {
        let escaped: String = value.chars().flat_map(|character| ['\\', character]).collect();
        let text = if long { format!("--{name}={escaped}") } else { format!("-c {name}={escaped}") };
        prop_assert_eq!(options(&text), Ok(vec![(name, value)]));
    }

    #[test]
    fn any_bytes_parse_or_are_refused(mut bytes in prop::collection::vec(any::<u8>(), 0..64), version: bool) {
        if version && bytes.len() >= 8 {
            let len = u32::try_from(bytes.len()).unwrap();
            bytes[..4].copy_from_slice(&len.to_be_bytes());
            bytes[4..8].copy_from_slice(&VERSION_3_0.to_be_bytes());
        }
        if let Ok(Some((_, len))) = parse(&bytes) {
            prop_assert!((8..=bytes.len()).contains(&len));
        }
    }
}
