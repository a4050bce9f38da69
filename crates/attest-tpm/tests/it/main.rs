//! Joins by TPM: forged ones, real ones on a software TPM, recorded ones, and judges from outside.
//! Boots and IMA lists: recorded ones, written ones that lie, and Debian's reading of the same logs.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::print_stderr,
    reason = "tests may panic"
)]

mod ak;
mod attacks;
mod booted;
mod boots;
mod chip;
mod cloud;
mod continuous;
mod domain;
mod evidence;
mod flips;
mod forge;
mod hostile;
mod ima;
mod judged;
mod judges;
mod lies;
mod logs;
mod measure;
mod others;
mod protobuf;
mod roots;
mod sealed;
mod secureboot;
mod strong;
mod tools;
mod unlisted;
