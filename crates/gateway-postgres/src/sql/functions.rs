//! Which functions of `pg_catalog` any session may call. The list is data: `functions.txt`.

use std::collections::HashSet;
use std::sync::LazyLock;

static SAFE: LazyLock<HashSet<&'static str>> = LazyLock::new(|| {
    include_str!("functions.txt")
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
        .collect()
});

pub(super) fn is_safe(name: &str) -> bool {
    SAFE.contains(name)
}

/// Functions that take a sequence by name: allowed where the sequence's table may be written.
pub(super) fn is_sequence(name: &str) -> bool {
    matches!(name, "nextval" | "currval")
}

/// Types of `pg_catalog` under whose name a cast or a call reads settings, files or tables: none.
/// Names that grammar alone produces and that this server does not have as functions.
pub(super) fn is_grammar_only(name: &str) -> bool {
    matches!(
        name,
        "timezone"
            | "extract"
            | "overlay"
            | "position"
            | "substring"
            | "ltrim"
            | "rtrim"
            | "btrim"
            | "normalize"
            | "is_normalized"
            | "xmlexists"
            | "pg_collation_for"
            | "like_escape"
            | "similar_to_escape"
    )
}
