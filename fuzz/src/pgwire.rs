//! What must hold for the parsers of PostgreSQL's protocol.

#![expect(clippy::unwrap_used, reason = "a broken promise panics")]

use std::str;

use aws_lc_rs::{digest, hmac};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use guardian_pgwire::{
    backend::{self, Auth},
    frame::{self, HEADER_LEN},
    frontend::{self, TargetKind},
    scram::{Exchange, MECHANISM, MECHANISM_PLUS, ScramError, Verifier},
    startup::{self, FirstPacket},
    switch::{self, Own},
};

use crate::sql::{Token, tokens};

fn written(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out);
    out
}

/// Calls `each` with the body of every message up to the first that is cut or impossible.
fn messages(mut bytes: &[u8], each: impl Fn(&[u8])) {
    while let Ok(Some(header)) = frame::header(bytes) {
        assert_eq!(frame::header(&bytes[..HEADER_LEN]), Ok(Some(header)));
        let Some((message, rest)) = bytes.split_at_checked(header.total()) else { return };
        each(&message[HEADER_LEN..]);
        bytes = rest;
    }
}

/// A first packet is whole before it is read, and writes back as itself; so do the settings in its options.
pub fn first_packet(bytes: &[u8]) {
    let Ok(Some((packet, len))) = startup::parse(bytes) else { return };
    assert!((8..=startup::PACKET_LEN_MAX.min(bytes.len())).contains(&len));
    let bytes = &bytes[..len];
    for cut in 0..len {
        assert_eq!(startup::parse(&bytes[..cut]), Ok(None));
    }
    match packet {
        FirstPacket::Ssl => assert_eq!(bytes, written(startup::write_ssl_request)),
        FirstPacket::GssEncryption => assert_eq!(len, 8),
        FirstPacket::Cancel { process, secret } => {
            assert!((4..=256).contains(&secret.len()));
            assert_eq!(bytes, written(|out| startup::write_cancel(out, process, &secret)));
        }
        FirstPacket::Startup(packet) => {
            assert_eq!(packet.major, 3);
            let mut names: Vec<_> = packet.parameters.iter().map(|(name, _)| name.to_ascii_lowercase()).collect();
            names.sort_unstable();
            assert!(names.iter().all(|name| !name.is_empty()) && names.windows(2).all(|pair| pair[0] != pair[1]));
            let pairs: Vec<_> = packet.parameters.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            if packet.minor == 0 && packet.extensions.is_empty() {
                assert_eq!(bytes, written(|out| startup::write_startup(out, &pairs)));
            }
            options(packet.get("options").unwrap_or_default());
        }
    }
}

fn options(text: &str) {
    let Ok(settings) = startup::options(text) else { return };
    let escaped = |value: &str| value.chars().flat_map(|character| ['\\', character]).collect::<String>();
    let again = settings.iter().map(|(name, value)| format!("-c {}={}", escaped(name), escaped(value)));
    assert_eq!(startup::options(&again.collect::<Vec<_>>().join(" ")), Ok(settings));
}

/// What is read of a client's message writes back as itself, and a front means the same however much of the rest is there.
pub fn client(bytes: &[u8]) {
    messages(bytes, client_message);
}

fn client_message(body: &[u8]) {
    let message = |tag: u8| written(|out| out.extend([&[tag][..], &u32_of(body.len() + 4), body].concat()));
    if let Ok(text) = frontend::query(body) {
        assert!(!text.contains(&0));
        assert_eq!(written(|out| frontend::write_query(out, text)), message(b'Q'));
    }
    if let Ok(parsed) = frontend::parse(body) {
        let front = frontend::parse_prefix(body).unwrap().unwrap();
        assert_eq!(front.name, parsed.name);
        assert_eq!(front.rest, [parsed.text, b"\0", parsed.types].concat());
        assert_eq!(written(|out| frontend::write_parse(out, front.name, front.rest)), message(b'P'));
    }
    if let Ok(Some(front)) = frontend::bind_prefix(body) {
        let rest = &body[front.len..];
        let again = written(|out| {
            frontend::write_bind_prefix(out, front.portal, front.statement, rest.len());
            out.extend_from_slice(rest);
        });
        assert_eq!(again, message(b'B'));
    }
    if let Ok(target) = frontend::target(body) {
        assert!(matches!(target.kind, TargetKind::Statement | TargetKind::Portal));
        assert_eq!(written(|out| frontend::write_describe(out, target.kind, target.name)), message(b'D'));
        assert_eq!(written(|out| frontend::write_close(out, target.kind, target.name)), message(b'C'));
    }
    if let Ok(initial) = frontend::sasl_initial(body)
        && let Ok(mechanism) = str::from_utf8(initial.mechanism)
        && !body.ends_with(&[0xff; 4])
    {
        assert_eq!(written(|out| frontend::write_sasl_initial(out, mechanism, initial.response)), message(b'p'));
    }
    for cut in 0..body.len().min(80) {
        let (short, whole) = (frontend::bind_prefix(&body[..cut]), frontend::bind_prefix(body));
        assert!(short == Ok(None) || short == whole);
        let name = |body| frontend::parse_prefix(body).map(|front| front.map(|front| front.name));
        assert!(name(&body[..cut]) == Ok(None) || name(&body[..cut]) == name(body));
        // A whole body is read whole, or not at all.
        assert!(frontend::parse(body).is_err() || frontend::parse(&body[..cut]).is_err());
        assert!(frontend::query(body).is_err() || frontend::query(&body[..cut]).is_err());
    }
}

/// What is read of a server's message writes back as itself, and lies within the message.
pub fn server(bytes: &[u8]) {
    messages(bytes, server_message);
}

fn server_message(body: &[u8]) {
    let mut len = 0;
    for (code, text) in backend::fields(body) {
        assert!(code != 0 && backend::field(body, code).is_some());
        assert_eq!(body[len], code);
        len += text.len() + 2;
    }
    assert!(len <= body.len());
    match backend::auth(body) {
        Ok(Auth::Ok) => assert_eq!(written(backend::write_auth_ok)[HEADER_LEN..], *body),
        Ok(Auth::Sasl(list)) => {
            let names = backend::mechanisms(list);
            assert!(names.map(|name| name.len() + 1).sum::<usize>() <= list.len());
        }
        Ok(Auth::SaslContinue(rest) | Auth::SaslFinal(rest)) => assert_eq!(rest, &body[4..]),
        _ => {}
    }
    if let Ok((name, value)) = backend::parameter_status(body) {
        assert_eq!([name, b"\0", value, b"\0"].concat(), body);
    }
    if let Ok((process, secret)) = backend::key(body) {
        assert!((4..=256).contains(&secret.len()));
        assert_eq!(written(|out| backend::write_key(out, process, secret))[HEADER_LEN..], *body);
    }
    match backend::function_result(body) {
        Ok(Some(value)) => assert_eq!([&u32_of(value.len())[..], value].concat(), body),
        Ok(None) => assert_eq!(body, [0xff; 4]),
        Err(_) => {}
    }
    if let Ok(Some(value)) = backend::first_column(body) {
        assert_eq!(&body[6..6 + value.len()], value);
    }
}

fn u32_of(len: usize) -> [u8; 4] {
    u32::try_from(len).unwrap().to_be_bytes()
}

/// A statement of the gateway's own is one statement to a reader of PostgreSQL's lexical rules: the words of its shape and one value,
/// with nothing of any other kind. No text becomes one by what is put around it.
pub fn own_statement(bytes: &[u8]) {
    let Some(own) = switch::own(bytes) else {
        let _ = switch::resembles(bytes);
        return;
    };
    assert!(switch::resembles(bytes));
    let mut tokens = tokens(bytes);
    if tokens.last() == Some(&Token::Symbol(b';')) {
        tokens.pop();
    }
    let words = |expected: &[&str], tokens: &[Token]| {
        let words = tokens.iter().map(|token| match token {
            Token::Word(word) => word.to_ascii_lowercase(),
            Token::Symbol(symbol) => char::from(*symbol).to_string(),
            other => panic!("{other:?} in {expected:?}"),
        });
        assert_eq!(words.collect::<Vec<_>>(), expected);
    };
    let (setting, value) = match own {
        Own::SetTenant(value) => ("tenant", value),
        Own::SetIdentity(value) => ("identity", value),
        Own::ResetTenant => return words(&["reset", "guardian", ".", "tenant"], &tokens),
        Own::ShowTenant => return words(&["show", "guardian", ".", "tenant"], &tokens),
    };
    match tokens.pop() {
        Some(Token::Literal(literal)) => assert_eq!(literal, value),
        Some(Token::Word(word)) => assert_eq!(word.to_ascii_lowercase(), value),
        other => panic!("{other:?} as a value"),
    }
    let sign = if tokens.last() == Some(&Token::Symbol(b'=')) { "=" } else { "to" };
    match tokens.len() {
        5 => words(&["set", "guardian", ".", setting, sign], &tokens),
        _ => words(&["set", "session", "guardian", ".", setting, sign], &tokens),
    }
    for (before, behind) in
        [("SELECT 1;", ""), ("/**/", ""), ("--\n", ""), ("", ";;"), ("", "; SELECT 1"), ("", "--"), ("", "/**/"), ("", "$$")]
    {
        assert_eq!(switch::own(&[before.as_bytes(), bytes, behind.as_bytes()].concat()), None);
    }
}

const CLIENT_KEY: [u8; 32] = [0x5a; 32];
const SERVER_KEY: [u8; 32] = [0xa5; 32];
const CHANNEL: &[u8] = &[0xc4; 32];

/// One byte for the surroundings, a client-first-message, a line feed, and an edit of the client-final-message that an honest client
/// would send: untouched it is let in, and with any byte changed it is not.
pub fn scram(bytes: &[u8]) {
    if let Ok(text) = str::from_utf8(bytes) {
        let _ = Verifier::parse(text);
    }
    let Some((&surroundings, rest)) = bytes.split_first() else { return };
    let (first, edit) = rest.split_at(rest.iter().position(|&byte| byte == b'\n').unwrap_or(rest.len()));
    let edit = edit.strip_prefix(b"\n").unwrap_or(edit);
    let mechanism = if surroundings & 1 == 0 { MECHANISM } else { MECHANISM_PLUS };
    let channel = (surroundings & 2 != 0).then_some(CHANNEL);
    let stored_key = digest::digest(&digest::SHA256, &CLIENT_KEY);
    let (stored, server) = (BASE64_STANDARD.encode(stored_key), BASE64_STANDARD.encode(SERVER_KEY));
    let verifier = Verifier::parse(&format!("SCRAM-SHA-256$1:c2FsdA==${stored}:{server}")).unwrap();

    let begin = |verifier| Exchange::begin(verifier, mechanism.as_bytes(), first, channel);
    let Ok((exchange, server_first)) = begin(verifier.clone()) else { return };
    let (honest, server_final) = honest_final(first, &server_first, channel.unwrap_or_default(), stored_key.as_ref());
    assert_eq!(exchange.finish(&honest), Ok(server_final));

    // The nonce of another exchange is another one.
    let (exchange, _) = begin(verifier.clone()).unwrap();
    assert_eq!(exchange.finish(&honest), Err(ScramError::Nonce));

    let (exchange, server_first) = begin(verifier).unwrap();
    let (honest, _) = honest_final(first, &server_first, channel.unwrap_or_default(), stored_key.as_ref());
    let changed = edited(honest.clone(), edit);
    assert_eq!(exchange.finish(&changed).is_ok(), changed == honest);

    let mock = Verifier::mock(&[1; 32], "app.acme");
    let (exchange, server_first) = begin(mock).unwrap();
    let (honest, _) = honest_final(first, &server_first, channel.unwrap_or_default(), stored_key.as_ref());
    assert_eq!(exchange.finish(&honest), Err(ScramError::Proof));
}

/// What a client that knows [`CLIENT_KEY`] sends, and hopes to hear.
fn honest_final(first: &[u8], server_first: &[u8], channel: &[u8], stored_key: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let commas: Vec<_> = first.iter().enumerate().filter(|&(_, &byte)| byte == b',').map(|(at, _)| at).collect();
    let (header, bare) = first.split_at(commas[1] + 1);
    let channel = if header.starts_with(b"p=") { channel } else { &[] };
    let nonce = server_first.split(|&byte| byte == b',').next().unwrap();
    let binding = BASE64_STANDARD.encode([header, channel].concat());
    let without_proof = [b"c=", binding.as_bytes(), b",", nonce].concat();
    let signed = [bare, b",", server_first, b",", &without_proof].concat();
    let sign = |key: &[u8]| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), &signed);
    let proof: Vec<u8> = sign(stored_key).as_ref().iter().zip(CLIENT_KEY).map(|(a, b)| a ^ b).collect();
    let client_final = [&without_proof, &b",p="[..], BASE64_STANDARD.encode(proof).as_bytes()].concat();
    (client_final, [b"v=", BASE64_STANDARD.encode(sign(&SERVER_KEY)).as_bytes()].concat())
}

/// The message after `edit`, in steps of three bytes: what to do, where, and with which byte.
fn edited(mut message: Vec<u8>, edit: &[u8]) -> Vec<u8> {
    for step in edit.chunks_exact(3) {
        let at = usize::from(step[1]) % message.len().max(1);
        match step[0] % 4 {
            0 if at < message.len() => message[at] = step[2],
            1 => message.insert(at.min(message.len()), step[2]),
            2 => message.truncate(at),
            _ if at < message.len() => drop(message.remove(at)),
            _ => {}
        }
    }
    message
}
