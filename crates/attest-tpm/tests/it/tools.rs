//! Programs that nobody here wrote, and the formats that they read.

use std::path::Path;
use std::process::{Command, Output};

/// Runs `program` in `folder` with the chip at `tcti` for tpm2-tools.
pub(crate) fn run(folder: &Path, tcti: &str, program: &str, arguments: &[&str]) -> Output {
    let path = testkit::tool(program).unwrap();
    Command::new(path)
        .current_dir(folder)
        .env("TPM2TOOLS_TCTI", tcti)
        .args(arguments)
        .output()
        .unwrap()
}

/// As [`run`], and it has to succeed; what it printed.
pub(crate) fn succeed(folder: &Path, tcti: &str, program: &str, arguments: &[&str]) -> String {
    let output = run(folder, tcti, program, arguments);
    let text =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert!(output.status.success(), "{program} {arguments:?}: {text:?}");
    text.concat()
}

pub(crate) fn pem(label: &str, der: &[u8]) -> String {
    let body = crypto::base64::encode(der);
    let lines: Vec<&str> = body
        .as_bytes()
        .chunks(64)
        .map(|line| str::from_utf8(line).unwrap())
        .collect();
    format!(
        "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
        lines.join("\n")
    )
}

/// The file that `tpm2_quote -o` writes and `tpm2_checkquote -f` reads: C structures of the selection
/// and of lists of at most eight values, little-endian, with their padding.
pub(crate) fn pcr_file(bitmap: [u8; 3], values: &[Vec<u8>]) -> Vec<u8> {
    let mut file = 1u32.to_le_bytes().to_vec();
    file.extend([0x0b, 0, 3]);
    file.extend(bitmap);
    file.resize(4 + 16 * 8, 0);
    let lists: Vec<&[Vec<u8>]> = values.chunks(8).collect();
    file.extend((lists.len() as u32).to_le_bytes());
    for list in lists {
        file.extend((list.len() as u32).to_le_bytes());
        let start = file.len();
        for value in list {
            file.extend((value.len() as u16).to_le_bytes());
            file.extend(value);
            file.resize(file.len() + 64 - value.len(), 0);
        }
        file.resize(start + 8 * 66, 0);
    }
    file
}
