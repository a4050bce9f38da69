//! What a client says first: the request for TLS, and the startup message with its parameters.

use super::refusal::{Refusal, fatal, refused};
use crate::config::Limits;
use crate::sql::{StartupParameter, startup_parameter};
use crate::wire::{self, FirstMessage, MAX_STARTUP, Notice, Startup};
use facts::Finding;
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// Parameters of ours: they are said once, when the session begins, and never reach the database.
const ON_BEHALF_OF: &str = "trilith.on_behalf_of";
const DELEGATION: &str = "trilith.delegation";

/// On whose behalf a client says that it acts.
#[derive(Default)]
pub(super) enum Acting {
    #[default]
    Itself,
    /// As it names them.
    For(String),
    /// By a delegation token.
    By(String),
}

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

#[derive(Default)]
pub(super) struct Asked {
    pub(super) forward: Vec<(String, String)>,
    pub(super) search_path: Vec<String>,
    pub(super) acting: Acting,
}

pub(super) fn parameters(startup: &Startup, limits: &Limits) -> Result<Asked, Refusal> {
    let mut asked = Asked {
        search_path: limits.search_path.clone(),
        ..Asked::default()
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
        if name.eq_ignore_ascii_case(ON_BEHALF_OF) {
            say_once(&mut asked.acting, Acting::For(value))?;
            continue;
        }
        if name.eq_ignore_ascii_case(DELEGATION) {
            say_once(&mut asked.acting, Acting::By(value))?;
            continue;
        }
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

/// INVARIANT: of two chains neither counts. Whoever can add a parameter to somebody's connection, before or behind,
/// changes nothing but that there is none.
fn say_once(said: &mut Acting, acting: Acting) -> Result<(), Refusal> {
    if matches!(std::mem::replace(said, acting), Acting::Itself) {
        return Ok(());
    }
    Err(refused(
        &Finding::new(
            "DELEGATION-TWICE",
            "for whom the session acts is said twice",
        )
        .expected("trilith.on_behalf_of or trilith.delegation, once")
        .next("look at PGOPTIONS, the connection string and the driver's settings"),
    ))
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

    fn asked(pairs: &[(&str, &str)]) -> Result<Asked, Refusal> {
        let startup = Startup {
            parameters: pairs
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            ..Startup::default()
        };
        let limits = Limits {
            handshakes: 1,
            handshake: std::time::Duration::from_secs(1),
            message_bytes: 1,
            delegation: gateway::Delegation::Claimed,
            search_path: Vec::new(),
        };
        parameters(&startup, &limits)
    }

    #[test]
    fn for_whom_a_session_acts_is_ours_and_not_forwarded() {
        for said in [
            ("options", "-c trilith.on_behalf_of=people/ada"),
            ("options", "--Trilith.On-Behalf-Of=people/ada"),
            ("trilith.on_behalf_of", "people/ada"),
        ] {
            let asked = asked(&[("user", "a"), said]).ok().unwrap();
            assert!(matches!(&asked.acting, Acting::For(text) if text == "people/ada"));
            assert!(asked.forward.is_empty());
        }
    }

    #[test]
    fn for_whom_a_session_acts_is_said_once() {
        let twice: [&[(&str, &str)]; 4] = [
            &[
                ("options", "-c trilith.on_behalf_of=people/ada"),
                ("trilith.delegation", "e30.e30.AA"),
            ],
            &[(
                "options",
                "-c trilith.on_behalf_of=people/ada -c trilith.on_behalf_of=people/bob",
            )],
            &[
                ("options", "-c trilith.on_behalf_of=people/ada"),
                ("TRILITH.on_behalf_of", "people/ada"),
            ],
            &[
                ("options", "-c trilith.on_behalf_of="),
                ("options", "-c trilith.on_behalf_of=people/ada"),
            ],
        ];
        for pairs in twice {
            let Err(Refusal::Said(notice)) = asked(pairs) else {
                panic!("{pairs:?}");
            };
            assert!(notice.message.contains("DELEGATION-TWICE"), "{notice:?}");
        }
        // No other parameter of ours is taken for something that the database would know.
        assert!(asked(&[("trilith.on_behalf", "people/ada")]).is_err());
    }

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
