//! The loopback address that a provider sends the browser back to (RFC 8252, section 7.3). It takes one answer to the
//! request of this login, right or wrong; what answers nothing that was asked ends nothing.

use crate::{Failure, output};
use facts::Finding;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

const LONGEST_HEAD: usize = 16 * 1_024;
/// A browser of this machine sends its head at once.
const HEAD: Duration = Duration::from_secs(5);
const PATH: &str = "/callback";
/// What is said of an answer that does not know what this login asked.
const ANSWERS_NOTHING: [&str; 2] = ["OIDC-REDIRECT", "OIDC-REDIRECT-STATE"];

pub(super) struct Loopback {
    listener: TcpListener,
    port: u16,
}

impl Loopback {
    pub(super) async fn bind() -> Result<Self, Failure> {
        let failed = |error: std::io::Error| {
            Finding::new(
                "CLI-LOGIN-PORT",
                "no port of this machine can be listened on",
            )
            .observed(error.to_string())
            .next("see that 127.0.0.1 is up")
        };
        let listener = TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0))
            .await
            .map_err(failed)?;
        let port = listener.local_addr().map_err(failed)?.port();
        Ok(Self { listener, port })
    }

    pub(super) fn address(&self) -> String {
        format!("http://127.0.0.1:{}{PATH}", self.port)
    }

    /// What `judge` makes of the query of the first request for the callback that answers this login; nothing is
    /// listened to after it. Whoever asks for something else, says nothing, or does not know the state is in nobody's
    /// way: any program of this machine can send that.
    pub(super) async fn answer<T: Send + 'static>(
        &self,
        judge: impl Fn(&str) -> Result<T, Finding>,
    ) -> Result<T, Failure> {
        let (sender, mut heads) = tokio::sync::mpsc::channel(16);
        let mut open = tokio::task::JoinSet::new();
        loop {
            let (query, stream) = tokio::select! {
                accepted = self.listener.accept() => {
                    if let (Ok((stream, _)), true) = (accepted, open.len() < 16) {
                        let sender = sender.clone();
                        open.spawn(async move {
                            if let Ok(Some(head)) = tokio::time::timeout(HEAD, callback(stream)).await {
                                drop(sender.send(head).await);
                            }
                        });
                    }
                    continue;
                }
                Some(_) = open.join_next() => continue,
                Some(head) = heads.recv() => head,
            };
            let judged = judge(&query);
            let text = match &judged {
                Ok(_) => "You are logged in. This window can be closed.\n".to_owned(),
                Err(finding) => format!("{finding}\n"),
            };
            say(
                stream,
                if judged.is_ok() {
                    "200 OK"
                } else {
                    "400 Bad Request"
                },
                &text,
            )
            .await;
            if let Err(finding) = &judged
                && ANSWERS_NOTHING.contains(&&*finding.code)
            {
                output::note(format_args!("not taken for the login: {finding}"));
                continue;
            }
            return judged.map_err(Failure::from);
        }
    }
}

/// The query of a request for the callback; another is told that there is nothing.
async fn callback(mut stream: TcpStream) -> Option<(String, TcpStream)> {
    let mut head = Vec::new();
    let mut piece = [0; 2_048];
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        let count = stream.read(&mut piece).await.ok()?;
        if count == 0 || head.len() + count > LONGEST_HEAD {
            return None;
        }
        head.extend(piece.iter().take(count));
    }
    let line = std::str::from_utf8(&head).ok()?.lines().next()?;
    let mut words = line.split(' ');
    let (method, target) = (words.next()?, words.next()?);
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    if method == "GET" && path == PATH {
        let query = query.to_owned();
        return Some((query, stream));
    }
    say(stream, "404 Not Found", "Nothing is here.\n").await;
    None
}

async fn say(mut stream: TcpStream, status: &str, text: &str) {
    let answer = format!(
        "HTTP/1.1 {status}\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: {}\r\n\
         cache-control: no-store\r\nreferrer-policy: no-referrer\r\nx-content-type-options: nosniff\r\n\
         connection: close\r\n\r\n{text}",
        text.len()
    );
    // A browser that has gone needs no answer.
    let _told = stream.write_all(answer.as_bytes()).await;
    let _ended = stream.shutdown().await;
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn get(address: &str, target: &str) -> String {
        let port = address
            .rsplit(':')
            .next()
            .unwrap()
            .split('/')
            .next()
            .unwrap();
        let mut stream = TcpStream::connect(format!("127.0.0.1:{port}"))
            .await
            .unwrap();
        let request = format!("GET {target} HTTP/1.1\r\nhost: x\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    fn judge(query: &str) -> Result<String, Finding> {
        oidc::redirect::code(query, "right", "https://a.example", false)
    }

    /// Silence, noise and requests for other things come before it.
    #[tokio::test]
    async fn the_first_answer_is_taken_and_no_second() {
        let loopback = Loopback::bind().await.unwrap();
        let address = loopback.address();
        let silent = TcpStream::connect(address.split('/').nth(2).unwrap())
            .await
            .unwrap();
        let browser = tokio::spawn({
            let address = address.clone();
            async move {
                assert!(
                    get(&address, "/favicon.ico")
                        .await
                        .starts_with("HTTP/1.1 404")
                );
                get(&address, "/callback?code=c&state=right").await
            }
        });
        assert_eq!(loopback.answer(judge).await.unwrap(), "c");
        assert!(browser.await.unwrap().starts_with("HTTP/1.1 200"));
        drop((loopback, silent));
        let port = address.split('/').nth(2).unwrap();
        assert!(TcpStream::connect(port).await.is_err());
    }

    /// Once, the first that came ended the login, so that any program of the machine could keep people from it.
    #[tokio::test]
    async fn an_answer_with_a_wrong_state_does_not_end_the_login() {
        let loopback = Loopback::bind().await.unwrap();
        let address = loopback.address();
        let browser = tokio::spawn(async move {
            for wrong in [
                "code=c&state=wrong",
                "code=c",
                "state=%f",
                "error=access_denied&state=x",
            ] {
                let told = get(&address, &format!("/callback?{wrong}")).await;
                assert!(told.starts_with("HTTP/1.1 400"), "{told}");
            }
            get(&address, "/callback?code=c&state=right").await
        });
        assert_eq!(loopback.answer(judge).await.unwrap(), "c");
        assert!(browser.await.unwrap().starts_with("HTTP/1.1 200"));
    }

    /// What the provider says to this login ends it, be it a refusal.
    #[tokio::test]
    async fn a_refusal_that_knows_the_state_ends_the_login() {
        let loopback = Loopback::bind().await.unwrap();
        let address = loopback.address();
        let browser = tokio::spawn(async move {
            get(&address, "/callback?error=access_denied&state=right").await
        });
        let refused = loopback.answer(judge).await.unwrap_err();
        assert_eq!(refused.findings()[0].code, "OIDC-REDIRECT-DENIED");
        assert!(browser.await.unwrap().starts_with("HTTP/1.1 400"));
    }
}
