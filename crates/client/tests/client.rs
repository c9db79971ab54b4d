//! The client against a server that answers what the test says.

#![allow(clippy::unwrap_used, reason = "a test has no better use for an error")]

use guardian_client::{Client, ClientError, every};
use guardian_model::{api::Page, query::TenantQuery};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

/// Serves one request with this answer and gives back the request's head.
async fn serve(answer: &str) -> (Client, tokio::task::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = Client::new(&listener.local_addr().unwrap().to_string(), "gdn_secret\n").unwrap();
    let answer = answer.to_owned();
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = vec![0; 4096];
        let length = stream.read(&mut request).await.unwrap();
        stream.write_all(answer.as_bytes()).await.unwrap();
        String::from_utf8_lossy(&request[..length]).into_owned()
    });
    (client, server)
}

fn answer(status: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
}

#[tokio::test]
async fn a_problem_speaks_for_itself() {
    let problem = r#"{"type":"https://guardian.dev/problems/not-found","title":"Not found","status":404,"detail":"there is no tenant `acme`"}"#;
    let (client, _server) = serve(&answer("404 Not Found", problem)).await;
    let error = client.tenant("acme").await.unwrap_err();
    assert_eq!(error.to_string(), "there is no tenant `acme`");
    assert_eq!(error.status(), Some(404));
}

#[tokio::test]
async fn names_are_escaped_and_the_token_is_sent() {
    let (client, server) = serve(&answer("200 OK", "[]")).await;
    client.tenant("a/../b?c=d").await.unwrap_err();
    let request = server.await.unwrap();
    assert!(request.starts_with("GET /v1/tenants/a%2F..%2Fb%3Fc=d HTTP/1.1\r\n"), "{request}");
    assert!(request.contains("authorization: Bearer gdn_secret\r\n"), "{request}");
    for name in ["", ".", ".."] {
        assert!(matches!(client.suspend_tenant(name).await, Err(ClientError::Name(_))), "{name:?}");
    }
}

#[tokio::test]
async fn a_query_carries_only_what_was_asked() {
    let (client, server) = serve(&answer("200 OK", r#"{"items":[]}"#)).await;
    client.tenants(&TenantQuery { slug_prefix: Some("a&b".to_owned()), ..TenantQuery::default() }).await.unwrap();
    let request = server.await.unwrap();
    assert!(request.starts_with("GET /v1/tenants?slug_prefix=a%26b HTTP/1.1\r\n"), "{request}");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let error = Client::new(&address.to_string(), "t").unwrap().status().await.unwrap_err();
    assert_eq!(error.to_string(), format!("cannot reach Guardian at http://{address}: is `guardian up` running?"));
}

#[tokio::test]
async fn something_else_that_answers_is_named() {
    let (client, _server) = serve(&answer("502 Bad Gateway", "<html>")).await;
    assert!(client.status().await.unwrap_err().to_string().ends_with("is that Guardian?"));
    let (client, _server) = serve(&answer("200 OK", "<html>")).await;
    assert!(client.status().await.unwrap_err().to_string().contains("cannot be read"));
    let (client, _server) = serve("HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n").await;
    assert_eq!(client.status().await.unwrap_err().status(), Some(302));
}

#[test]
fn addresses_and_tokens_are_checked_and_the_token_never_shows() {
    for address in ["", "ftp://x", "http://x/v1", "http://u:p@x", "unix:/tmp/x", "http://x?y"] {
        assert!(matches!(Client::new(address, "t"), Err(ClientError::Address(_))), "{address}");
    }
    assert!(Client::new("https://x", "t").is_ok_and(|client| client.is_protected()));
    assert!(Client::new("http://x", "t").is_ok_and(|client| !client.is_protected()));
    assert!(Client::new("[::1]:1", "t").is_ok_and(|client| client.is_protected()));
    assert!(matches!(Client::new("127.0.0.1:1", "a\nb"), Err(ClientError::Token)));
    let client = Client::new("127.0.0.1:1", "gdn_secret").unwrap();
    assert!(!format!("{client:?}").contains("gdn_secret"));
}

#[tokio::test]
async fn every_page_is_read() {
    let pages = |cursor: Option<String>| match cursor.as_deref() {
        None => Page { items: vec![1, 2], next_cursor: Some("2".to_owned()) },
        Some("2") => Page { items: vec![3], next_cursor: None },
        Some(other) => panic!("unknown cursor {other}"),
    };
    assert_eq!(every(async |cursor| Ok(pages(cursor))).await.unwrap(), [1, 2, 3]);
}
