//! Drives one function of `hostile` by libFuzzer. Which one says `TRILITH_FUZZ`, so that one build serves
//! all; `cargo xtask fuzz` sets it.

#![no_main]

use hostile::Target;
use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;

static TARGET: LazyLock<&Target> = LazyLock::new(|| {
    let name = std::env::var("TRILITH_FUZZ").unwrap_or_default();
    hostile::target_of(&name).unwrap_or_else(|| panic!("TRILITH_FUZZ names no target: {name:?}"))
});

fuzz_target!(|bytes: &[u8]| (TARGET.run)(bytes));
