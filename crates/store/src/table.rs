//! One table a row type: the macro that says both at once, and what can be done with any of them.

use rusqlite::{Connection, Result, Statement};
use serde_json::Value;
use std::fmt::Debug;

/// A row type and the table that keeps it.
pub trait Row: Sized + Debug + Clone + PartialEq + Eq + Send + 'static {
    const TABLE: &'static str;
    /// The column that is the primary key; rows are listed in its order.
    const KEY: &'static str;
    const COLUMNS: &'static [(&'static str, &'static str)];
    /// Puts a row, in place of one of the same key.
    const UPSERT: &'static str;
    /// Removes the row of a key.
    const REMOVE: &'static str;
    fn bind(&self, statement: &mut Statement<'_>) -> Result<()>;
    fn read(row: &rusqlite::Row<'_>) -> Result<Self>;
    /// What stands in its columns, in their order.
    fn told(&self) -> Vec<Value>;
    /// The row with this in its columns; `None` if there are more or fewer, or of other kinds.
    fn of(told: Vec<Value>) -> Option<Self>;
}

/// Declares a row struct and its table. The first field is the primary key.
macro_rules! table {
    (@mark $field:ident) => {
        ",?"
    };
    (
        $(#[$meta:meta])*
        $name:ident in $table:literal {
            $(#[$key_meta:meta])* $key:ident : $key_type:ty,
            $( $(#[$field_meta:meta])* $field:ident : $type:ty, )*
        }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct $name {
            $(#[$key_meta])* pub $key: $key_type,
            $( $(#[$field_meta])* pub $field: $type, )*
        }

        impl $crate::table::Row for $name {
            const TABLE: &'static str = $table;
            const KEY: &'static str = stringify!($key);
            const COLUMNS: &'static [(&'static str, &'static str)] = &[
                (stringify!($key), <$key_type as $crate::column::Column>::TYPE),
                $( (stringify!($field), <$type as $crate::column::Column>::TYPE), )*
            ];
            const UPSERT: &'static str = concat!(
                "INSERT OR REPLACE INTO \"", $table, "\" (\"", stringify!($key), "\""
                $(, ",\"", stringify!($field), "\"")*,
                ") VALUES (?" $(, $crate::table::table!(@mark $field))*, ")"
            );
            const REMOVE: &'static str = concat!(
                "DELETE FROM \"", $table, "\" WHERE \"", stringify!($key), "\" = ?"
            );

            fn bind(&self, statement: &mut rusqlite::Statement<'_>) -> rusqlite::Result<()> {
                let mut index = 1;
                $crate::column::Column::bind(&self.$key, statement, index)?;
                $(
                    index += 1;
                    $crate::column::Column::bind(&self.$field, statement, index)?;
                )*
                Ok(())
            }

            fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<Self> {
                let mut index = 0;
                let $key = $crate::column::Column::read(row, index)?;
                $(
                    index += 1;
                    let $field = $crate::column::Column::read(row, index)?;
                )*
                Ok(Self { $key, $($field),* })
            }

            fn told(&self) -> Vec<serde_json::Value> {
                vec![
                    $crate::column::Column::told(&self.$key),
                    $( $crate::column::Column::told(&self.$field), )*
                ]
            }

            fn of(told: Vec<serde_json::Value>) -> Option<Self> {
                let mut told = told.into_iter();
                let $key = $crate::column::Column::of(told.next()?)?;
                $( let $field = $crate::column::Column::of(told.next()?)?; )*
                told.next().is_none().then_some(Self { $key, $($field),* })
            }
        }
    };
}
pub(crate) use table;

pub(crate) fn create<R: Row>(connection: &Connection) -> Result<()> {
    let columns: Vec<String> = R::COLUMNS
        .iter()
        .map(|(name, kind)| {
            // An integer key is SQLite's own row number: appending to it never splits a page.
            let kind = if *name == R::KEY {
                format!("{} PRIMARY KEY", kind.trim_end_matches(" NOT NULL"))
            } else {
                (*kind).to_owned()
            };
            format!("\"{name}\" {kind}")
        })
        .collect();
    let integer_key = R::COLUMNS
        .first()
        .is_some_and(|(_, kind)| kind.starts_with("INTEGER"));
    let options = if integer_key {
        "STRICT"
    } else {
        "STRICT, WITHOUT ROWID"
    };
    connection.execute_batch(&format!(
        "CREATE TABLE IF NOT EXISTS \"{}\" ({}) {options}",
        R::TABLE,
        columns.join(", "),
    ))
}

pub(crate) fn upsert<R: Row>(connection: &Connection, row: &R) -> Result<()> {
    let mut statement = connection.prepare_cached(R::UPSERT)?;
    row.bind(&mut statement)?;
    statement.raw_execute().map(|_| ())
}

pub(crate) fn remove<R: Row>(connection: &Connection, key: &dyn rusqlite::ToSql) -> Result<()> {
    let mut statement = connection.prepare_cached(R::REMOVE)?;
    statement.execute([key]).map(|_| ())
}

/// The table holds `rows` and no others.
pub(crate) fn replace<R: Row>(connection: &Connection, rows: &[R]) -> Result<()> {
    connection.execute_batch(&format!("DELETE FROM \"{}\"", R::TABLE))?;
    rows.iter().try_for_each(|row| upsert(connection, row))
}

/// Every row, in order of the key.
pub(crate) fn list<R: Row>(connection: &Connection) -> Result<Vec<R>> {
    let mut statement = connection.prepare(&format!(
        "SELECT {} FROM \"{}\" ORDER BY \"{}\"",
        R::COLUMNS
            .iter()
            .map(|(name, _)| format!("\"{name}\""))
            .collect::<Vec<_>>()
            .join(","),
        R::TABLE,
        R::KEY
    ))?;
    statement.query_map([], R::read)?.collect()
}
