//! What live systems say they have, written into an estate's files beside what people wrote there.
//!
//! [`merge`] is pure: what was [`Found`] and the files of an estate in, new text and a [`Report`] out. What
//! is there keeps every byte; what is new is classified by nobody. [`tools`] asks an MCP server, within
//! bounds; [`routes`] reads an OpenAPI document. What a database has, `gateway_postgres` reads.
//! Not here: files, and whether the estate that comes out compiles.
//!
//! Whoever answers may be hostile: what it says can add declarations that count as most restricted, and
//! names of things that are gone. It can classify nothing, and takes nothing away.

#![forbid(unsafe_code)]
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        reason = "tests may panic"
    )
)]

mod document;
mod edit;
mod found;
mod mcp;
mod merge;
mod openapi;
mod report;

pub use found::{Api, Database, Found, Schema, Scope, ToolServer};
pub use mcp::{Endpoint, Listed, Protocol, tools};
pub use merge::{Change, Options, Outcome, merge};
pub use openapi::{MAX_DOCUMENT, routes};
pub use report::{Changed, Item, Refused, Report};
