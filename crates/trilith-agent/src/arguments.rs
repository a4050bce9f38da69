//! The command line: the options of `trilith agent` that run it, and no more.

use std::ffi::OsString;
use std::path::PathBuf;

const HELP: &str = "\
The Trilith node agent: joins this machine and serves the SPIFFE Workload API.

Usage: trilith-agent --config FILE [--token TOKEN] [--log FILTER]

Options:
  --config FILE  the configuration file, as of `trilith agent`
  --token TOKEN  a one-time join token; other users of the machine can read it here,
                 so prefer join.token_file or the variable below
  --log FILTER   what is logged to stderr [default: info]
  -V, --version  print the version
  -h, --help     this text

Environment:
  TRILITH_JOIN_TOKEN  a one-time join token; it goes before the file that the configuration names

Example:
  trilith-agent --config /etc/trilith/agent.toml
";

/// What the command line asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Print(String),
    Run(Arguments),
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Arguments {
    pub(crate) config: PathBuf,
    pub(crate) token: Option<Secret>,
    pub(crate) log: String,
}

/// Never printed.
#[derive(PartialEq, Eq)]
pub(crate) struct Secret(pub(crate) String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

impl Arguments {
    /// Reads the words after the program's name.
    pub(crate) fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Action, String> {
        let mut words = words.into_iter();
        let mut config = None;
        let mut token = None;
        let mut log = "info".to_owned();
        while let Some(word) = words.next() {
            let mut value = |name: &str| words.next().ok_or(format!("{name} needs a value"));
            match word.to_str() {
                Some("-h" | "--help") => return Ok(Action::Print(HELP.to_owned())),
                Some("-V" | "--version") => {
                    let version = env!("CARGO_PKG_VERSION");
                    return Ok(Action::Print(format!("trilith-agent {version}\n")));
                }
                Some("--config") => config = Some(PathBuf::from(value("--config")?)),
                Some("--token") => {
                    let text = value("--token")?.into_string();
                    let text = text.map_err(|_raw| "--token needs UTF-8".to_owned())?;
                    token = Some(Secret(text));
                }
                Some("--log") => {
                    let filter = value("--log")?.into_string();
                    log = filter.map_err(|_raw| "--log needs UTF-8".to_owned())?;
                }
                _ => return Err(format!("{} is not understood", word.display())),
            }
        }
        let config = config.ok_or("--config is required")?;
        Ok(Action::Run(Self { config, token, log }))
    }
}

#[cfg(test)]
mod tests {
    use super::{Action, Arguments, Secret};
    use std::ffi::OsString;

    fn parse(line: &str) -> Result<Action, String> {
        Arguments::parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn the_configuration_is_required_and_unknown_words_are_refused() {
        assert_eq!(parse(""), Err("--config is required".to_owned()));
        assert_eq!(parse("--config"), Err("--config needs a value".to_owned()));
        assert_eq!(parse("--fast"), Err("--fast is not understood".to_owned()));
        let run = Action::Run(Arguments {
            config: "/a".into(),
            token: Some(Secret("abc".to_owned())),
            log: "debug".to_owned(),
        });
        assert_eq!(parse("--log debug --token abc --config /a"), Ok(run));
    }
}
