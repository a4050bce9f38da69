//! Durable state; the only crate that names a state-database driver.
