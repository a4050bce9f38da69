//! What a client says first: the request for TLS, and the startup message with its parameters.

use super::refusal::{Refusal, fatal};
use crate::config::Limits;
use crate::sql::{StartupParameter, startup_parameter};
use crate::wire::{self, FirstMessage, MAX_STARTUP, Notice, Startup};
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// One untagged message, read to its last byte and not beyond: what follows a request for TLS in
/// cleartext must not be taken for what comes under TLS.
pub(super) async fn first<S: AsyncRead + Unpin>(stream: &mut S) -> Result<FirstMessage, Refusal> {
    let mut bytes = vec![0; 4];
    stream.read_exact(&mut bytes).await?;
    let length = bytes
        .first_chunk::<4>()
        .map_or(0, |field| u32::from_be_bytes(*field)) as usize;
    if !(8..=MAX_STARTUP).contains(&length) {
        return Err(fatal("08P01", "invalid length of startup packet"));
    }
    bytes.resize(length, 0);
    stream
        .read_exact(bytes.get_mut(4..).unwrap_or_default())
        .await?;
    match wire::first_message(&bytes) {
        Ok(Some((message, _))) => Ok(message),
        Ok(None) => Err(fatal("08P01", "incomplete startup packet")),
        Err(error) => Err(fatal("08P01", error.to_string())),
    }
}

pub(super) struct Asked {
    pub(super) forward: Vec<(String, String)>,
    pub(super) search_path: Vec<String>,
}

pub(super) fn parameters(startup: &Startup, limits: &Limits) -> Result<Asked, Refusal> {
    let mut asked = Asked {
        forward: Vec::new(),
        search_path: limits.search_path.clone(),
    };
    let mut pairs = Vec::new();
    for (name, value) in &startup.parameters {
        if name == "options" {
            pairs.extend(options(value).ok_or_else(|| {
                fatal(
                    "42501",
                    "startup options other than -c name=value are not available",
                )
            })?);
        } else {
            pairs.push((name.clone(), value.clone()));
        }
    }
    for (name, value) in pairs {
        match startup_parameter(&name, &value) {
            StartupParameter::Forward => asked.forward.push((name, value)),
            StartupParameter::SearchPath(path) => asked.search_path = path,
            StartupParameter::Drop => {}
            StartupParameter::Refuse => {
                return Err(Refusal::Said(Notice {
                    detail: Some(
                        "SQL-SETTING: it is not among the parameters that sessions may use"
                            .to_owned(),
                    ),
                    ..Notice::fatal(
                        "42501",
                        format!("permission denied by trilith: startup parameter {name}"),
                    )
                }));
            }
        }
    }
    Ok(asked)
}

/// `-c name=value`, `-cname=value`, `--name=value`; a backslash before a space keeps it.
fn options(text: &str) -> Option<Vec<(String, String)>> {
    if text.contains('\\') {
        return None;
    }
    let mut words = text.split_ascii_whitespace();
    let mut pairs = Vec::new();
    while let Some(word) = words.next() {
        let setting = match word.strip_prefix("--").or_else(|| word.strip_prefix("-c")) {
            Some("") => words.next()?,
            Some(setting) => setting,
            None => return None,
        };
        let (name, value) = setting.split_once('=')?;
        pairs.push((name.replace('-', "_"), value.to_owned()));
    }
    Some(pairs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_settings_or_refused() {
        let pairs = options("-c statement_timeout=5s --work-mem=1MB -cdatestyle=ISO").unwrap();
        assert_eq!(pairs[0], ("statement_timeout".to_owned(), "5s".to_owned()));
        assert_eq!(pairs[1].0, "work_mem");
        assert_eq!(pairs[2].0, "datestyle");
        assert_eq!(options("-d 5"), None);
        assert_eq!(options("-c a\\ b=c"), None);
    }
}
