//! What must hold for any bytes that clients and servers send, for fuzz targets. A broken promise panics; nothing here runs in
//! a gateway.

use std::sync::Arc;

use guardian_pgwire::{frame, frontend, switch};

use super::{
    downstream::{Downstream, Names, Opening},
    prepared::Statements,
    refusal::Refusal,
    settings::Settings,
    upstream::{Asked, CloseOf, ParseOf, Upstream},
};

/// The longest input of which all is held until its messages are whole, however it is cut.
const HELD_LEN_MAX: usize = 2000;

/// A client's bytes come to the same for a server however they are cut; no switch of the tenant is among what is passed on.
pub fn client(bytes: &[u8]) {
    open(bytes);
    let Some((choice, bytes)) = bytes.split_first() else { return };
    let names = if choice & 1 == 0 { Names::Translated } else { Names::Own };
    let whole = forward(bytes, names, &mut || usize::MAX);
    if let Ok(whole) = &whole {
        no_switch(whole);
    }
    if bytes.len() <= HELD_LEN_MAX {
        let mut state = u32::from(*choice);
        let cut = forward(bytes, names, &mut || pseudo_random(&mut state));
        assert_eq!(whole.ok(), cut.ok());
    }
}

/// A server's bytes come to the same for a client however they are cut, and a connection is settled only when nothing is owed
/// and the last status said that no transaction is open. The first bytes choose what the server was asked.
pub fn server(bytes: &[u8]) {
    let Some((choice, bytes)) = bytes.split_first() else { return };
    let (questions, bytes) = bytes.split_at(usize::from(choice % 16).min(bytes.len()));
    let whole = answer(questions, bytes, &mut || usize::MAX);
    if bytes.len() <= HELD_LEN_MAX {
        let mut state = u32::from(*choice);
        let cut = answer(questions, bytes, &mut || pseudo_random(&mut state));
        assert_eq!(whole, cut);
    }
}

/// Lengths from one on, mostly short.
fn pseudo_random(state: &mut u32) -> usize {
    *state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
    let random = (*state >> 16) as usize;
    if random.is_multiple_of(3) { 1 } else { random % 40 + 1 }
}

/// A client without a server connection, up to the first message that is for one.
fn open(mut bytes: &[u8]) {
    let (mut down, mut out) = (Downstream::default(), Vec::new());
    loop {
        if down.is_within_message() {
            bytes = &bytes[down.discard_remaining(bytes)..];
        }
        let consumed = match down.open(bytes, &mut out) {
            Ok(Opening::Refused { consumed: 0, .. }) => match down.open(bytes, &mut out) {
                Ok(Opening::Consumed(consumed)) => consumed,
                _ => return,
            },
            Ok(Opening::Consumed(consumed) | Opening::Own { consumed, .. } | Opening::Refused { consumed, .. }) => consumed,
            Ok(Opening::Incomplete | Opening::Server | Opening::Terminate) | Err(_) => return,
        };
        assert!(consumed > 0);
        bytes = &bytes[consumed..];
    }
}

fn forward(bytes: &[u8], names: Names, piece_len: &mut dyn FnMut() -> usize) -> Result<Vec<u8>, Refusal> {
    let mut up = Upstream::new(Arc::new(Settings::default()));
    let (mut down, mut statements, mut out) = (Downstream::default(), Statements::starting_at(0), Vec::new());
    let (mut at, mut arrived, mut sent) = (0, 0, Vec::new());
    while arrived < bytes.len() {
        arrived = bytes.len().min(arrived.saturating_add(piece_len()));
        loop {
            let input = &bytes[at..arrived];
            let forwarded = down.forward(input, &mut up, &mut statements, names, &mut out)?;
            assert!(forwarded.consumed <= input.len());
            assert!(forwarded.consumed > 0 || forwarded.bytes.is_empty());
            sent.extend_from_slice(forwarded.bytes);
            at += forwarded.consumed;
            if forwarded.consumed == 0 {
                break;
            }
        }
    }
    Ok(sent)
}

fn no_switch(mut sent: &[u8]) {
    while let Ok(Some(header)) = frame::header(sent) {
        let Some((message, rest)) = sent.split_at_checked(header.total()) else { return };
        let body = &message[frame::HEADER_LEN..];
        let text = match header.tag {
            b'Q' => Some(body),
            b'P' => frontend::parse_prefix(body).ok().flatten().map(|prefix| prefix.rest),
            _ => None,
        };
        assert!(body.len() > 16 * 1024 || !text.is_some_and(switch::resembles));
        sent = rest;
    }
}

/// What came of a server's bytes.
#[derive(Debug, PartialEq, Eq)]
struct Came {
    sent: Vec<u8>,
    owed: usize,
    is_settled: bool,
    prepared: usize,
    failures: usize,
}

fn answer(questions: &[u8], bytes: &[u8], piece_len: &mut dyn FnMut() -> usize) -> Option<Came> {
    let mut up = Upstream::new(Arc::new(Settings::default()));
    let mut readies = 0;
    for question in questions {
        let asked = question_of(*question);
        readies += usize::from(matches!(asked, Asked::Query(_) | Asked::Function | Asked::Sync));
        up.ask(asked);
    }
    let mut came = Came { sent: Vec::new(), owed: 0, is_settled: false, prepared: 0, failures: 0 };
    let (mut at, mut arrived, mut out) = (0, 0, Vec::new());
    while arrived < bytes.len() {
        arrived = bytes.len().min(arrived.saturating_add(piece_len()));
        loop {
            let input = &bytes[at..arrived];
            let answered = up.answer(input, &mut out).ok()?;
            assert!(answered.consumed <= input.len());
            came.sent.extend_from_slice(answered.bytes);
            came.prepared += answered.prepared;
            came.failures += usize::from(answered.failed);
            at += answered.consumed;
            let (consumed, settled) = (answered.consumed, answered.settled);
            assert!(!settled || (up.is_settled() && up.owed() == 0 && !up.is_busy() && !up.is_in_transaction()));
            if consumed == 0 {
                break;
            }
        }
    }
    assert!(count_of(&came.sent, b'Z') <= readies, "each ReadyForQuery was asked for");
    came.owed = up.owed();
    came.is_settled = up.is_settled();
    Some(came)
}

fn count_of(mut sent: &[u8], tag: u8) -> usize {
    let mut count = 0;
    while let Ok(Some(header)) = frame::header(sent) {
        let Some(rest) = sent.get(header.total()..) else { break };
        count += usize::from(header.tag == tag);
        sent = rest;
    }
    count
}

fn question_of(choice: u8) -> Asked {
    let number = u64::from(choice / 16);
    match choice % 16 {
        0 => Asked::Query(None),
        1 => Asked::Query(Some(Refusal::SwitchMisplaced)),
        2 => Asked::Function,
        3 | 15 => Asked::Sync,
        4 => Asked::Parse(ParseOf::Named(number)),
        5 => Asked::Parse(ParseOf::Unnamed),
        6 => Asked::Parse(ParseOf::Untracked),
        7 => Asked::Parse(ParseOf::Gateway(Some(number))),
        8 => Asked::Parse(ParseOf::Gateway(None)),
        9 => Asked::Parse(ParseOf::Refused(Refusal::SwitchMisplaced)),
        10 => Asked::Bind,
        11 => Asked::Describe,
        12 => Asked::Close(CloseOf::AsParse),
        13 => Asked::Execute,
        _ => Asked::CopyEnd,
    }
}
