//! OpenID AuthZEN Authorization API 1.0, without HTTP: what its bodies say, and how answers are put.
//!
//! What a caller says of a resource or an action (`properties`) is read past: the estate declares what they
//! are. Of a subject `properties.x5c` is read, its SVID, and of `context` the member `facts`.

mod answers;
mod discovery;
mod evaluation;
mod page;
mod search;

pub use answers::{context, decision, refusal};
pub use discovery::{Discovery, WELL_KNOWN};
pub use evaluation::{
    Batch, Evaluation, Resource, Semantic, Subject, parse_evaluation, parse_evaluations, stated,
};
pub use page::Token;
pub use search::{Found, Search, Target, parse as parse_search};

/// Default paths of section "HTTPS JSON Binding".
pub const EVALUATION: &str = "/access/v1/evaluation";
pub const EVALUATIONS: &str = "/access/v1/evaluations";
pub const SEARCH_SUBJECT: &str = "/access/v1/search/subject";
pub const SEARCH_RESOURCE: &str = "/access/v1/search/resource";
pub const SEARCH_ACTION: &str = "/access/v1/search/action";
