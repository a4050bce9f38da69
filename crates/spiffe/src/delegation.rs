//! Delegation tokens: a person lets somebody act for them, who lets another, each link with an end and a scope.
//!
//! A token is no identity and no bearer's secret: it counts with the SVID of the last in its chain and with no
//! other. It is a compact JWS of a type of its own, which no parser of JWT-SVIDs here takes, as this one takes
//! none of theirs. What somebody may do by it is not said here: the estate decides over the chain that it proves.
//!
//! The order of issuance shows in the types: [`Terms`] → [`DelegationTbs`] (has a digest and no signature) → the
//! record → the receipt → [`JwtToBeSigned`](crate::jwt::JwtToBeSigned). And of presenting: [`DelegationToken`]
//! (nothing is believed) → [`Presented`] (signed, in time, by its delegate) → [`Recorded`].

mod mint;
mod recorded;
mod terms;
mod token;

pub use mint::DelegationTbs;
pub use recorded::Recorded;
pub use terms::{Issued, Link, Narrowed, Terms};
pub use token::{DelegationToken, Presented};

/// `typ` of the header: whatever else reads JWTs is to see that this is none of its own.
pub const TYPE: &str = "trilith-delegation+jwt";
/// `aud`: nobody's name, so that no service that asks for its own takes a delegation for a JWT-SVID.
pub const AUDIENCE: &str = "urn:trilith:delegation";
