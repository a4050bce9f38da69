//! To a receiver of RFC 5424 with octet counting that goes away in the middle.

use crate::world::{World, index};
use export::Format;
use serde_json::Value;
use std::io::Read as _;
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;
use std::time::Duration;

/// The messages that `bytes` are, as a receiver counts them.
fn messages(mut bytes: &[u8]) -> Vec<String> {
    let mut messages = Vec::new();
    while !bytes.is_empty() {
        let space = bytes.iter().position(|byte| *byte == b' ').unwrap();
        let count: usize = std::str::from_utf8(&bytes[..space])
            .unwrap()
            .parse()
            .unwrap();
        let message = &bytes[space + 1..space + 1 + count];
        messages.push(String::from_utf8(message.to_vec()).unwrap());
        bytes = &bytes[space + 1 + count..];
    }
    messages
}

/// `<PRI>1 TIMESTAMP HOSTNAME APP-NAME PROCID MSGID SD MSG`.
fn event(message: &str) -> Value {
    let parts: Vec<&str> = message.splitn(8, ' ').collect();
    let [first, time, host, app, process, _kind, data, text] = parts.as_slice() else {
        panic!("{message}");
    };
    assert!(["<110>1", "<109>1"].contains(first), "{first}");
    assert!(time.ends_with('Z') && time.len() == 24, "{time}");
    assert_eq!(
        (*host, *app, *process, *data),
        ("example.org/pg-1", "trilith", "-", "-")
    );
    serde_json::from_str(text).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_that_goes_away_in_the_middle_gets_everything() {
    let world = World::with(1_200);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = format!("syslog:{}", listener.local_addr().unwrap());
    let (tells, told) = mpsc::channel();
    std::thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            let mut stream: TcpStream = stream.unwrap();
            if number % 2 == 1 {
                // Killed with data unread: the connection is reset.
                let mut some = [0; 1_000];
                let _read = stream.read(&mut some).unwrap();
                std::thread::sleep(Duration::from_millis(50));
                continue;
            }
            let mut bytes = Vec::new();
            stream.read_to_end(&mut bytes).unwrap();
            tells.send(bytes).unwrap();
        }
    });
    let exported = world.export(&to, Format::CloudEvents).await.unwrap();
    assert_eq!((exported.records, exported.retries), (1_201, 3));
    let mut indices = Vec::new();
    while let Ok(bytes) = told.try_recv() {
        indices.extend(
            messages(&bytes)
                .iter()
                .map(|message| index(&event(message))),
        );
    }
    assert_eq!(indices, (0..world.size()).collect::<Vec<_>>());
}
