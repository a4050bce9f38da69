//! How people log in and out.

use clap::Args;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub struct LoginArguments {
    /// The OpenID provider, to the letter as `issuer` under [[oidc]] in server.toml names it
    #[arg(long, value_name = "URL")]
    pub issuer: String,
    /// The trust domain of the server
    #[arg(long, value_name = "DOMAIN")]
    pub trust_domain: String,
    /// Digest of the server's trust anchors: `pin` of `trilith status`
    #[arg(long, value_name = "tl1:HEX")]
    pub pin: String,
    /// PEM file of the authorities that certify the provider; those of the system by default
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// Open the address in a browser as well; it is printed in any case
    #[arg(long)]
    pub browser: bool,
    /// Give up after so many seconds; the server does after 600
    #[arg(long, default_value_t = 300, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=600))]
    pub timeout: u64,
}

#[derive(Debug, Args)]
pub struct LogoutArguments {}
