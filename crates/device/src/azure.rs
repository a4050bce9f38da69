//! The quote of TDX for what Azure's paravisor reports: the host's metadata service makes it of a TDREPORT, which
//! only the same host can check.
//!
//! One request by HTTP/1.0 within bounds, so that the answer comes whole and unchunked. Not here: what the quote is
//! worth (`attest-tee`). Who answers on that address can give a quote that counts for nothing, or none.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// Where the host answers.
pub const QUOTES: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)), 80);

/// Head of the paravisor's report, room for the hardware's in it, and where its kind stands behind that.
const HEAD: usize = 32;
const ROOM: usize = 1184;
const KIND: usize = HEAD + ROOM + 8;
const TDX: [u8; 4] = 4_u32.to_le_bytes();
const TD_REPORT: usize = 1024;

/// Quotes have some 5 KiB, 7 in base64.
const LONGEST: u64 = 64 * 1024;
/// The host's quoting enclave takes a second or two.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("no answer from {0}")]
    Ask(SocketAddr, #[source] io::Error),
    #[error("{0} answered with {1:?}")]
    Refused(SocketAddr, String),
    #[error("{0} answered with something else than a quote")]
    Answer(SocketAddr),
}

/// The TDREPORT in a paravisor's report; absent of other hardware.
#[must_use]
pub fn td_report(report: &[u8]) -> Option<&[u8]> {
    (report.get(KIND..KIND + TDX.len())? == TDX)
        .then(|| report.get(HEAD..HEAD + TD_REPORT))
        .flatten()
}

/// A quote of `td_report`, by the service at `host`. Blocks for as long as that takes, up to some 20 s.
///
/// # Errors
/// [`Error`].
pub fn quote(host: SocketAddr, td_report: &[u8]) -> Result<Vec<u8>, Error> {
    let answer = exchange(host, td_report).map_err(|source| Error::Ask(host, source))?;
    let end = answer.windows(4).position(|it| it == b"\r\n\r\n");
    let (head, body) = end
        .and_then(|end| Some((answer.get(..end)?, answer.get(end + 4..)?)))
        .ok_or(Error::Answer(host))?;
    let head = String::from_utf8_lossy(head);
    let status = head.lines().next().unwrap_or_default();
    if status.split(' ').nth(1) != Some("200") {
        let shown: String = status.chars().take(64).collect();
        return Err(Error::Refused(host, shown));
    }
    quote_in(body).ok_or(Error::Answer(host))
}

fn exchange(host: SocketAddr, td_report: &[u8]) -> io::Result<Vec<u8>> {
    let until = Instant::now() + PATIENCE;
    let mut stream = TcpStream::connect_timeout(&host, PATIENCE)?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let report = crypto::base64::encode_url(td_report);
    let body = format!(r#"{{"report":"{report}"}}"#);
    let head = format!(
        "POST /acc/tdquote HTTP/1.0\r\nHost: {}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n",
        host.ip(),
        body.len()
    );
    stream.write_all((head + &body).as_bytes())?;
    let mut answer = Vec::new();
    let mut part = [0; 4096];
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        let read = stream.read(&mut part)?;
        if read == 0 {
            return Ok(answer);
        }
        answer.extend(part.get(..read).unwrap_or_default());
        if u64::try_from(answer.len()).is_ok_and(|length| length > LONGEST) {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
    }
}

/// `{"quote":"…"}`: the text has no character that JSON would spell otherwise.
fn quote_in(body: &[u8]) -> Option<Vec<u8>> {
    let text = str::from_utf8(body).ok()?;
    let (_, rest) = text.split_once(r#""quote""#)?;
    let rest = rest.trim_start().strip_prefix(':')?.trim_start();
    let (quote, _) = rest.strip_prefix('"')?.split_once('"')?;
    let quote = crypto::base64::decode_url(quote.trim_end_matches('=')).ok()?;
    (!quote.is_empty()).then_some(quote)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    /// One that answers so, and what it was asked.
    fn asked(answer: &'static [u8]) -> (Result<Vec<u8>, Error>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let host = listener.local_addr().unwrap();
        let served = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            let mut part = [0; 1024];
            while !request.ends_with(b"}") {
                let read = stream.read(&mut part).unwrap();
                request.extend(&part[..read]);
            }
            drop(stream.write_all(answer));
            String::from_utf8(request).unwrap()
        });
        let quote = quote(host, &[7; TD_REPORT]);
        (quote, served.join().unwrap())
    }

    #[test]
    fn a_quote_is_asked_for_and_taken_out_of_the_answer() {
        let (quote, request) =
            asked(b"HTTP/1.1 200 OK\r\nServer: x\r\n\r\n{ \"quote\" : \"AQID-_8\" }");
        assert_eq!(quote.unwrap(), [1, 2, 3, 0xfb, 0xff]);
        let (head, body) = request.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("POST /acc/tdquote HTTP/1.0\r\n"), "{head}");
        let report = crypto::base64::encode_url(&[7; TD_REPORT]);
        assert_eq!(body, format!(r#"{{"report":"{report}"}}"#));
    }

    #[test]
    fn whatever_else_is_answered_is_no_quote() {
        let (refused, _) = asked(b"HTTP/1.1 404 Not Found\r\n\r\n{\"quote\":\"AQID\"}");
        assert!(matches!(refused, Err(Error::Refused(_, status)) if status.contains("404")));
        for answer in [
            &b""[..],
            b"HTTP/1.1 200 OK\r\n\r\n",
            b"HTTP/1.1 200 OK\r\n\r\n{\"quote\":\"\"}",
            b"HTTP/1.1 200 OK\r\n\r\n{\"quote\":\"*\"}",
            b"HTTP/1.1 200 OK\r\n\r\n{\"quote\":\"AQID",
        ] {
            assert!(matches!(asked(answer).0, Err(Error::Answer(_))));
        }
        let long: &'static [u8] = Box::leak(vec![b'x'; 70_000].into_boxed_slice());
        assert!(matches!(asked(long).0, Err(Error::Ask(..))));
        let nobody = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        assert!(matches!(quote(nobody, &[]), Err(Error::Ask(..))));
    }

    #[test]
    fn only_the_report_of_a_trust_domain_has_a_tdreport() {
        let mut report = vec![0; KIND + 12];
        report[HEAD] = 0x81;
        report[KIND] = 2;
        assert_eq!(td_report(&report), None);
        report[KIND] = 4;
        assert_eq!(
            td_report(&report).map(|it| (it.len(), it[0])),
            Some((1024, 0x81))
        );
        assert_eq!(td_report(&report[..KIND]), None);
    }
}
