//! Single cases that the random conversations leave out, or that went wrong once.

use std::sync::Arc;

use guardian_pgwire::{backend, frontend};

use super::model::frame_of;
use crate::sql::{
    downstream::{Downstream, Names, Opening, Step},
    prepared::Statements,
    refusal::Refusal,
    settings::Settings,
    upstream::{Asked, CloseOf, LastWords, ParseOf, Upstream, Violation},
};

fn upstream(asked: Vec<Asked>) -> Upstream {
    let mut up = Upstream::new(Arc::new(Settings::default()));
    for asked in asked {
        up.ask(asked);
    }
    up
}

fn written(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out);
    out
}

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    written(|out| frame_of(out, tag, body))
}

/// What the client gets for an answer.
fn answer(up: &mut Upstream, bytes: &[u8]) -> Result<Vec<u8>, Violation> {
    let (mut out, mut at, mut sent) = (Vec::new(), 0, Vec::new());
    while at < bytes.len() {
        let answered = up.answer(&bytes[at..], &mut out)?;
        sent.extend_from_slice(answered.bytes);
        if answered.consumed == 0 {
            break;
        }
        at += answered.consumed;
    }
    Ok(sent)
}

fn error(code: &str) -> Vec<u8> {
    let body = [b"SERROR\0C", code.as_bytes(), b"\0Mno\0\0"].concat();
    message(b'E', &body)
}

fn ready() -> Vec<u8> {
    message(b'Z', b"I")
}

#[test]
fn a_message_that_nothing_asked_for_is_a_violation() {
    for tag in *b"123CDHIGTVZcdnst" {
        let mut up = upstream(Vec::new());
        let body: &[u8] = if tag == b'Z' { b"I" } else { b"" };
        assert_eq!(answer(&mut up, &message(tag, body)).unwrap_err(), Violation::Unasked(tag));
    }
    assert_eq!(answer(&mut upstream(vec![Asked::Query(None)]), &message(b'W', &[0; 3])).unwrap_err(), Violation::CopyBoth);
    let early = message(b'Z', b"I");
    assert!(answer(&mut upstream(vec![Asked::Execute, Asked::Sync]), &early).is_err(), "the Execute was skipped");
    for status in [&b""[..], b"X", b"II"] {
        assert!(answer(&mut upstream(vec![Asked::Sync]), &message(b'Z', status)).is_err());
    }
}

#[test]
fn a_group_without_its_end_is_not_settled() {
    for asked in [Asked::Bind, Asked::Describe, Asked::Execute, Asked::Close(CloseOf::Untracked)] {
        let mut up = upstream(vec![asked]);
        let done = [message(b'2', b""), message(b'n', b""), message(b'C', b"SELECT 1\0"), message(b'3', b"")];
        let taken = done.iter().find(|done| answer(&mut up, done).is_ok());
        assert!(taken.is_none() || up.owed() == 0);
        assert!(!up.is_settled() && up.is_in_transaction());
    }
    let mut up = upstream(vec![Asked::Parse(ParseOf::Untracked)]);
    answer(&mut up, &message(b'1', b"")).unwrap();
    assert!(!up.is_busy() && !up.is_settled());
    up.ask(Asked::Sync);
    answer(&mut up, &ready()).unwrap();
    assert!(up.is_settled());
}

#[test]
fn a_half_message_of_a_server_is_not_settled() {
    let mut up = upstream(vec![Asked::Query(None)]);
    let rows = [message(b'T', &[0, 0]), message(b'D', &[7; 100])].concat();
    answer(&mut up, &rows[..50]).unwrap();
    assert!(!up.is_settled());
    answer(&mut up, &rows[50..]).unwrap();
    answer(&mut up, &[message(b'C', b"SELECT 1\0"), ready()].concat()).unwrap();
    assert!(up.is_settled());
}

#[test]
fn an_error_of_any_length_is_one() {
    let long = message(b'E', &[b"SERROR\0C22P02\0M", &b"x".repeat(40_000)[..], b"\0\0"].concat());
    for piece_len in [100, 20_000, 50_000] {
        let mut up = upstream(vec![Asked::Parse(ParseOf::Named(3)), Asked::Sync]);
        let (mut inbox, mut failed, mut sent, mut out) = (Vec::new(), false, Vec::new(), Vec::new());
        for piece in long.chunks(piece_len) {
            inbox.extend_from_slice(piece);
            let answered = up.answer(&inbox, &mut out).unwrap();
            failed |= answered.failed;
            sent.extend_from_slice(answered.bytes);
            let consumed = answered.consumed;
            inbox.drain(..consumed);
        }
        assert!(failed && !up.prepared.has(3) && up.traces.suspect && sent == long, "{piece_len}");
        answer(&mut up, &ready()).unwrap();
        assert!(up.is_settled());
    }
}

#[test]
fn refusals_take_the_place_of_errors_made_for_them() {
    let refusal = written(|out| Refusal::SwitchMisplaced.write_error(out));
    let mut up = upstream(vec![Asked::Query(Some(Refusal::SwitchMisplaced))]);
    assert_eq!(answer(&mut up, &error("42601")).unwrap(), refusal);
    let mut up = upstream(vec![Asked::Parse(ParseOf::Refused(Refusal::SwitchMisplaced)), Asked::Sync]);
    assert_eq!(answer(&mut up, &error("42601")).unwrap(), refusal);
    let mut up = upstream(vec![Asked::Parse(ParseOf::Refused(Refusal::SwitchMisplaced)), Asked::Sync]);
    assert!(answer(&mut up, &message(b'1', b"")).is_err(), "it did not fail");
    let mut up = upstream(vec![Asked::Query(None)]);
    up.cut = Some(Refusal::Cancelled);
    assert_eq!(answer(&mut up, &error("57014")).unwrap(), written(|out| Refusal::Cancelled.write_error(out)));
}

/// As PostgreSQL writes it.
fn fatal(code: &str) -> Vec<u8> {
    message(b'E', &[b"SFATAL\0VFATAL\0C", code.as_bytes(), b"\0Mthe end\0RProcessInterrupts\0\0"].concat())
}

#[test]
fn nothing_is_said_in_place_of_a_server_s_last_words() {
    let questions: [fn() -> Vec<Asked>; 4] = [
        Vec::new,
        || vec![Asked::Query(Some(Refusal::SwitchMisplaced))],
        || vec![Asked::Parse(ParseOf::Refused(Refusal::SwitchMisplaced)), Asked::Sync],
        || vec![Asked::Query(None)],
    ];
    for asked in questions {
        let mut up = upstream(asked());
        up.cut = Some(Refusal::Cancelled);
        for code in ["57P01", "57014"] {
            assert_eq!(answer(&mut up, &fatal(code)).unwrap(), fatal(code));
            assert!(matches!(up.last_words, LastWords::Told));
        }
    }
}

#[test]
fn a_client_that_waits_is_told_what_is_for_it() {
    let of_setting = |code: &str, routine: &str| {
        let body = ["SERROR\0VERROR\0C", code, "\0Mno\0R", routine, "\0\0"].concat();
        message(b'E', body.as_bytes())
    };
    let kept = |bytes: &[u8]| {
        let mut up = upstream(Vec::new());
        up.overhear(bytes);
        match up.last_words {
            LastWords::Kept(words) => Some(words),
            LastWords::None | LastWords::Told => None,
        }
    };
    assert_eq!(kept(&fatal("57P01")), Some(fatal("57P01")));
    let as_fatal = message(b'E', b"SFATAL\0VFATAL\0C22023\0Mno\0Rset_config_option\0\0");
    assert_eq!(kept(&of_setting("22023", "set_config_option")), Some(as_fatal));
    // A reset or an entry that fails is no affair of the client's, who may be another tenant's.
    for other in [of_setting("42501", "exec_stmt_raise"), of_setting("57014", "ProcessInterrupts"), of_setting("53200", "x")]
    {
        assert_eq!(kept(&other), None);
    }
    for other in [ready(), fatal("57P01")[..20].to_vec()] {
        assert_eq!(kept(&other), None);
    }
}

#[test]
fn a_switch_cut_anywhere_is_never_taken_for_a_query() {
    let simple = written(|out| frontend::write_query(out, b"/* x */ SET guardian.tenant = 'acme'"));
    let parse = written(|out| frontend::write_parse(out, b"", b"SET guardian.tenant = 'acme'\0\0\0"));
    for bytes in [simple, parse] {
        for cut in 0..bytes.len() {
            let opening = Downstream::default().open(&bytes[..cut], &mut Vec::new()).unwrap();
            assert_eq!(opening, Opening::Incomplete, "{cut}");
            let (mut up, mut statements, mut out) = (upstream(Vec::new()), Statements::starting_at(0), Vec::new());
            let mut down = Downstream::default();
            let forwarded = down.forward(&bytes[..cut], &mut up, &mut statements, Names::Translated, &mut out).unwrap();
            assert!(forwarded.bytes.is_empty() && forwarded.consumed == 0 && forwarded.step == Step::Done);
        }
        let (mut up, mut statements, mut out) = (upstream(Vec::new()), Statements::starting_at(0), Vec::new());
        for names in [Names::Translated, Names::Own] {
            let mut down = Downstream::default();
            let forwarded = down.forward(&bytes, &mut up, &mut statements, names, &mut out).unwrap();
            assert!(!String::from_utf8_lossy(forwarded.bytes).contains("guardian.tenant"));
        }
        assert!(!matches!(Downstream::default().open(&bytes, &mut Vec::new()).unwrap(), Opening::Server));
    }
}

#[test]
fn only_copy_data_may_come_during_copy() {
    for tag in *b"QPBDCEF" {
        let mut up = upstream(vec![Asked::Query(None)]);
        answer(&mut up, &message(b'G', &[0; 3])).unwrap();
        assert!(up.copy_in && !up.is_settled());
        let body: &[u8] = if matches!(tag, b'D' | b'C') { b"P\0" } else { b"\0\0\0\0\0\0\0" };
        let (mut statements, mut out) = (Statements::starting_at(0), Vec::new());
        let bytes = message(tag, body);
        let forwarded = Downstream::default().forward(&bytes, &mut up, &mut statements, Names::Own, &mut out);
        assert!(matches!(forwarded, Err(Refusal::Protocol(_))), "{}", char::from(tag));
    }
    let mut up = upstream(vec![Asked::Query(None), Asked::Query(None)]);
    assert_eq!(answer(&mut up, &message(b'G', &[0; 3])).unwrap_err(), Violation::BrokenCopy);
    let mut up = upstream(vec![Asked::Execute, Asked::Sync, Asked::Execute]);
    assert_eq!(answer(&mut up, &message(b'G', &[0; 3])).unwrap_err(), Violation::BrokenCopy);
}

/// PostgreSQL takes no notice of a Sync while it reads COPY data, and answers one that it reads after the data failed. Nobody but
/// PostgreSQL knows which it was.
#[test]
fn a_sync_in_a_copy_that_fails_leaves_the_count_in_doubt() {
    let begins = message(b'G', &[0; 3]);
    let behind = |up: &mut Upstream| {
        answer(up, &begins).unwrap();
        up.ask(Asked::Sync);
    };
    let before = |up: &mut Upstream| {
        up.ask(Asked::Sync);
        answer(up, &begins).unwrap();
    };
    let places: [&dyn Fn(&mut Upstream); 2] = [&behind, &before];
    for asked in [Asked::Query as fn(Option<Refusal>) -> Asked, |_| Asked::Execute] {
        for place in places {
            let mut up = upstream(vec![asked(None)]);
            place(&mut up);
            answer(&mut up, &error("22P04")).unwrap();
            if up.is_discarding() {
                up.ask(Asked::Sync);
            }
            answer(&mut up, &ready()).unwrap();
            assert!(up.is_settled() && up.is_doubtful());

            let mut up = upstream(vec![asked(None)]);
            place(&mut up);
            up.ask(Asked::CopyEnd);
            answer(&mut up, &message(b'C', b"COPY 1\0")).unwrap();
            answer(&mut up, &error("22012")).unwrap();
            assert!(!up.is_doubtful(), "it was read with the data");
        }
    }
}

#[test]
fn an_earlier_unnamed_statement_on_another_connection_is_not_run() {
    let (mut first, mut second) = (upstream(Vec::new()), upstream(Vec::new()));
    let (mut down, mut statements, mut out) = (Downstream::default(), Statements::starting_at(0), Vec::new());
    let group = |text: &[u8]| written(|out| frontend::write_parse(out, b"", &[text, &[0; 3]].concat()));
    for (up, text) in [(&mut first, b"SELECT 1"), (&mut second, b"SELECT 2")] {
        let bytes = [group(text), written(frontend::write_sync)].concat();
        down.forward(&bytes, up, &mut statements, Names::Translated, &mut out).unwrap();
        answer(up, &[message(b'1', b""), ready()].concat()).unwrap();
        down.answered(1, false);
        assert!(up.is_settled());
    }
    let bind = written(|out| {
        frontend::write_bind_prefix(out, b"", b"", 6);
        out.extend_from_slice(&[0; 6]);
    });
    let forwarded = down.forward(&bind, &mut first, &mut statements, Names::Translated, &mut out).unwrap();
    assert_eq!(forwarded.bytes, [group(b"SELECT 2"), bind.clone()].concat());
}

#[test]
fn what_is_no_message_ends_the_connection() {
    let impossible: [&[u8]; 5] = [b"Q\0\0\0\x03", b"Q\xff\xff\xff\xff", b"z\0\0\0\x04", b"S\0\0\0\x05x", b"H\0\0\0\x05x"];
    for bytes in impossible {
        let (mut up, mut statements, mut out) = (upstream(Vec::new()), Statements::starting_at(0), Vec::new());
        let forwarded = Downstream::default().forward(bytes, &mut up, &mut statements, Names::Translated, &mut out);
        assert!(matches!(forwarded, Err(Refusal::Protocol(_))), "{bytes:?}");
    }
    assert_eq!(answer(&mut upstream(Vec::new()), b"Z\0\0\0\x03").unwrap_err(), Violation::Malformed);
}

#[test]
fn a_client_that_sends_too_much_at_once_is_read_no_further() {
    let sync = written(frontend::write_sync);
    let many = sync.repeat(5000);
    let (mut up, mut statements, mut out) = (upstream(Vec::new()), Statements::starting_at(0), Vec::new());
    let mut down = Downstream::default();
    let forwarded = down.forward(&many, &mut up, &mut statements, Names::Translated, &mut out).unwrap();
    assert_eq!(forwarded.step, Step::Full);
    let consumed = forwarded.consumed;
    assert!(consumed < many.len());
    answer(&mut up, &ready().repeat(consumed / sync.len())).unwrap();
    assert!(up.is_settled());
    let rest = down.forward(&many[consumed..], &mut up, &mut statements, Names::Translated, &mut out).unwrap();
    assert_eq!((rest.step, rest.consumed), (Step::Done, many.len() - consumed));
}

#[test]
fn tags_that_end_the_tenant_s_context_are_noticed() {
    for (tag, is_suspect) in [("RESET", true), ("DISCARD ALL", true), ("SELECT 1", false)] {
        let mut up = upstream(vec![Asked::Query(None)]);
        let bytes = [written(|out| backend::write_complete(out, tag)), ready()].concat();
        answer(&mut up, &bytes).unwrap();
        assert_eq!(up.traces.suspect, is_suspect, "{tag}");
    }
    for tag in ["SET", "PREPARE", "DEALLOCATE", "LISTEN", "DO", "DECLARE CURSOR"] {
        let mut up = upstream(vec![Asked::Query(None)]);
        answer(&mut up, &written(|out| backend::write_complete(out, tag))).unwrap();
        assert!(up.traces.dirty, "{tag}");
    }
}

#[test]
fn a_refused_message_is_over_at_once_and_a_refused_group_at_its_end() {
    let refusal = Refusal::NoTenant;
    let error = written(|out| refusal.write_error(out));
    let query = written(|out| frontend::write_query(out, b"SELECT 1"));
    let (mut down, mut out) = (Downstream::default(), Vec::new());
    assert_eq!(down.refuse(&query[..8], &refusal, &mut out), Ok(8));
    assert_eq!(out, [error.clone(), ready()].concat());
    assert!(down.is_within_message());
    assert_eq!(down.discard_remaining(&query[8..]), query.len() - 8);
    assert!(!down.is_within_message() && !down.is_apart());
    out.clear();
    let parse = written(|out| frontend::write_parse(out, b"", b"SELECT 1\0\0\0"));
    let messages = [parse, message(b'E', &[0; 5]), written(frontend::write_sync)];
    assert_eq!(down.refuse(&messages[0], &refusal, &mut out), Ok(0));
    assert_eq!(out, error);
    out.clear();
    for message in &messages {
        assert_eq!(down.open(message, &mut out).unwrap(), Opening::Consumed(message.len()));
    }
    assert_eq!(out, ready());
}

#[test]
fn a_client_without_a_connection_may_say_what_means_nothing() {
    let (mut down, mut out) = (Downstream::default(), Vec::new());
    for tag in *b"dcfH" {
        let bytes = message(tag, if tag == b'H' { b"" } else { b"left over" });
        assert_eq!(down.open(&bytes, &mut out).unwrap(), Opening::Consumed(bytes.len()));
    }
    assert_eq!(down.open(&message(b'X', b""), &mut out).unwrap(), Opening::Terminate);
    assert!(matches!(down.open(&message(b'p', b""), &mut out), Err(Refusal::Protocol(_))));
    assert!(out.is_empty());
}

#[test]
fn an_answer_to_something_else_is_a_violation() {
    let questions: [fn() -> Asked; 7] = [
        || Asked::Query(None),
        || Asked::Function,
        || Asked::Parse(ParseOf::Unnamed),
        || Asked::Bind,
        || Asked::Describe,
        || Asked::Close(CloseOf::Untracked),
        || Asked::Execute,
    ];
    // For each of them, what may come first.
    let answers: [&[u8]; 7] = [b"CIGHTDdcZ", b"VZ", b"1", b"2", b"tTn", b"3", b"CIGsHDdc"];
    for (question, answers) in questions.iter().zip(answers) {
        for tag in *b"123CDHIGTVZcdnst" {
            let body: &[u8] = if tag == b'Z' { b"I" } else { b"" };
            let answered = answer(&mut upstream(vec![question()]), &message(tag, body));
            assert_eq!(answered.is_ok(), answers.contains(&tag), "{:?} for {:?}", char::from(tag), question());
        }
    }
}

#[test]
fn what_a_client_prepares_has_a_bound() {
    let (mut down, mut up, mut statements) = (Downstream::default(), upstream(Vec::new()), Statements::starting_at(0));
    let mut prepare = |number: usize| {
        let text = format!("SELECT {number}{}", " ".repeat(1_000_000));
        let parse = message(b'P', &[number.to_string().as_bytes(), b"\0", text.as_bytes(), b"\0\0\0"].concat());
        let mut out = Vec::new();
        let forwarded = down.forward(&parse, &mut up, &mut statements, Names::Translated, &mut out);
        forwarded.map(|forwarded| forwarded.consumed == parse.len())
    };
    for number in 0..16 {
        assert_eq!(prepare(number), Ok(true), "{number}");
    }
    assert!(matches!(prepare(16), Err(Refusal::TooLarge { what: "the list of prepared statements", .. })));
}
