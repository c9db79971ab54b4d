//! The testkit itself: sharing, templates, and cleaning up after whatever ends a test.

use std::{
    path::PathBuf,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use guardian_testkit::{Server, TestDatabase, unique};
use sqlx::Row as _;

#[test]
fn unique_names_are_sound_and_differ() {
    let names = [unique("Help-Desk"), unique("Help-Desk"), unique("9lives"), unique(&"x".repeat(80)), unique("")];
    for name in &names {
        assert!(name.len() <= 30, "{name}");
        assert!(name.starts_with(|c: char| c.is_ascii_lowercase()), "{name}");
        assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'), "{name}");
    }
    assert_ne!(names[0], names[1]);
}

#[tokio::test]
async fn a_database_goes_away_with_its_value() {
    let server = Server::shared();
    let database = server.database("gone").await;
    let name = database.name.clone();
    let _still_connected = database.connect().await;
    drop(database);
    let mut connection = server.connect("postgres").await;
    let count: i64 = sqlx::query_scalar("SELECT count(*) FROM pg_database WHERE datname = $1")
        .bind(name)
        .fetch_one(&mut connection)
        .await
        .unwrap();
    assert_eq!(count, 0);
}

#[tokio::test]
async fn the_helpdesk_has_its_tables_and_copies_do_not_touch_each_other() {
    let (one, two) = tokio::join!(TestDatabase::helpdesk(), TestDatabase::helpdesk());
    let count = "SELECT count(*) FROM information_schema.tables WHERE table_schema = 'public'";
    let before: i64 = sqlx::query_scalar(count).fetch_one(&mut two.connect().await).await.unwrap();
    assert!(before >= 15, "{before} tables");
    sqlx::query("CREATE TABLE extra ()").execute(&mut one.connect().await).await.unwrap();
    let after: i64 = sqlx::query_scalar(count).fetch_one(&mut two.connect().await).await.unwrap();
    assert_eq!(before, after);
}

#[tokio::test]
async fn passwords_are_asked_for_on_both_ways_in() {
    let server = Server::shared();
    let right = server.options("postgres");
    let socket = right.get_socket().unwrap().clone();
    let over_tcp = server.url("postgres").parse::<sqlx::postgres::PgConnectOptions>().unwrap();
    for options in [over_tcp.clone(), over_tcp.socket(socket)] {
        use sqlx::ConnectOptions as _;
        options.clone().connect().await.unwrap();
        let error = options.password("wrong").connect().await.unwrap_err();
        assert!(error.to_string().contains("password authentication failed"), "{error}");
    }
}

#[tokio::test]
async fn a_server_of_ones_own_comes_back_after_a_kill_with_its_data() {
    let server = Server::own();
    sqlx::query("CREATE TABLE kept (n int)").execute(&mut server.connect("postgres").await).await.unwrap();
    sqlx::query("CHECKPOINT").execute(&mut server.connect("postgres").await).await.unwrap();
    server.kill();
    server.restart();
    let row = sqlx::query("SELECT count(*) FROM kept").fetch_one(&mut server.connect("postgres").await).await.unwrap();
    assert_eq!(row.get::<i64, _>(0), 0);
}

#[tokio::test]
async fn servers_of_the_matrix_have_the_version_asked_for() {
    for major in [13, 14, 18] {
        let Some(server) = Server::of_version(major) else { continue };
        let version: String =
            sqlx::query_scalar("SHOW server_version_num").fetch_one(&mut server.connect("postgres").await).await.unwrap();
        assert!(version.starts_with(&major.to_string()), "{version}");
    }
}

/// Run by the next test in a process of its own.
#[test]
#[ignore = "needs to be killed"]
fn hold_a_server_until_killed() {
    let server = Server::own();
    let socket = server.options("postgres").get_socket().unwrap().clone();
    std::fs::write(std::env::var_os("SOCKET_NAME_FILE").unwrap(), socket.as_os_str().as_encoded_bytes()).unwrap();
    std::thread::sleep(Duration::from_mins(2));
}

#[test]
fn a_server_goes_away_when_its_test_is_killed() {
    let note = tempfile::NamedTempFile::new().unwrap();
    let mut test = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "hold_a_server_until_killed"])
        .env("SOCKET_NAME_FILE", note.path())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let wait_for = |what: &str, condition: &dyn Fn() -> bool| {
        let begin = Instant::now();
        while !condition() {
            assert!(begin.elapsed() < Duration::from_mins(1), "{what} did not happen");
            std::thread::sleep(Duration::from_millis(100));
        }
    };
    wait_for("the start", &|| std::fs::metadata(note.path()).unwrap().len() > 0);
    let socket = PathBuf::from(std::fs::read_to_string(note.path()).unwrap());
    assert!(socket.exists());
    test.kill().unwrap();
    test.wait().unwrap();
    wait_for("the removal", &|| !socket.exists());
}
