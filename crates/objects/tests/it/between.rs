//! Somebody between the publisher and the store, who sees each request and does with it what a test says.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// What becomes of a request.
pub(crate) enum Deed {
    Pass,
    /// It does not arrive.
    Lose,
    /// It is done, and nobody hears of it.
    Silence,
    /// Something else is answered, and it does not arrive.
    Say(String),
    /// It is forbidden, and does not arrive.
    Forbid,
}

type Hook = Box<dyn FnMut(&str) -> Deed + Send>;

pub(crate) struct Between {
    pub(crate) address: SocketAddr,
    hook: Arc<Mutex<Hook>>,
}

impl Between {
    pub(crate) fn start(store: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let hook: Arc<Mutex<Hook>> = Arc::new(Mutex::new(Box::new(|_: &str| Deed::Pass)));
        let shared = Arc::clone(&hook);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let hook = Arc::clone(&shared);
                std::thread::spawn(move || one(stream, store, &hook));
            }
        });
        Self { address, hook }
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Decides by the first line of a request.
    pub(crate) fn decide(&self, hook: impl FnMut(&str) -> Deed + Send + 'static) {
        *self.hook.lock().unwrap() = Box::new(hook);
    }
}

/// One request of one connection.
fn one(mut client: TcpStream, store: SocketAddr, hook: &Mutex<Hook>) -> Option<()> {
    let mut request = Vec::new();
    let mut piece = [0; 16 * 1024];
    let end = loop {
        if let Some(end) = request.windows(4).position(|four| four == b"\r\n\r\n") {
            break end;
        }
        let read = client.read(&mut piece).ok().filter(|read| *read > 0)?;
        request.extend_from_slice(&piece[..read]);
    };
    let head = String::from_utf8_lossy(&request[..end]).into_owned();
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        let wanted = name.eq_ignore_ascii_case("content-length");
        wanted.then(|| value.trim().parse::<usize>().ok())?
    });
    while request.len() < end + 4 + length.unwrap_or(0) {
        let read = client.read(&mut piece).ok().filter(|read| *read > 0)?;
        request.extend_from_slice(&piece[..read]);
    }
    let deed = {
        let mut hook = hook.lock().unwrap();
        (*hook)(head.lines().next()?)
    };
    match deed {
        Deed::Lose => return None,
        Deed::Forbid => {
            let answer = "HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
            client.write_all(answer.as_bytes()).ok()?;
            return Some(());
        }
        Deed::Say(answer) => {
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                answer.len()
            );
            client.write_all((head + &answer).as_bytes()).ok()?;
            return Some(());
        }
        Deed::Pass | Deed::Silence => {}
    }
    let mut upstream = TcpStream::connect(store).ok()?;
    // The store may answer and close before it has read everything: what it said counts.
    let request = [head.as_bytes(), b"\r\nconnection: close", &request[end..]].concat();
    let _closed = upstream.write_all(&request);
    let mut answer = Vec::new();
    let _closed = upstream.read_to_end(&mut answer);
    if !matches!(deed, Deed::Silence) {
        client.write_all(&answer).ok()?;
    }
    Some(())
}
