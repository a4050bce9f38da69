//! Reference pages made from the source, so that they cannot say something else than the code.

mod configuration;
mod declarations;
mod findings;
mod metrics;
mod records;

use crate::shell::Result;

/// Path and text of every page.
pub(crate) fn pages() -> Result<Vec<(&'static str, String)>> {
    Ok(vec![
        ("docs/reference/config.md", configuration::page()?),
        ("docs/reference/estate.md", configuration::estate()?),
        ("docs/reference/findings.md", findings::page()?),
        ("docs/reference/metrics.md", metrics::page()?),
        ("docs/reference/records.md", records::page()?),
    ])
}
