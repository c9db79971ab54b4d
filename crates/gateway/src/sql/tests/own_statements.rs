//! Statements of the gateway's own in the extended protocol: prepared, carried out, and in company.

use std::sync::Arc;

use guardian_pgwire::{
    backend, frame,
    frontend::{self, TargetKind},
    switch,
};

use super::model::frame_of;
use crate::sql::{
    downstream::{Downstream, Names, Opening, Step},
    prepared::Statements,
    refusal::Refusal,
    settings::Settings,
    upstream::Upstream,
};

const SET: &[u8] = b"SET guardian.tenant = 'acme'";
const SHOW: &[u8] = b"SHOW guardian.tenant";

fn written(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out);
    out
}

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    written(|out| frame_of(out, tag, body))
}

fn parse(name: &[u8], text: &[u8]) -> Vec<u8> {
    written(|out| frontend::write_parse(out, name, &[text, &[0; 3]].concat()))
}

fn bind(name: &[u8]) -> Vec<u8> {
    written(|out| {
        frontend::write_bind_prefix(out, b"", name, 6);
        out.extend_from_slice(&[0; 6]);
    })
}

fn describe(name: &[u8]) -> Vec<u8> {
    written(|out| frontend::write_describe(out, TargetKind::Statement, name))
}

fn close(name: &[u8]) -> Vec<u8> {
    written(|out| frontend::write_close(out, TargetKind::Statement, name))
}

fn query(text: &[u8]) -> Vec<u8> {
    written(|out| frontend::write_query(out, text))
}

fn execute() -> Vec<u8> {
    message(b'E', &[0; 5])
}

fn flush() -> Vec<u8> {
    message(b'H', b"")
}

fn sync() -> Vec<u8> {
    written(frontend::write_sync)
}

fn ready() -> Vec<u8> {
    message(b'Z', b"I")
}

fn group(text: &[u8]) -> Vec<Vec<u8>> {
    vec![parse(b"", text), bind(b""), message(b'D', b"P\0"), execute(), sync()]
}

/// The types of the messages in a stream.
fn tags(mut bytes: &[u8]) -> String {
    let mut tags = String::new();
    while let Some(header) = frame::header(bytes).unwrap() {
        tags.push(char::from(header.tag));
        bytes = &bytes[header.total()..];
    }
    tags
}

/// A client without a server connection that says all of it, message by message. Yields the types of what it is answered, and
/// what came of the last message.
fn says(down: &mut Downstream, messages: &[Vec<u8>]) -> (String, Opening) {
    let (mut out, mut last) = (Vec::new(), Opening::Incomplete);
    for message in messages {
        last = down.open(message, &mut out).unwrap();
        match &last {
            Opening::Consumed(len) => assert_eq!(*len, message.len()),
            Opening::Own { group, .. } => out.extend_from_slice(group.as_deref().unwrap_or_default()),
            _ => {}
        }
    }
    (tags(&out), last)
}

fn own(consumed: &[u8], text: &[u8], ready: bool) -> Opening {
    // What was answered is looked at by itself.
    Opening::Own { consumed: consumed.len(), text: text.to_vec(), group: None, closed: 0, ready }
}

fn without_answers(opening: Opening) -> Opening {
    match opening {
        Opening::Own { consumed, text, closed, ready, .. } => Opening::Own { consumed, text, group: None, closed, ready },
        other => other,
    }
}

#[test]
fn a_group_of_the_gateway_s_own_is_answered_when_it_is_whole() {
    let (mut down, mut out) = (Downstream::default(), Vec::new());
    let mut messages = group(SHOW);
    let sync = messages.pop().unwrap();
    for message in messages {
        for cut in 0..message.len() {
            assert_eq!(down.open(&message[..cut], &mut out).unwrap(), Opening::Incomplete);
        }
        assert_eq!(down.open(&message, &mut out).unwrap(), Opening::Consumed(message.len()));
        assert!(down.is_apart());
    }
    let answers = written(|out| {
        backend::write_parse_complete(out);
        backend::write_bind_complete(out);
        backend::write_row_description(out, &["guardian.tenant"]);
    });
    let own = Opening::Own { consumed: sync.len(), text: SHOW.to_vec(), group: Some(answers), closed: 0, ready: true };
    assert_eq!(down.open(&sync, &mut out).unwrap(), own);
    assert!(!down.is_apart() && out.is_empty());
}

#[test]
fn a_flush_brings_what_there_is_to_say() {
    for (text, described) in [(SET, "1tn"), (SHOW, "1tT")] {
        let mut down = Downstream::default();
        let (answers, last) = says(&mut down, &[parse(b"one", text), describe(b"one"), flush()]);
        assert_eq!((answers.as_str(), last), (described, Opening::Consumed(flush().len())));
        let (answers, last) = says(&mut down, &[bind(b"one"), execute(), sync()]);
        assert_eq!((answers.as_str(), without_answers(last)), ("2", own(&sync(), text, true)));
        assert!(!down.is_apart());
        // The result, too, when the client waits for it before it ends the group.
        let (answers, last) = says(&mut down, &[bind(b"one"), execute(), flush()]);
        assert_eq!((answers.as_str(), without_answers(last)), ("2", own(&flush(), text, false)));
        assert!(down.is_apart());
        let refused = Opening::Refused { consumed: 0, refusal: Refusal::SwitchMisplaced, ready: false };
        for stranger in [bind(b"one"), execute(), parse(b"", b"SELECT 1"), bind(b"")] {
            let mut down = Downstream::default();
            says(&mut down, &[parse(b"one", text), bind(b"one"), execute(), flush()]);
            assert_eq!(says(&mut down, &[stranger]).1, refused, "it was carried out, and nothing goes with it");
        }
        assert_eq!(says(&mut down, &[sync()]), ("Z".to_owned(), Opening::Consumed(sync().len())));
        assert!(!down.is_apart());
    }
}

#[test]
fn what_was_prepared_can_be_carried_out_later_on() {
    for name in [&b"one"[..], b""] {
        let mut down = Downstream::default();
        assert_eq!(says(&mut down, &[parse(name, SET), sync()]).0, "1Z");
        assert!(!down.is_apart());
        for _ in 0..2 {
            let (answers, last) = says(&mut down, &[bind(name), message(b'D', b"P\0"), execute(), sync()]);
            assert_eq!((answers.as_str(), without_answers(last)), ("2n", own(&sync(), SET, true)));
        }
        assert_eq!(says(&mut down, &[describe(name), sync()]).0, "tnZ");
        assert_eq!(says(&mut down, &[close(name), sync()]).0, "3Z");
        // From here on it is for a server to say that there is none.
        assert_eq!(says(&mut down, &[bind(name)]).1, Opening::Server);
    }
}

#[test]
fn what_was_prepared_is_forgotten_when_the_client_says_so() {
    let prepared = || {
        let mut down = Downstream::default();
        says(&mut down, &[parse(b"one", SET), parse(b"", SET), sync()]);
        down
    };
    let mut down = prepared();
    assert_eq!(says(&mut down, &[query(b"DEALLOCATE one")]).0, "CZ");
    assert_eq!(says(&mut down, &[bind(b"one")]).1, Opening::Server);
    assert_eq!(says(&mut down, &[query(b"DEALLOCATE one")]).1, Opening::Server);
    let mut down = prepared();
    down.forget_statements();
    assert_eq!(says(&mut down, &[bind(b"one")]).1, Opening::Server);
    // The unnamed one gives way to any other.
    let mut down = prepared();
    let mut passing = Passing::new(Names::Translated);
    passing.sends(&mut down, &[parse(b"", b"SELECT 1"), sync()]);
    assert_eq!(says(&mut down, &[bind(b"")]).1, Opening::Server);
    let mut down = prepared();
    Passing::new(Names::Own).sends(&mut down, &[query(b"SELECT 1")]);
    assert_eq!(says(&mut down, &[bind(b"")]).1, Opening::Server);
}

/// As psycopg does in a pipeline when it has prepared too much.
#[test]
fn names_given_up_behind_a_switch_are_answered_behind_it() {
    for has_session in [false, true] {
        let mut down = Downstream::default();
        Passing::new(Names::Own).sends(&mut down, &[parse(b"two", b"SELECT 2"), sync()]);
        down.has_session = has_session;
        let messages = [parse(b"one", SET), bind(b"one"), execute(), close(b"two"), close(b"one")];
        let (answered, _) = says(&mut down, &messages);
        assert_eq!(answered, "");
        let end = sync();
        let (answered, opening) = says(&mut down, std::slice::from_ref(&end));
        let expected = Opening::Own { consumed: end.len(), text: SET.to_vec(), group: None, closed: 2, ready: true };
        assert_eq!((answered.as_str(), without_answers(opening)), ("12", expected));
    }
}

#[test]
fn a_name_stands_for_one_statement() {
    let taken = Opening::Refused { consumed: 0, refusal: Refusal::NameTaken("one".to_owned()), ready: false };
    let mut down = Downstream::default();
    says(&mut down, &[parse(b"one", SET), sync()]);
    assert_eq!(says(&mut down, &[parse(b"one", SHOW)]).1, taken);
    for names in [Names::Translated, Names::Own] {
        let mut down = Downstream::default();
        says(&mut down, &[parse(b"one", SET), sync()]);
        let sent = Passing::new(names).sends(&mut down, &[parse(b"one", b"SELECT 1"), sync()]);
        assert!(tags(&sent) == "PS" && !contains(&sent, b"SELECT"), "it is made to fail");
    }
    let mut down = Downstream::default();
    Passing::new(Names::Translated).sends(&mut down, &[parse(b"one", b"SELECT 1"), sync()]);
    assert_eq!(says(&mut down, &[parse(b"one", SET)]).1, taken);
}

#[test]
fn what_is_kept_of_them_has_a_bound() {
    let long = |at: usize| format!("SET guardian.identity = '{at}{}'", "x".repeat(15_000));
    let mut down = Downstream::default();
    let refused = (0..200).find(|at| {
        let (_, last) = says(&mut down, &[parse(format!("s{at}").as_bytes(), long(*at).as_bytes())]);
        matches!(last, Opening::Refused { refusal: Refusal::TooLarge { .. }, .. })
    });
    assert!(refused.is_some_and(|at| (50..100).contains(&at)), "{refused:?}");
}

#[test]
fn what_is_not_understood_is_refused_before_it_is_prepared() {
    for text in [&b"SET guardian.tenant = $1"[..], b"/* x */ SET guardian.tenant = 'acme'", b"SET guardian.tenants = 'acme'"]
    {
        let mut down = Downstream::default();
        let refused = Opening::Refused { consumed: 0, refusal: Refusal::SwitchMalformed, ready: false };
        assert_eq!(says(&mut down, &[parse(b"one", text)]).1, refused);
        assert_eq!(says(&mut down, &[parse(b"one", text), describe(b"one"), flush(), sync()]).0, "Z");
    }
    let mut down = Downstream::default();
    says(&mut down, &[parse(b"one", SET), sync()]);
    let mut with_parameter = Vec::new();
    frontend::write_bind_prefix(&mut with_parameter, b"", b"one", 11);
    with_parameter.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, 1, b'x', 0, 0]);
    let (_, last) = says(&mut down, &[with_parameter]);
    assert!(matches!(last, Opening::Refused { refusal: Refusal::Protocol(_), .. }), "{last:?}");
}

#[test]
fn a_group_with_anything_else_in_it_is_refused_to_its_end() {
    let own = group(SET);
    let other = group(b"SELECT 1");
    // Where the other message stands: before, and behind the Execute.
    for (place, stranger) in [(1, &other[0]), (3, &other[0]), (4, &other[1]), (4, &other[3]), (4, &own[0])] {
        let (mut down, mut out) = (Downstream::default(), Vec::new());
        for message in &own[..place] {
            assert_eq!(down.open(message, &mut out).unwrap(), Opening::Consumed(message.len()));
        }
        let refused = Opening::Refused { consumed: 0, refusal: Refusal::SwitchMisplaced, ready: false };
        assert_eq!(down.open(stranger, &mut out).unwrap(), refused);
        for message in [stranger].into_iter().chain(&own[place..4]) {
            assert_eq!(down.open(message, &mut out).unwrap(), Opening::Consumed(message.len()));
            assert!(out.is_empty());
        }
        assert_eq!(down.open(&own[4], &mut out).unwrap(), Opening::Consumed(own[4].len()));
        assert_eq!(out, ready());
        assert!(!down.is_apart());
    }
    // A simple query has no Sync behind it.
    let mut down = Downstream::default();
    says(&mut down, &own[..2]);
    let refused = Opening::Refused { consumed: query(b"x").len(), refusal: Refusal::SwitchMisplaced, ready: true };
    assert_eq!(says(&mut down, &[query(b"x")]).1, refused);
    assert!(!down.is_apart());
}

#[test]
fn a_switch_behind_what_is_not_answered_waits_to_be_the_next() {
    let switches = [vec![query(SET)], group(SET), vec![bind(b"one"), execute(), sync()], vec![describe(b"one"), flush()]];
    for (names, switch) in [Names::Translated, Names::Own].into_iter().flat_map(|n| switches.iter().map(move |s| (n, s))) {
        // Outside a transaction it is next; within one it is refused.
        for (status, open) in [(b"I", true), (b"T", false), (b"E", false)] {
            let mut down = Downstream::default();
            says(&mut down, &[parse(b"one", SET), sync()]);
            let (mut up, mut statements, mut out) =
                (Upstream::new(Arc::new(Settings::default())), Statements::starting_at(0), Vec::new());
            let messages = [vec![query(b"SELECT 1")], switch.clone()].concat().concat();
            let forwarded = down.forward(&messages, &mut up, &mut statements, names, &mut out).unwrap();
            assert_eq!((forwarded.bytes, forwarded.step), (&query(b"SELECT 1")[..], Step::Full));
            let rest = messages[forwarded.consumed..].to_vec();
            let answer = [message(b'C', b"SELECT 1\0"), message(b'Z', status)].concat();
            up.answer(&answer, &mut Vec::new()).unwrap();
            assert_eq!(up.is_settled(), open);
            if open {
                assert!(!matches!(down.open(&rest, &mut Vec::new()).unwrap(), Opening::Server));
            } else {
                let forwarded = down.forward(&rest, &mut up, &mut statements, names, &mut out).unwrap();
                assert!(forwarded.consumed == rest.len() && !contains(forwarded.bytes, b"guardian"));
            }
        }
        // In the middle of a group there is nothing to wait for.
        let mut down = Downstream::default();
        says(&mut down, &[parse(b"one", SET), sync()]);
        let messages = [vec![parse(b"two", b"SELECT 1")], switch.clone()].concat();
        let sent = Passing::new(names).sends(&mut down, &messages);
        assert!(!contains(&sent, b"guardian"));
    }
}

/// In session mode the client has a server connection all the while.
#[test]
fn the_rest_of_what_is_discarded_is_discarded() {
    let mut down = Downstream::default();
    assert!(matches!(says(&mut down, &[parse(b"one", SET), bind(b"one"), bind(b"two")]).1, Opening::Refused { .. }));
    let long = message(b'd', &[b'x'; 100]);
    for cut in 5..long.len() {
        assert_eq!(down.open(&long[..cut], &mut Vec::new()).unwrap(), Opening::Consumed(cut));
        assert!(down.is_discarding() && down.is_within_message());
        assert_eq!(down.discard_remaining(&[&long[cut..], &sync()].concat()), long.len() - cut);
        assert!(!down.is_discarding() && !down.is_within_message());
    }
}

#[test]
fn what_was_prepared_and_waited_for_does_not_stand_in_the_way() {
    let mut down = Downstream::default();
    says(&mut down, &[parse(b"one", SET), describe(b"one"), flush()]);
    for message in [parse(b"two", b"SELECT 1"), query(b"SELECT 1"), bind(b"two")] {
        let (answers, last) = says(&mut down, &[message]);
        assert_eq!((answers.as_str(), last), ("", Opening::Server));
        assert!(!down.is_apart());
    }
    // Its execution does, once anything is with a server.
    let mut passing = Passing::new(Names::Translated);
    let sent = passing.sends(&mut down, &[parse(b"two", b"SELECT 1"), bind(b"one"), execute(), sync()]);
    assert_eq!(tags(&sent), "PPES");
    assert!(!contains(&sent, b"guardian"));
}

/// A client with a server connection whose server answers nothing.
struct Passing(Upstream, Statements, Names);

impl Passing {
    fn new(names: Names) -> Self {
        Self(Upstream::new(Arc::new(Settings::default())), Statements::starting_at(0), names)
    }

    fn sends(&mut self, down: &mut Downstream, messages: &[Vec<u8>]) -> Vec<u8> {
        let mut out = Vec::new();
        let messages_len = messages.len();
        let messages = messages.concat();
        let forwarded = down.forward(&messages, &mut self.0, &mut self.1, self.2, &mut out).unwrap();
        assert_eq!(forwarded.step, Step::Done);
        let sent = forwarded.bytes.to_vec();
        // The unnamed statement and all names are as they would be after success.
        down.answered(messages_len, false);
        sent
    }
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// As asyncpg prepares: without a Sync, and whatever it does next follows.
#[test]
fn a_group_that_only_prepared_is_ended_for_a_switch() {
    let switches = [vec![query(SET)], vec![parse(b"", SET), describe(b""), flush()]];
    for names in [Names::Translated, Names::Own] {
        for switch in &switches {
            let mut down = Downstream::default();
            let mut up = Upstream::new(Arc::new(Settings::default()));
            let (mut statements, mut out, mut heard) = (Statements::starting_at(0), Vec::new(), Vec::new());
            let prepared = [parse(b"two", b"SELECT 2"), describe(b"two"), flush()].concat();
            down.forward(&prepared, &mut up, &mut statements, names, &mut out).unwrap();
            let answers = written(|out| {
                backend::write_parse_complete(out);
                backend::write_parameter_description(out, &[]);
                backend::write_no_data(out);
            });
            let switch = switch.concat();
            // Not before all of it is answered.
            let early = down.forward(&prepared[..0], &mut up, &mut statements, names, &mut out).unwrap();
            assert!(early.bytes.is_empty() && !up.has_only_prepared());
            assert_eq!(up.answer(&answers, &mut heard).unwrap().consumed, answers.len());
            down.answered(1, false);
            for expected in ["S", ""] {
                let forwarded = down.forward(&switch, &mut up, &mut statements, names, &mut out).unwrap();
                assert_eq!((forwarded.consumed, forwarded.step), (0, Step::Full));
                assert_eq!(tags(forwarded.bytes), expected);
            }
            let end = ready();
            let answered = up.answer(&end, &mut heard).unwrap();
            assert!(answered.settled && answered.bytes.is_empty(), "the client sent no Sync");
            let (_, opening) = says(&mut down, &[switch[..frame::header(&switch).unwrap().unwrap().total()].to_vec()]);
            assert!(matches!(opening, Opening::Own { .. } | Opening::Consumed(_)), "{opening:?}");

            // What was bound may have done something.
            let bound = [parse(b"three", b"SELECT 3"), bind(b"three")].concat();
            down = Downstream::default();
            down.forward(&bound, &mut up, &mut statements, names, &mut out).unwrap();
            up.answer(&[written(backend::write_parse_complete), written(backend::write_bind_complete)].concat(), &mut heard)
                .unwrap();
            down.answered(1, false);
            let forwarded = down.forward(&switch, &mut up, &mut statements, names, &mut out).unwrap();
            assert!(forwarded.consumed > 0 && !contains(forwarded.bytes, b"guardian.tenant"));
        }
    }
}

/// Whatever else is in the group, and whether or not it was prepared before: nothing of a switch reaches a server, and none is
/// carried out while the server is within something.
#[test]
fn a_prepared_switch_never_reaches_a_server() {
    let others = [parse(b"two", b"SELECT 1"), bind(b"two"), describe(b"two"), close(b"two"), execute()];
    for names in [Names::Translated, Names::Own] {
        for other in &others {
            let mut down = Downstream::default();
            says(&mut down, &[parse(b"one", SET), sync()]);
            let messages = [other.clone(), bind(b"one"), execute(), sync()];
            let sent = Passing::new(names).sends(&mut down, &messages);
            assert!(!contains(&sent, b"guardian") && !contains(&sent, b"\0one\0"), "{sent:?}");
            let behind = &sent[..];
            let mut rest = behind;
            while let Some(header) = frame::header(rest).unwrap() {
                let body = &rest[frame::HEADER_LEN..header.total()];
                assert!(header.tag != b'P' || !switch::resembles(frontend::parse_prefix(body).unwrap().unwrap().rest));
                rest = &rest[header.total()..];
            }
        }
    }
}

#[test]
fn what_a_client_calls_its_statements_outlasts_its_tenant() {
    let mut down = Downstream::default();
    let mut first = Passing::new(Names::Translated);
    let sent = first.sends(&mut down, &[parse(b"two", b"SELECT 2"), sync()]);
    assert_eq!(tags(&sent), "PS");
    // Another tenant's connection, on which nothing is prepared.
    let mut second = Passing::new(Names::Translated);
    let sent = second.sends(&mut down, &[bind(b"two"), execute(), sync()]);
    assert_eq!(tags(&sent), "PBES");
    assert!(contains(&sent, b"SELECT 2"));
    // Where names are the server's they are the client's own, and stand for what was last prepared under them.
    let mut session = Passing::new(Names::Own);
    let sent = session.sends(&mut down, &[close(b"two"), parse(b"two", b"SELECT 3"), bind(b"two"), sync()]);
    assert_eq!(tags(&sent), "CPBS");
    assert!(contains(&sent, b"two\0SELECT 3"));
    let sent = Passing::new(Names::Own).sends(&mut down, &[bind(b"two"), describe(b"two"), sync()]);
    assert_eq!(tags(&sent), "PBDS");
    assert!(contains(&sent, b"two\0SELECT 3"));
    let sent = Passing::new(Names::Translated).sends(&mut down, &[bind(b"two"), sync()]);
    assert!(contains(&sent, b"SELECT 3") && !contains(&sent, b"two"));
}

#[test]
fn a_name_given_up_in_a_session_is_not_prepared_again() {
    let written_off: [&[u8]; 2] = [&close(b"two"), &query(b"DEALLOCATE \"two\"")];
    for written_off in written_off {
        let mut down = Downstream::default();
        let mut first = Passing::new(Names::Own);
        first.sends(&mut down, &[parse(b"two", b"SELECT 2"), sync()]);
        // The server knows the name, too.
        down.has_session = true;
        let mut out = Vec::new();
        assert_eq!(down.open(written_off, &mut out).unwrap(), Opening::Server);
        Passing::new(Names::Own).sends(&mut down, &[written_off.to_vec(), sync()]);
        let sent = Passing::new(Names::Own).sends(&mut down, &[bind(b"two"), sync()]);
        assert_eq!(tags(&sent), "BS");
    }
}
