//! A `newc` archive as the kernel unpacks its initramfs from (Linux,
//! Documentation/driver-api/early-userspace/buffer-format.rst). The same entries give the same bytes.

/// An archive that is being written.
#[derive(Debug, Default)]
pub struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const LINK: u32 = 0o120_000;
const CHARACTER: u32 = 0o020_000;
const TRAILER: &str = "TRAILER!!!";

impl Archive {
    /// `path` without a leading slash; its parents stand before it.
    pub fn directory(&mut self, path: &str) {
        self.entry(path, DIRECTORY | 0o755, (0, 0), &[]);
    }

    pub fn file(&mut self, path: &str, mode: u32, content: &[u8]) {
        self.entry(path, REGULAR | mode, (0, 0), content);
    }

    pub fn link(&mut self, path: &str, target: &str) {
        self.entry(path, LINK | 0o777, (0, 0), target.as_bytes());
    }

    /// A character device by its numbers.
    pub fn device(&mut self, path: &str, major: u32, minor: u32) {
        self.entry(path, CHARACTER | 0o600, (major, minor), &[]);
    }

    #[must_use]
    pub fn finish(mut self) -> Vec<u8> {
        self.entry(TRAILER, 0, (0, 0), &[]);
        self.bytes
    }

    fn entry(&mut self, name: &str, mode: u32, device: (u32, u32), content: &[u8]) {
        self.entries = self.entries.saturating_add(1);
        let size = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let fields = [
            self.entries,
            mode,
            0, // uid
            0, // gid
            1, // links
            0, // time of change
            size(content),
            0, // device of the file
            0,
            device.0,
            device.1,
            size(name.as_bytes()).saturating_add(1),
            0, // no checksum
        ];
        self.bytes.extend(b"070701");
        for field in fields {
            self.bytes.extend(format!("{field:08X}").into_bytes());
        }
        self.bytes.extend(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend(content);
        self.pad();
    }

    fn pad(&mut self) {
        let length = self.bytes.len().next_multiple_of(4);
        self.bytes.resize(length, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::Archive;

    #[test]
    fn an_archive_is_what_cpio_unpacks() {
        let mut archive = Archive::default();
        archive.directory("etc");
        archive.file("etc/name", 0o600, b"guest\n");
        archive.link("etc/link", "name");
        let bytes = archive.finish();
        assert_eq!(bytes.len() % 4, 0);
        let text = String::from_utf8(bytes).unwrap();
        // Thirteen fields of eight digits behind the magic.
        let (head, rest) = text.split_at(6 + 13 * 8);
        assert_eq!(
            head,
            "07070100000001000041ED0000000000000000000000010000000000000000000000000000000000000000000000000000000400000000"
        );
        assert!(rest.starts_with("etc\0"));
        assert!(text.contains("etc/name\0\0guest\n\0\x00070701"), "{text:?}");
        assert!(text.contains("TRAILER!!!\0"));
    }
}
