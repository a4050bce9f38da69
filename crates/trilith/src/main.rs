//! The one binary. This first version links what the flow will need, so that its build cost is known.
use {
    anyhow as _, arc_swap as _, aws_lc_rs as _, axum as _, base64 as _, bytes as _, clap as _, futures as _,
    hyper as _, hyper_util as _, jsonwebtoken as _, prometheus_client as _, prost as _, prost_types as _,
    rustix as _, rustls as _, schemars as _, serde as _, serde_json as _, tempfile as _, thiserror as _,
    tokio as _, tokio_rustls as _, tokio_stream as _, tokio_util as _, toml as _, tonic as _, tonic_prost as _,
    tower as _, tpm2_protocol as _, tracing as _, tracing_subscriber as _, webpki as _, x509_parser as _,
    zeroize as _,
};

fn main() {
    let policies = "permit(principal, action, resource);".parse::<cedar_policy::PolicySet>();
    let parsed = pg_query::parse("select 1", 0);
    let engines = (policies.is_ok(), parsed.is_ok(), rusqlite::version(), std::any::type_name::<cedar_policy_symcc::CedarSymCompiler<cedar_policy_symcc::solver::LocalSolver>>());
    tracing::info!(?engines);
}
