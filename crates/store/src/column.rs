//! How each Rust type that stands in a row is written to and read from a column.

use rusqlite::types::{Type, ValueRef};
use rusqlite::{Result, Row, Statement};
use serde_json::Value;

/// One column: an SQLite type, a way in and a way out; and the same as a value of a snapshot.
pub(crate) trait Column: Sized {
    const TYPE: &'static str;
    fn bind(&self, statement: &mut Statement<'_>, index: usize) -> Result<()>;
    fn read(row: &Row<'_>, index: usize) -> Result<Self>;
    fn told(&self) -> Value;
    /// `None` for a value of another kind.
    fn of(told: Value) -> Option<Self>;
}

impl Column for String {
    const TYPE: &'static str = "TEXT NOT NULL";

    fn bind(&self, statement: &mut Statement<'_>, index: usize) -> Result<()> {
        statement.raw_bind_parameter(index, self.as_str())
    }

    fn read(row: &Row<'_>, index: usize) -> Result<Self> {
        row.get(index)
    }

    fn told(&self) -> Value {
        Value::from(self.as_str())
    }

    fn of(told: Value) -> Option<Self> {
        match told {
            Value::String(text) => Some(text),
            _ => None,
        }
    }
}

/// SQLite integers are signed: what lies beyond is refused, not wrapped.
impl Column for u64 {
    const TYPE: &'static str = "INTEGER NOT NULL";

    fn bind(&self, statement: &mut Statement<'_>, index: usize) -> Result<()> {
        let value = i64::try_from(*self)
            .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
        statement.raw_bind_parameter(index, value)
    }

    fn read(row: &Row<'_>, index: usize) -> Result<Self> {
        let value: i64 = row.get(index)?;
        Self::try_from(value).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(index, value))
    }

    fn told(&self) -> Value {
        Value::from(*self)
    }

    fn of(told: Value) -> Option<Self> {
        told.as_u64()
    }
}

impl Column for Option<String> {
    const TYPE: &'static str = "TEXT";

    fn bind(&self, statement: &mut Statement<'_>, index: usize) -> Result<()> {
        statement.raw_bind_parameter(index, self.as_deref())
    }

    fn read(row: &Row<'_>, index: usize) -> Result<Self> {
        row.get(index)
    }

    fn told(&self) -> Value {
        self.as_deref().map_or(Value::Null, Value::from)
    }

    fn of(told: Value) -> Option<Self> {
        match told {
            Value::Null => Some(None),
            told => String::of(told).map(Some),
        }
    }
}

impl Column for Option<u64> {
    const TYPE: &'static str = "INTEGER";

    fn bind(&self, statement: &mut Statement<'_>, index: usize) -> Result<()> {
        match self {
            Some(value) => value.bind(statement, index),
            None => statement.raw_bind_parameter(index, rusqlite::types::Null),
        }
    }

    fn read(row: &Row<'_>, index: usize) -> Result<Self> {
        match row.get_ref(index)? {
            ValueRef::Null => Ok(None),
            _ => <u64 as Column>::read(row, index).map(Some),
        }
    }

    fn told(&self) -> Value {
        self.map_or(Value::Null, Value::from)
    }

    fn of(told: Value) -> Option<Self> {
        match told {
            Value::Null => Some(None),
            told => told.as_u64().map(Some),
        }
    }
}

/// A JSON array in a text column.
impl Column for Vec<String> {
    const TYPE: &'static str = "TEXT NOT NULL";

    fn bind(&self, statement: &mut Statement<'_>, index: usize) -> Result<()> {
        let text = serde_json::to_string(self)
            .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
        statement.raw_bind_parameter(index, text)
    }

    fn read(row: &Row<'_>, index: usize) -> Result<Self> {
        let text: String = row.get(index)?;
        serde_json::from_str(&text).map_err(|error| {
            rusqlite::Error::FromSqlConversionFailure(index, Type::Text, Box::new(error))
        })
    }

    fn told(&self) -> Value {
        self.iter().map(String::as_str).collect()
    }

    fn of(told: Value) -> Option<Self> {
        match told {
            Value::Array(texts) => texts.into_iter().map(String::of).collect(),
            _ => None,
        }
    }
}
