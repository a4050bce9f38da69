//! A PostgreSQL database, by the URL that libpq knows. Passwords stand in files and in the environment, where
//! other users do not see them.

use super::secret;
use crate::Failure;
use crate::arguments::PostgresArguments;
use discovery::{Database, Found, Schema, Scope};
use facts::Finding;
use gateway_postgres::{Place, UpstreamConfig, Wanted, describe};
use std::collections::BTreeSet;
use std::path::PathBuf;

const PORT: u16 = 5432;

pub(super) async fn found(arguments: &PostgresArguments) -> Result<Found, Failure> {
    let url = Url::parse(&arguments.url)?;
    let password = match &arguments.password_file {
        Some(path) => Some(secret(path)?),
        None => std::env::var_os("PGPASSWORD")
            .filter(|password| !password.is_empty())
            .map(|password| crypto::SecretBytes::new(password.into_encoded_bytes())),
    };
    let place = Place {
        upstream: url.upstream(arguments.ca_file.clone())?,
        database: url.database.clone(),
        role: url.role,
        password,
    };
    let only: BTreeSet<String> = arguments.schemas.iter().cloned().collect();
    let wanted = Wanted {
        only: only.clone(),
        system: arguments.system,
    };
    let described = describe(&place, &wanted).await?;
    let schemas = described.into_iter().map(|(name, described)| {
        let schema = Schema {
            tables: described.tables,
            governed: described.governed,
            functions: described.functions,
        };
        (name, schema)
    });
    Ok(Found::Database(Database {
        name: arguments.database.clone().unwrap_or(url.database),
        schemas: schemas.collect(),
        scope: Scope {
            only: (!only.is_empty()).then_some(only),
            system: arguments.system,
        },
    }))
}

/// `postgresql://ROLE@HOST:PORT/DATABASE?host=FOLDER`
#[derive(Debug, PartialEq, Eq)]
struct Url {
    role: String,
    /// A name or an address, or the folder of a Unix socket, which begins with a slash.
    host: String,
    port: u16,
    database: String,
    ca: Option<PathBuf>,
}

impl Url {
    fn parse(url: &str) -> Result<Self, Failure> {
        let rest = url
            .strip_prefix("postgresql://")
            .or_else(|| url.strip_prefix("postgres://"))
            .ok_or_else(|| refused("it does not begin with postgresql://"))?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
        let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
        if user.contains(':') {
            return Err(refused(
                "there is a password in it, which every user of this machine sees",
            ));
        }
        let (host, port) = match host.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, Some(port)),
            _ => (host, None),
        };
        let mut role = decoded(user)?;
        let mut host = decoded(host.trim_matches(['[', ']']))?;
        let mut port = port.map(decoded).transpose()?;
        let mut database = decoded(database)?;
        let mut ca = None;
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = decoded(value)?;
            match key {
                "host" => host = value,
                "port" => port = Some(value),
                "user" => role = value,
                "dbname" => database = value,
                "sslrootcert" => ca = Some(PathBuf::from(value)),
                "sslmode" if value == "verify-full" => {}
                "sslmode" => return Err(refused("sslmode can only be verify-full")),
                "password" => {
                    return Err(refused(
                        "there is a password in it, which every user of this machine sees",
                    ));
                }
                _ => {
                    return Err(refused(
                        "it has parameters other than host, port, user, dbname, sslrootcert and sslmode",
                    ));
                }
            }
        }
        for (what, value) in [("role", &role), ("host", &host), ("database", &database)] {
            if value.is_empty() {
                return Err(refused(&format!("it names no {what}")));
            }
        }
        let port = match port.filter(|port| !port.is_empty()) {
            Some(port) => port.parse().map_err(|_| refused("it has no port of TCP"))?,
            None => PORT,
        };
        Ok(Self {
            role,
            host,
            port,
            database,
            ca,
        })
    }

    fn upstream(&self, ca_file: Option<PathBuf>) -> Result<UpstreamConfig, Failure> {
        let ca_file = ca_file.or_else(|| self.ca.clone());
        let socket = self.host.starts_with('/');
        if !socket && ca_file.is_none() {
            return Err(Finding::new(
                "SYNC-PG-CA",
                "over the network only a server that is certified is asked",
            )
            .expected("a PEM file of the authorities that may certify it")
            .next(
                "name the file with --ca-file, or give the folder of a Unix socket as ?host=FOLDER",
            )
            .into());
        }
        Ok(UpstreamConfig {
            socket_folder: socket.then(|| PathBuf::from(&self.host)),
            host: (!socket).then(|| self.host.clone()),
            ca_file: ca_file.filter(|_| !socket),
            port: self.port,
        })
    }
}

/// It does not say what was given: there may be a password in it.
fn refused(observed: &str) -> Failure {
    Finding::new("SYNC-PG-URL", "this is no address of a database")
        .expected(
            "postgresql://ROLE@HOST[:PORT]/DATABASE, or postgresql://ROLE@/DATABASE?host=FOLDER",
        )
        .observed(observed)
        .next("correct --url; a password goes into --password-file or PGPASSWORD")
        .into()
}

/// With `%2F` and its like as what they stand for.
fn decoded(text: &str) -> Result<String, Failure> {
    let wrong =
        || refused("a percent sign in it is followed by no two digits, or by what is no text");
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
        let (high, low) = (digit(rest.next()), digit(rest.next()));
        let value = high.zip(low).map(|(high, low)| high * 16 + low);
        let value = value.and_then(|value| u8::try_from(value).ok());
        bytes.push(value.ok_or_else(wrong)?);
    }
    let text = String::from_utf8(bytes).map_err(|_| wrong())?;
    if text.chars().any(char::is_control) {
        return Err(refused("it has control characters"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_as_libpq_reads_them() {
        let url = |url: &str| {
            let Url {
                role,
                host,
                port,
                database,
                ca,
            } = Url::parse(url).unwrap();
            format!(
                "{role} {host} {port} {database} {}",
                ca.unwrap_or_default().display()
            )
        };
        assert_eq!(url("postgresql://a@b/c"), "a b 5432 c ");
        assert_eq!(url("postgres://a%40x@[::1]:7/c%2Fd"), "a@x ::1 7 c/d ");
        assert_eq!(url("postgresql://a@/c?host=/run/x&port=1"), "a /run/x 1 c ");
        assert_eq!(url("postgresql://%2Frun%2Fx/c?user=a"), "a /run/x 5432 c ");
        assert_eq!(
            url("postgresql://a@b/c?sslmode=verify-full&sslrootcert=ca.pem"),
            "a b 5432 c ca.pem"
        );
    }

    #[test]
    fn a_password_on_the_command_line_is_refused_and_not_repeated() {
        for url in [
            "postgresql://a:secret@b/c",
            "postgresql://a@b/c?password=secret",
            "postgresql://a@b/c?sslmode=require",
            "postgresql://a@b/c?sslkey=secret",
            "postgresql://a@b:secret/c",
            "postgresql://b/c",
            "postgresql://a@/c",
            "postgresql://a@b",
            "postgresql://a@b/c%0a",
            "postgresql://a@b/c%zz",
            "host=b",
        ] {
            let refused = Url::parse(url).unwrap_err();
            assert_eq!(refused.findings()[0].code, "SYNC-PG-URL", "{url}");
            assert!(!refused.to_string().contains("secret"), "{url}");
        }
    }

    #[test]
    fn over_the_network_there_is_tls_or_nothing() {
        let url = Url::parse("postgresql://a@b/c").unwrap();
        let refused = url.upstream(None).unwrap_err();
        assert_eq!(refused.findings()[0].code, "SYNC-PG-CA");
        assert!(
            url.upstream(Some("ca.pem".into()))
                .unwrap()
                .ca_file
                .is_some()
        );
        let socket = Url::parse("postgresql://a@/c?host=/run/x").unwrap();
        assert_eq!(
            socket.upstream(None).unwrap().socket_folder,
            Some("/run/x".into())
        );
    }
}
