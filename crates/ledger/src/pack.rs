//! Packs: one file with a question, its records, proofs, checkpoints and inputs, which verifies
//! against a [`Trust`] of the user's and nothing else.
//!
//! ```text
//! trilith-pack/1 <bytes of the table> <sha256 of the table>
//! <bytes> <sha256> <name>          the table: one line a section, sorted
//! …                                the sections, one behind the other
//! ```
//! | section | content |
//! |---|---|
//! | `question.json` | what was asked: one [`Question`], in its one spelling; nothing vouches for it |
//! | `checkpoint/<n>` | a signed note; 0 is the server's ledger, the others are gateways' |
//! | `record/<n>/<index>` | `u16 length ‖ record ‖ inclusion proof` under checkpoint n |
//! | `tiles/<n>/tile/…` | all tiles (and entry bundles) of checkpoint n, or none |
//! | `blob/<sha256>` | what a record of the pack names by digest |
//! | `certificate/<sha256>` | DER; an issuance of the pack commits to it, or it is of an authority above one |
//! | `extends/0/<size>` | proof that checkpoint 0 goes on from the tree of that size, with which a log before its own ended |
//!
//! A gateway's record is proven by its checkpoint, which an anchor record of the server's ledger
//! states together with the gateway's key; that record by the server's checkpoint; and that one by
//! the key in the trust file. The digests of the table find accidents and say where; against a
//! forger only the proofs count. The server's checkpoint has the trusted key's signature line and those that
//! witnesses of the trust file's policy made, and no other; a gateway's has the bytes that its anchor states.
//! Where the server's ledger went on as a new log, the checkpoint is shown to hold each tree that a link names: that both
//! keys signed it says what the new log has to go on from, and not that it does.
//!
//! A pack holds the records that answer its question, all that those rest on ([`grounds`]), the anchors of
//! its gateways' checkpoints, and no other record. [`Answers`] says which answer. Where a ledger's tiles are
//! there with its entries, the verifier runs it over every entry, so that nothing can be left out; where
//! they are not, the pack is not shown to be complete ([`Report::doubts`]).

mod build;
mod complete;
mod container;
mod folds;
mod matching;
mod question;
mod stated;
mod trust;
mod verify;

pub use build::{PackBuilder, with_certificates};
pub use complete::{Dated, Doubt, Erased, Extent};
pub use matching::{Answers, Grounds, Sessions, contents, grounds, is_about, touches};
pub use question::{Question, names};
pub use trust::{Trust, TrustError};
pub use verify::{CertificateCheck, Failure, PackRecord, Report, verify, verify_with};
