//! The file that an image was loaded from, as its event says. Nothing measured it: a name for people.

use crate::bytes::{Bytes, utf16};

/// `EFI_IMAGE_LOAD_EVENT` (PC Client Platform Firmware Profile 1.06, section 10.2.3): location, length
/// in memory, link-time address, length of the device path.
const BEFORE_LENGTH: usize = 24;
/// Media device path, file path (UEFI 2.10, sections 10.3.5.4).
const FILE_PATH: (u8, u8) = (4, 4);
const END: u8 = 0x7f;

/// The file path in the device path of an image's event, if it has one.
pub(crate) fn image_path(data: &[u8]) -> Option<String> {
    let mut bytes = Bytes::new(data);
    bytes.take(BEFORE_LENGTH)?;
    bytes.u64()?;
    let mut path = String::new();
    // Each round reads at least a header, so the number of rounds is bounded by the data.
    while let (Some(kind), Some(sub), Some(length)) = (bytes.u8(), bytes.u8(), bytes.u16()) {
        if kind == END {
            break;
        }
        let body = bytes.take(usize::from(length.checked_sub(4)?))?;
        if (kind, sub) == FILE_PATH {
            path.push_str(&utf16(body)?);
        }
    }
    (!path.is_empty()).then_some(path)
}

#[cfg(test)]
mod tests {
    use super::image_path;

    #[test]
    fn file_nodes_make_the_path_and_a_length_below_its_header_ends_it() {
        let mut data = vec![0; 32];
        data.extend([2, 1, 12, 0, 0xd0, 0x41, 3, 10, 0, 0, 0, 0]);
        data.extend([4, 4, 10, 0, b'\\', 0, b'A', 0, 0, 0]);
        data.extend([0x7f, 0xff, 4, 0]);
        assert_eq!(image_path(&data).unwrap(), "\\A");
        data[34] = 3;
        assert!(image_path(&data).is_none());
    }
}
