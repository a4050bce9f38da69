//! A Debian archive: the signed `InRelease` names `Packages`, `Packages` names each `.deb`, and the
//! `.deb` holds the files; every step by SHA-256 (Debian policy; `DebianRepository/Format`; deb(5)).

mod package;
mod packages;
mod release;

pub(crate) use package::hash_entry;
pub use package::{Package, PackageFile};
pub use packages::{Listed, Packages};
pub use release::{Index, Release};
