//! Measures appends against the disk they go to. Feeds `cargo xtask bench`.

fn main() {}
