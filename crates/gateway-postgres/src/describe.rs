//! What a database has, for those who declare it: schemas, tables with their columns, functions. Any role can
//! ask; the gateway itself does not.

use crate::UpstreamConfig;
use crate::upstream::{Admin, AdminError, Login, columns, literal};
use facts::{Finding, with_causes};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Of each question. A catalogue of more is declared in parts, by `--schema`.
const MOST_ROWS: usize = 300_000;
/// For all of it. The largest catalogues take seconds.
const PATIENCE: Duration = Duration::from_secs(120);

/// Where to ask, and as whom.
pub struct Place {
    pub upstream: UpstreamConfig,
    /// As the server calls it.
    pub database: String,
    pub role: String,
    /// Without it the operating system's user is the proof.
    pub password: Option<crypto::SecretBytes>,
}

/// Which schemas.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Only these; empty: every one.
    pub only: BTreeSet<String>,
    /// The system's own as well.
    pub system: bool,
}

/// A schema.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Described {
    /// Tables, views, materialised views and foreign tables, with their columns in order.
    pub tables: BTreeMap<String, Vec<String>>,
    /// Of the tables, partitions, which their parents govern, and sequences.
    pub governed: BTreeSet<String>,
    /// Functions, procedures and aggregates, by name.
    pub functions: BTreeSet<String>,
}

/// Reads the catalogue, in one transaction that only reads.
///
/// # Errors
/// `SYNC-PG-CA`, `SYNC-PG` and `SYNC-PG-LIMIT`.
pub async fn describe(
    place: &Place,
    wanted: &Wanted,
) -> Result<BTreeMap<String, Described>, Finding> {
    let address = place.upstream.address().map_err(|finding| {
        Finding::new(
            "SYNC-PG-CA",
            "the authorities that may certify the server cannot be read",
        )
        .observed(finding.message)
        .next("name a PEM file with --ca-file")
    })?;
    let login = match &place.password {
        Some(password) => Login::Password(password),
        None => Login::Peer,
    };
    let described = async {
        let mut admin = Admin::connect(&address, &place.role, &place.database, &login).await?;
        admin
            .query("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            .await?;
        let schemas = read(&mut admin, wanted).await?;
        admin.query("COMMIT").await?;
        Ok::<_, AdminError>(schemas)
    };
    let failed = |observed: String| {
        Finding::new("SYNC-PG", "the database does not say what it has")
            .observed(observed)
            .next("check --url, that the database runs, and the password in --password-file or PGPASSWORD")
    };
    let schemas = tokio::time::timeout(PATIENCE, described)
        .await
        .map_err(|_| failed(format!("no whole answer within {} s", PATIENCE.as_secs())))?
        .map_err(|error| failed(with_causes(&error)))?;
    schemas.ok_or_else(|| {
        Finding::new(
            "SYNC-PG-LIMIT",
            "the database has more than is listed at once",
        )
        .expected(format!(
            "at most {MOST_ROWS} columns, and as many functions"
        ))
        .next("name some schemas with --schema, and the others in another run")
    })
}

/// Nothing if there is too much.
async fn read(
    admin: &mut Admin,
    wanted: &Wanted,
) -> Result<Option<BTreeMap<String, Described>>, AdminError> {
    let which = condition(wanted);
    let limit = MOST_ROWS + 1;
    let mut schemas: BTreeMap<String, Described> = BTreeMap::new();
    let names = format!("SELECT n.nspname FROM pg_namespace n WHERE {which} LIMIT {limit}");
    let rows = admin.query(&names).await?;
    let mut most = rows.len();
    for row in rows {
        let [schema] = columns(&row)?;
        schemas.entry(schema.to_owned()).or_default();
    }
    let tables = format!(
        "SELECT n.nspname, c.relname, c.relispartition OR c.relkind = 'S', a.attname IS NOT NULL, coalesce(a.attname, '')
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
           AND c.relkind <> 'S'
         WHERE {which} AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
         ORDER BY c.oid, a.attnum LIMIT {limit}"
    );
    let rows = admin.query(&tables).await?;
    most = most.max(rows.len());
    for row in rows {
        let [schema, table, governed, has_column, column] = columns(&row)?;
        let described = schemas.entry(schema.to_owned()).or_default();
        let listed = described.tables.entry(table.to_owned()).or_default();
        if has_column == "t" {
            listed.push(column.to_owned());
        }
        if governed == "t" {
            described.governed.insert(table.to_owned());
        }
    }
    let functions = format!(
        "SELECT DISTINCT n.nspname, p.proname FROM pg_proc p
         JOIN pg_namespace n ON n.oid = p.pronamespace WHERE {which} LIMIT {limit}"
    );
    let rows = admin.query(&functions).await?;
    most = most.max(rows.len());
    for row in rows {
        let [schema, function] = columns(&row)?;
        let described = schemas.entry(schema.to_owned()).or_default();
        described.functions.insert(function.to_owned());
    }
    Ok((most <= MOST_ROWS).then_some(schemas))
}

/// What belongs to one session, and TOAST, is nobody's to declare.
fn condition(wanted: &Wanted) -> String {
    let mut which = "n.nspname !~ '^pg_(toast|temp)'".to_owned();
    if !wanted.only.is_empty() {
        let names: Vec<String> = wanted.only.iter().map(|name| literal(name)).collect();
        which.push_str(&format!(" AND n.nspname IN ({})", names.join(", ")));
    } else if !wanted.system {
        which.push_str(" AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'");
    }
    which
}
