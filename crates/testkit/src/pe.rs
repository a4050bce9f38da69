//! A small PE image, for what reads boot loaders and kernels. It does not run.

/// Where its PE header stands, and what follows it.
const PE: usize = 0x80;
const OPTIONAL: usize = PE + 24;
/// Sizes of an optional header of PE32+ with 16 directories, and of a row of the section table.
const OPTIONAL_SIZE: usize = 112 + 16 * 8;
const ROW: usize = 40;
const ALIGNMENT: usize = 512;

/// A PE32+ image of these sections, each a name and what stands in it; behind them the names longer than
/// eight bytes, and a certificate table with one entry that is none.
#[must_use]
pub fn pe_image(sections: &[(&str, &[u8])]) -> Vec<u8> {
    let headers = (OPTIONAL + OPTIONAL_SIZE + sections.len() * ROW).next_multiple_of(ALIGNMENT);
    let (mut rows, mut contents, mut names) = (Vec::new(), Vec::new(), vec![0; 4]);
    for (index, (name, content)) in sections.iter().enumerate() {
        let short = if name.len() > 8 {
            format!("/{}", names.len())
        } else {
            (*name).to_owned()
        };
        names.extend(name.as_bytes());
        names.push(0);
        let at = headers + contents.len();
        contents.extend(*content);
        contents.resize(contents.len().next_multiple_of(ALIGNMENT), 0);
        let raw = headers + contents.len() - at;
        rows.extend(padded(short.as_bytes(), 8));
        rows.extend(
            [content.len(), 0x1000 * (index + 1), raw, at]
                .map(word)
                .concat(),
        );
        rows.extend([0; ROW - 24]);
    }
    let symbols = headers + contents.len();
    let (table, length) = (symbols + names.len(), 16);

    let mut bytes = padded(b"MZ", 0x3c);
    bytes.extend(word(PE));
    bytes.resize(PE, 0);
    bytes.extend(b"PE\0\0\x64\x86");
    bytes.extend(half(sections.len()));
    bytes.extend([0, symbols, 0].map(word).concat());
    bytes.extend([half(OPTIONAL_SIZE), [0; 2]].concat());
    let mut optional = padded(&[0x0b, 0x02], 60);
    optional.extend(word(headers));
    optional = padded(&optional, 108);
    optional.extend(word(16));
    // The certificate table is the fifth of the data directories.
    optional = padded(&optional, 112 + 4 * 8);
    optional.extend([table, length].map(word).concat());
    bytes.extend(padded(&optional, OPTIONAL_SIZE));
    bytes.extend(rows);
    bytes.resize(headers, 0);
    bytes.extend(contents);
    bytes.extend(names);
    bytes.extend(word(length));
    bytes.extend([0, 2, 2, 0]);
    bytes.extend([0x30; 8]);
    bytes
}

fn padded(bytes: &[u8], length: usize) -> Vec<u8> {
    let mut padded = bytes.to_vec();
    padded.resize(length, 0);
    padded
}

fn word(number: usize) -> [u8; 4] {
    u32::try_from(number).unwrap_or(u32::MAX).to_le_bytes()
}

fn half(number: usize) -> [u8; 2] {
    u16::try_from(number).unwrap_or(u16::MAX).to_le_bytes()
}
