//! What a record changes in the state, and the state as a whole.

use crate::rows::{
    BundleRow, DelegationRow, EstateRow, GatewayRow, MetaRow, NodeRow, RevocationRow, SvidRow,
    TokenRow,
};
use crate::table::{self, Row};
use rusqlite::Connection;
use std::sync::Arc;

/// One row put or removed. The fold over the ledger yields these, memory and database absorb them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    Meta(MetaRow),
    Node(NodeRow),
    Token(TokenRow),
    TokenGone(String),
    /// Shared, because memory keeps the same row.
    Svid(Arc<SvidRow>),
    SvidGone(u64),
    Revocation(RevocationRow),
    RevocationGone(u64),
    Estate(EstateRow),
    Bundle(BundleRow),
    Gateway(GatewayRow),
    /// Its ledger went on as another log, whose row is the one.
    GatewayGone(String),
    Delegation(DelegationRow),
    DelegationGone(u64),
}

impl Change {
    pub(crate) fn write(&self, connection: &Connection) -> rusqlite::Result<()> {
        match self {
            Self::Meta(row) => table::upsert(connection, row),
            Self::Node(row) => table::upsert(connection, row),
            Self::Token(row) => table::upsert(connection, row),
            Self::TokenGone(hash) => table::remove::<TokenRow>(connection, hash),
            Self::Svid(row) => table::upsert(connection, row.as_ref()),
            Self::SvidGone(index) => table::remove::<SvidRow>(connection, &key(*index)?),
            Self::Revocation(row) => table::upsert(connection, row),
            Self::RevocationGone(index) => {
                table::remove::<RevocationRow>(connection, &key(*index)?)
            }
            Self::Estate(row) => table::upsert(connection, row),
            Self::Bundle(row) => table::upsert(connection, row),
            Self::Gateway(row) => table::upsert(connection, row),
            Self::GatewayGone(origin) => table::remove::<GatewayRow>(connection, origin),
            Self::Delegation(row) => table::upsert(connection, row),
            Self::DelegationGone(index) => {
                table::remove::<DelegationRow>(connection, &key(*index)?)
            }
        }
    }
}

fn key(index: u64) -> rusqlite::Result<i64> {
    i64::try_from(index).map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))
}

/// Every table, each in order of its key.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Snapshot {
    pub meta: Vec<MetaRow>,
    pub nodes: Vec<NodeRow>,
    pub tokens: Vec<TokenRow>,
    pub svids: Vec<SvidRow>,
    pub revocations: Vec<RevocationRow>,
    pub estates: Vec<EstateRow>,
    pub bundles: Vec<BundleRow>,
    pub gateways: Vec<GatewayRow>,
    pub delegations: Vec<DelegationRow>,
}

impl Snapshot {
    pub(crate) fn create(connection: &Connection) -> rusqlite::Result<()> {
        table::create::<MetaRow>(connection)?;
        table::create::<NodeRow>(connection)?;
        table::create::<TokenRow>(connection)?;
        table::create::<SvidRow>(connection)?;
        table::create::<RevocationRow>(connection)?;
        table::create::<EstateRow>(connection)?;
        table::create::<BundleRow>(connection)?;
        table::create::<GatewayRow>(connection)?;
        table::create::<DelegationRow>(connection)
    }

    pub(crate) fn load(connection: &Connection) -> rusqlite::Result<Self> {
        Ok(Self {
            meta: table::list(connection)?,
            nodes: table::list(connection)?,
            tokens: table::list(connection)?,
            svids: table::list(connection)?,
            revocations: table::list(connection)?,
            estates: table::list(connection)?,
            bundles: table::list(connection)?,
            gateways: table::list(connection)?,
            delegations: table::list(connection)?,
        })
    }

    /// Every table holds these rows and no others.
    pub(crate) fn replace(&self, connection: &Connection) -> rusqlite::Result<()> {
        table::replace(connection, &self.meta)?;
        table::replace(connection, &self.nodes)?;
        table::replace(connection, &self.tokens)?;
        table::replace(connection, &self.svids)?;
        table::replace(connection, &self.revocations)?;
        table::replace(connection, &self.estates)?;
        table::replace(connection, &self.bundles)?;
        table::replace(connection, &self.gateways)?;
        table::replace(connection, &self.delegations)
    }

    /// The canonical dump: one line a row, tables and rows in a fixed order. Two states are equal
    /// exactly when their dumps are.
    #[must_use]
    pub fn dump(&self) -> String {
        let mut out = String::new();
        lines(&mut out, &self.meta);
        lines(&mut out, &self.nodes);
        lines(&mut out, &self.tokens);
        lines(&mut out, &self.svids);
        lines(&mut out, &self.revocations);
        lines(&mut out, &self.estates);
        lines(&mut out, &self.bundles);
        lines(&mut out, &self.gateways);
        lines(&mut out, &self.delegations);
        out
    }
}

fn lines<R: Row>(out: &mut String, rows: &[R]) {
    for row in rows {
        out.push_str(&format!("{} {row:?}\n", R::TABLE));
    }
}
