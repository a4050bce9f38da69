//! Servers that mean no good: what they say ends in a finding, soon, and never in a list.

use discovery::{Endpoint, Protocol, tools};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

const TIMEOUT: Duration = Duration::from_secs(20);

/// Answers every request with what `answer` makes of its number, as a whole HTTP answer.
pub(crate) async fn serve(answer: impl Fn(usize) -> String + Send + 'static) -> Endpoint {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        for number in 1.. {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            // The client's whole message has come when its JSON ends.
            while !request.ends_with(b"}") {
                let mut bytes = [0; 4096];
                let count = stream.read(&mut bytes).await.unwrap_or_default();
                if count == 0 {
                    break;
                }
                request.extend_from_slice(&bytes[..count]);
            }
            // The client may go before all is written.
            let _gone = stream.write_all(answer(number).as_bytes()).await;
        }
    });
    Endpoint::Http {
        url: format!("http://127.0.0.1:{port}/mcp"),
        ca: None,
        token: None,
    }
}

pub(crate) fn json(body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    )
}

fn result(number: usize, result: &str) -> String {
    json(&format!(
        r#"{{"jsonrpc":"2.0","id":{number},"result":{result}}}"#
    ))
}

async fn code(endpoint: &Endpoint) -> String {
    let begun = std::time::Instant::now();
    let refused = tools(endpoint, Protocol::Stateless, TIMEOUT)
        .await
        .unwrap_err();
    assert!(refused.next.is_some());
    assert!(begun.elapsed() < TIMEOUT * 2);
    refused.code.into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_are_followed_to_their_end() {
    let endpoint = serve(|number| {
        let next = if number < 3 {
            format!(r#","nextCursor":"{number}""#)
        } else {
            String::new()
        };
        result(
            number,
            &format!(r#"{{"tools":[{{"name":"t{number}"}}]{next}}}"#),
        )
    })
    .await;
    let listed = tools(&endpoint, Protocol::Either, TIMEOUT).await.unwrap();
    assert_eq!(listed.tools.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_without_an_end_end() {
    let same = serve(|number| {
        result(
            number,
            &format!(r#"{{"tools":[{{"name":"t{number}"}}],"nextCursor":"x"}}"#),
        )
    });
    assert_eq!(code(&same.await).await, "SYNC-MCP-ANSWER");
    let endless = serve(|number| {
        result(
            number,
            &format!(r#"{{"tools":[],"nextCursor":"{number}"}}"#),
        )
    });
    assert_eq!(code(&endless.await).await, "SYNC-MCP-LIMIT");
    let many = serve(|number| {
        let tools: Vec<String> = (0..6_000)
            .map(|tool| format!(r#"{{"name":"{number}-{tool}"}}"#))
            .collect();
        let tools = tools.join(",");
        result(
            number,
            &format!(r#"{{"tools":[{tools}],"nextCursor":"{number}"}}"#),
        )
    });
    assert_eq!(code(&many.await).await, "SYNC-MCP-LIMIT");
    let large = serve(|_| {
        let body = "x".repeat(9 << 20);
        format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n{body}")
    });
    assert_eq!(code(&large.await).await, "SYNC-MCP-LIMIT");
    let stream = serve(|_| {
        let lines = "\n".repeat(9 << 20);
        format!("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n{lines}")
    });
    assert_eq!(code(&stream.await).await, "SYNC-MCP-LIMIT");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_list_is_no_list() {
    for body in [
        r#"{}"#,
        r#"{"tools":{}}"#,
        r#"{"tools":[1]}"#,
        r#"{"tools":[{"name":1}]}"#,
        r#"{"tools":[{"name":"a"},{"name":"a"}]}"#,
        r#"{"tools":[],"nextCursor":7}"#,
        r#"{"tools":[],"resultType":"input_required"}"#,
        r#"7"#,
    ] {
        let endpoint = serve(move |number| result(number, body)).await;
        assert_eq!(code(&endpoint).await, "SYNC-MCP-ANSWER", "{body}");
    }
    let other = serve(|_| result(77, r#"{"tools":[]}"#)).await;
    assert_eq!(code(&other).await, "SYNC-MCP-ANSWER");
    let html = serve(|_| {
        "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 0\r\n\r\n".to_owned()
    });
    assert_eq!(code(&html.await).await, "SYNC-MCP-ANSWER");
    for raw in [
        "HTTP/1.1 307 x\r\nlocation: http://127.0.0.1/\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 401 x\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 500 x\r\ncontent-length: 0\r\n\r\n",
        "nonsense\r\n\r\n",
        "",
    ] {
        let endpoint = serve(move |_| raw.to_owned()).await;
        assert_eq!(code(&endpoint).await, "SYNC-MCP", "{raw}");
    }
}

/// A server of the older kind refuses the newer one, and is asked as it wants to be.
#[tokio::test(flavor = "multi_thread")]
async fn an_older_server_is_asked_after_initialize() {
    let endpoint = serve(|number| match number {
        1 => "HTTP/1.1 400 x\r\ncontent-length: 0\r\n\r\n".to_owned(),
        2 => json(r#"{"jsonrpc":"2.0","id":0,"result":{"protocolVersion":"2025-06-18"}}"#),
        3 => "HTTP/1.1 202 x\r\ncontent-length: 0\r\n\r\n".to_owned(),
        _ => {
            let events = "event: message\ndata: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/x\"}\n\n\
                data: {\"jsonrpc\":\"2.0\",\"id\":1,\ndata: \"result\":{\"tools\":[{\"name\":\"a\"}]}}\n\n";
            format!("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n{events}")
        }
    })
    .await;
    let listed = tools(&endpoint, Protocol::Either, TIMEOUT).await.unwrap();
    assert_eq!(listed.protocol, "2025-06-18");
    assert!(listed.tools.contains_key("a"));
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_asked_in_the_clear_but_this_machine() {
    for url in [
        "ftp://127.0.0.1/",
        "mcp",
        "https://user:secret@example.org/",
        "https://example.org/#x",
        "https://example.org:99999/",
    ] {
        let endpoint = Endpoint::Http {
            url: url.to_owned(),
            ca: None,
            token: None,
        };
        assert_eq!(code(&endpoint).await, "SYNC-MCP-URL", "{url}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_does_not_speak_is_a_finding() {
    for words in [
        &["/nonexistent/program"][..],
        &["true"],
        &["sh", "-c", "echo hello"],
        &["sh", "-c", "yes"],
        &["sh", "-c", "tr -d '\\n' < /dev/zero"],
    ] {
        let endpoint = Endpoint::Command(words.iter().map(|word| (*word).to_owned()).collect());
        let code = code(&endpoint).await;
        assert!(
            ["SYNC-MCP", "SYNC-MCP-LIMIT"].contains(&code.as_str()),
            "{words:?}: {code}"
        );
    }
    let silent = Endpoint::Command(vec!["sleep".to_owned(), "60".to_owned()]);
    let refused = tools(&silent, Protocol::Stateless, Duration::from_secs(1))
        .await
        .unwrap_err();
    assert_eq!(refused.code, "SYNC-MCP");
}

/// The token goes into the header of each request and nowhere else.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_shown_to_the_server() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let asked = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut bytes = [0; 4096];
        let count = stream.read(&mut bytes).await.unwrap();
        let answer = result(1, r#"{"tools":[]}"#);
        stream.write_all(answer.as_bytes()).await.unwrap();
        String::from_utf8_lossy(&bytes[..count]).into_owned()
    });
    let endpoint = |token: &[u8]| Endpoint::Http {
        url: format!("http://localhost:{port}/a/mcp?x=y"),
        ca: None,
        token: Some(crypto::SecretBytes::new(token.to_vec())),
    };
    tools(&endpoint(b"let.me-in"), Protocol::Stateless, TIMEOUT)
        .await
        .unwrap();
    let request = asked.await.unwrap();
    for line in [
        "POST /a/mcp?x=y HTTP/1.1",
        "authorization: Bearer let.me-in",
        "mcp-protocol-version: 2026-07-28",
        "mcp-method: tools/list",
    ] {
        assert!(
            request.lines().any(|other| other == line),
            "{line}: {request}"
        );
    }
    // It could end the header, and begin another.
    assert_eq!(code(&endpoint(b"a\r\nx: y")).await, "SYNC-MCP-URL");
}
