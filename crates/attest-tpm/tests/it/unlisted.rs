//! Lists that references do not have, where something was measured that they alone would allow.

use crate::lies::{judged, machine, of, references};
use attest_tpm::eventlog::Kind;
use attest_tpm::reference::Value;

/// Files are listed: of PCR 12 something is said, and of command lines nothing.
#[test]
fn options_in_clear_are_refused_where_files_are_listed_and_no_command_line() {
    let mut lines = machine();
    lines.retain(|line| line.pcr != 8);
    let mut all = references();
    all.command_lines.clear();
    assert_eq!(judged(&lines, &all), "approved");
    let options: Vec<u8> = "init=/bin/sh\0"
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    lines.push(of(12, Kind::IPL, &options));
    assert_eq!(judged(&lines, &all), "BOOT-CMDLINE");
    // A whole PCR that is predicted speaks for all that is in it.
    let value = crypto::sha256(&[[0; 32], crypto::sha256(&options)].concat());
    all.pcrs
        .insert(12, vec![Value::new(value, "pcr", "a test")]);
    assert_eq!(judged(&lines, &all), "approved");
}
