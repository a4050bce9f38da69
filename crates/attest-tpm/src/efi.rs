//! UEFI structures as event logs hold them: GUIDs, variables, signature lists, device paths.
//!
//! Only what they say. Whether what they say was measured is `eventlog`'s to find out.
//! Structures follow UEFI 2.10 and TCG PC Client Platform Firmware Profile 1.06.

mod device_path;
mod guid;
mod signatures;
mod variable;

pub use guid::Guid;
pub use signatures::{Content, Signature, SignatureListError, parse_signature_lists};
pub use variable::Variable;

pub(crate) use device_path::image_path;
pub(crate) use signatures::{one_signature, sha256_list, x509_list};
