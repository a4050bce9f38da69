//! The one binary as its users have it: started as a process, judged by what it prints and leaves behind.

#![forbid(unsafe_code)]
#![expect(clippy::expect_used, reason = "tests may panic")]

mod attest;
mod boots;
mod demo;
mod images;
mod refs;
mod site;
mod verify;
