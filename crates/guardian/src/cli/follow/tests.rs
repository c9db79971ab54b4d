//! Against a control plane of canned answers: what is followed is told apart from what it ends with.

use std::{
    io::{Read as _, Write as _},
    net::TcpListener,
};

use guardian_model::{OperationId, OperationKind, TenantId, api::RunKind};
use serde::Serialize;

use super::*;

const ID: &str = "01jd8v1n2c3p4q5r6s7t8v9w0x";
const OUTPUT: Output = Output { json: false, quiet: true };

fn operation_at(state: OperationState, steps_done: usize, error: Option<&str>) -> Operation {
    let step = |name: &str| StepRecord { name: name.to_owned(), duration_us: None };
    Operation {
        id: format!("op_{ID}").parse::<OperationId>().unwrap(),
        kind: OperationKind::Delete,
        tenant: format!("ten_{ID}").parse::<TenantId>().unwrap(),
        slug: "acme".parse().unwrap(),
        state,
        steps_done,
        steps: vec![step("deny_login"), step("await_grace"), step("drop_database")],
        attempts: 1,
        error: error.map(ToOwned::to_owned),
        requested_by: "token:tok_x".to_owned(),
        created_at: jiff::Timestamp::UNIX_EPOCH,
        finished_at: None,
    }
}

fn run_at(state: RunState, items: &[RunState]) -> Run {
    let item = |state: &RunState| RunItem {
        name: "local/helpdesk/public".to_owned(),
        state: *state,
        detail: "0001_people.sql".to_owned(),
        duration_us: None,
    };
    Run {
        id: format!("run_{ID}").parse().unwrap(),
        kind: RunKind::Migrate,
        state,
        error: None,
        items: items.iter().map(item).collect(),
        started_at: jiff::Timestamp::UNIX_EPOCH,
        finished_at: None,
    }
}

/// A control plane that gives these answers in turn; `None` hangs up instead.
fn control_plane<T: Serialize>(answers: &[Option<T>]) -> Client {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let bodies: Vec<_> =
        answers.iter().map(|answer| answer.as_ref().map(|body| serde_json::to_string(body).unwrap())).collect();
    std::thread::spawn(move || {
        for body in bodies {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 4096]);
            if let Some(body) = body {
                let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close";
                let _ = write!(stream, "{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
            }
        }
    });
    Client::new(&address.to_string(), "token").unwrap()
}

#[test]
fn a_grace_period_is_not_waited_out() {
    assert!(!awaits_grace(&operation_at(OperationState::Running, 0, None)));
    assert!(awaits_grace(&operation_at(OperationState::Running, 1, None)));
    assert!(!awaits_grace(&operation_at(OperationState::Undoing, 2, None)));
    assert!(!awaits_grace(&operation_at(OperationState::Running, 2, None)));
}

#[test]
fn a_stuck_operation_says_where_why_and_what_to_do() {
    let stuck = operation_at(OperationState::Stuck, 2, Some("the database is in use"));
    let error = refuse_bad_end(&stuck).unwrap_err();
    assert_eq!(error.to_string(), "the delete of `acme` is stuck at `drop database`: the database is in use");
    assert!(refuse_bad_end(&operation_at(OperationState::Undone, 0, None)).is_err());
    assert!(refuse_bad_end(&operation_at(OperationState::Done, 3, None)).is_ok());
}

#[tokio::test]
async fn an_operation_is_followed_across_a_restart_of_the_control_plane() {
    let at = |state, done| Some(operation_at(state, done, None));
    let client = control_plane(&[None, at(OperationState::Running, 2), None, at(OperationState::Done, 3)]);
    let end = operation(&client, OUTPUT, operation_at(OperationState::Running, 0, None)).await.unwrap();
    assert_eq!(end.state, OperationState::Done);
}

#[tokio::test]
async fn a_refusal_is_not_taken_for_silence() {
    let problem = "HTTP/1.1 401 Unauthorized\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = Client::new(&listener.local_addr().unwrap().to_string(), "token").unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 4096]);
        let _ = stream.write_all(problem.as_bytes());
    });
    assert!(operation(&client, OUTPUT, operation_at(OperationState::Running, 0, None)).await.is_err());
}

#[tokio::test]
async fn a_run_fails_when_an_item_does() {
    use RunState::{Done, Failed, Interrupted, Running, Waiting};
    for (state, items, wanted) in [
        (Done, [Done, Done], Ok(())),
        (Failed, [Done, Failed], Err("1 of 2 failed")),
        (Interrupted, [Done, Interrupted], Err("the control plane stopped in the middle of it")),
    ] {
        let client = control_plane(&[Some(run_at(Running, &[Done, Running])), Some(run_at(state, &items))]);
        let end = run(&client, OUTPUT, run_at(Running, &[Waiting, Waiting])).await;
        assert_eq!(end.map_err(|error| error.to_string()), wanted.map_err(str::to_owned));
    }
}
