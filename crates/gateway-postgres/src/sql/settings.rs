//! Which run-time parameters a session may set, show or bring at start. Everything else is refused.
//!
//! Left out on purpose: `search_path` (fixed at start, because names are resolved by it),
//! `standard_conforming_strings`, `backslash_quote`, `client_encoding` other than UTF-8 (they
//! change how the server reads the text that was decided), `role` and `session_authorization`
//! (they change who asks), `row_security`, `*_preload_libraries`, `default_tablespace`.

const SETTABLE: &[&str] = &[
    "application_name",
    "bytea_output",
    "client_connection_check_interval",
    "client_min_messages",
    "cursor_tuple_fraction",
    "datestyle",
    "default_statistics_target",
    "default_text_search_config",
    "default_transaction_deferrable",
    "default_transaction_isolation",
    "default_transaction_read_only",
    "effective_cache_size",
    "enable_bitmapscan",
    "enable_hashagg",
    "enable_hashjoin",
    "enable_indexonlyscan",
    "enable_indexscan",
    "enable_material",
    "enable_mergejoin",
    "enable_nestloop",
    "enable_seqscan",
    "enable_sort",
    "extra_float_digits",
    "from_collapse_limit",
    "idle_in_transaction_session_timeout",
    "idle_session_timeout",
    "intervalstyle",
    "jit",
    "join_collapse_limit",
    "lc_monetary",
    "lc_numeric",
    "lc_time",
    "lock_timeout",
    "max_parallel_workers_per_gather",
    "plan_cache_mode",
    "random_page_cost",
    "seq_page_cost",
    "statement_timeout",
    "synchronous_commit",
    "timezone",
    "transaction_deferrable",
    "transaction_isolation",
    "transaction_read_only",
    "work_mem",
    "xmlbinary",
    "xmloption",
];

/// Whether `name` may become `value`, or its default again: a commit that the server says is done has to
/// last, or the record of it would not be true. `PostgreSQL` compares the words without case.
pub(super) fn lasts(name: &str, value: Option<&str>) -> bool {
    let Some(value) = value.filter(|_| name.eq_ignore_ascii_case("synchronous_commit")) else {
        return true;
    };
    ["on", "true", "yes", "1", "remote_apply"]
        .iter()
        .any(|lasting| value.eq_ignore_ascii_case(lasting))
}

/// Longest name that `PostgreSQL` does not cut (`NAMEDATALEN` - 1).
pub(super) const MAX_NAME: usize = 63;

/// Readable besides: nothing that tells of other sessions or of the server's files.
const SHOWABLE: &[&str] = &[
    "client_encoding",
    "integer_datetimes",
    "is_superuser",
    "max_identifier_length",
    "search_path",
    "server_encoding",
    "server_version",
    "server_version_num",
    "session_authorization",
    "standard_conforming_strings",
    "transaction isolation level",
];

pub(super) fn is_settable(name: &str) -> bool {
    SETTABLE.contains(&name.to_ascii_lowercase().as_str())
}

pub(super) fn is_showable(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    SETTABLE.contains(&name.as_str()) || SHOWABLE.contains(&name.as_str())
}

/// UTF-8 only: in some other encodings a byte of a character can pass for a quote or backslash.
pub(super) fn is_utf8(encoding: &str) -> bool {
    let folded: String = encoding
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .map(|letter| letter.to_ascii_lowercase())
        .collect();
    matches!(folded.as_str(), "utf8" | "unicode")
}

/// What becomes of one parameter of the startup message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StartupParameter {
    Forward,
    /// `search_path`, in order.
    SearchPath(Vec<String>),
    /// Known and without meaning here: `user`, `database`.
    Drop,
    Refuse,
}

/// Judges `name=value` of a startup message.
#[must_use]
pub fn startup_parameter(name: &str, value: &str) -> StartupParameter {
    match name.to_ascii_lowercase().as_str() {
        "user" | "database" => StartupParameter::Drop,
        // Upstream always gets UTF8; `SQL_ASCII` and empty are what some drivers say for "as it is".
        "client_encoding" if is_utf8(value) || value.is_empty() => StartupParameter::Drop,
        "search_path" => {
            schemas(value).map_or(StartupParameter::Refuse, StartupParameter::SearchPath)
        }
        "standard_conforming_strings" if value.eq_ignore_ascii_case("on") => StartupParameter::Drop,
        settable if is_settable(settable) && lasts(settable, Some(value)) => {
            StartupParameter::Forward
        }
        _ => StartupParameter::Refuse,
    }
}

/// A `search_path` of plain or quoted names. `"$user"` names no schema of ours and falls away.
fn schemas(value: &str) -> Option<Vec<String>> {
    let mut names = Vec::new();
    for part in value.split(',') {
        let part = part.trim();
        let name = match part
            .strip_prefix('"')
            .and_then(|rest| rest.strip_suffix('"'))
        {
            Some(quoted) => quoted.to_owned(),
            None => part.to_ascii_lowercase(),
        };
        let plain = name
            .chars()
            .all(|letter| letter.is_alphanumeric() || matches!(letter, '_' | '-' | '$'));
        if name.is_empty() || name.len() > MAX_NAME || !plain || name.starts_with("pg_temp") {
            return None;
        }
        if name != "$user" {
            names.push(name);
        }
    }
    (names.len() <= 16).then_some(names)
}
