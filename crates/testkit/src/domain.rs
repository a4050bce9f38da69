//! Event logs of trust domains, as a firmware's CCEL table points at them, written event by event.
//!
//! Not here: quotes of the registers that they amount to.

use crypto::{sha256, sha384};

/// `EV_SEPARATOR`, `EV_EFI_ACTION`, `EV_EFI_VARIABLE_DRIVER_CONFIG`, `EV_IPL` and others of the TCG's.
const SEPARATOR: u32 = 4;
const BLOB: u32 = 0x8000_000a;
const CONFIG: u32 = 0x8000_0001;
const APPLICATION: u32 = 0x8000_0003;
const TABLE: u32 = 0x8000_0006;
const ACTION: u32 = 0x8000_0007;
const LINE: u32 = 0xd;
const GLOBAL: [u8; 16] = [
    0x61, 0xdf, 0xe4, 0x8b, 0xca, 0x93, 0xd2, 0x11, 0xaa, 0x0d, 0x00, 0xe0, 0x98, 0x03, 0x2b, 0x8c,
];
const SECURITY: [u8; 16] = [
    0xcb, 0xb2, 0x19, 0xd7, 0x3a, 0x3d, 0x96, 0x45, 0xa3, 0xbc, 0xda, 0xd0, 0x0e, 0x67, 0x65, 0x6f,
];

/// A log of SHA-384, and what it amounts to.
#[derive(Debug, Clone)]
pub struct DomainLog {
    pub bytes: Vec<u8>,
    /// RTMR 0 to 3.
    pub rtmr: [[u8; 48]; 4],
}

impl Default for DomainLog {
    /// With its header alone.
    fn default() -> Self {
        let spec = [
            b"Spec ID Event03\0".as_slice(),
            &[0, 0, 0, 0, 0, 2, 0, 2, 1, 0, 0, 0, 0x0c, 0, 0x30, 0, 0],
        ]
        .concat();
        let mut bytes = Vec::new();
        bytes.extend(1_u32.to_le_bytes());
        bytes.extend(3_u32.to_le_bytes());
        bytes.extend([0; 20]);
        bytes.extend(length(&spec));
        bytes.extend(spec);
        Self {
            bytes,
            rtmr: [[0; 48]; 4],
        }
    }
}

impl DomainLog {
    /// What a firmware with Secure Boot on (or off) measures, which starts GRUB, which starts a kernel with `line`.
    #[must_use]
    pub fn of_grub(secure_boot: bool, line: &str) -> Self {
        Self::default()
            .elsewhere(1, BLOB, b"the firmware's own")
            .policy(secure_boot)
            .data(1, SEPARATOR, &[0; 4])
            .elsewhere(1, 0xa, b"ACPI DATA")
            .data(2, ACTION, b"Calling EFI Application from Boot Option")
            .data(2, SEPARATOR, &[0; 4])
            .data(2, TABLE, b"EFI PART, and what follows it")
            .elsewhere(2, APPLICATION, b"grubx64.efi")
            .line("grub_cmd: ", &format!("linux {line}"))
            .elsewhere(
                3,
                LINE,
                line.split(' ').next().unwrap_or_default().as_bytes(),
            )
            .line("kernel_cmdline: ", line)
            .data(2, ACTION, b"Exit Boot Services Invocation")
    }

    /// The variables of Secure Boot, with one key in each list.
    #[must_use]
    pub fn policy(self, secure_boot: bool) -> Self {
        let list = signature_list(&sha256(b"a key"));
        self.variable(&GLOBAL, "SecureBoot", &[u8::from(secure_boot)])
            .variable(&GLOBAL, "PK", &list)
            .variable(&GLOBAL, "KEK", &list)
            .variable(&SECURITY, "db", &list)
            .variable(&SECURITY, "dbx", &list)
    }

    /// A variable in RTMR 0.
    #[must_use]
    pub fn variable(self, vendor: &[u8; 16], name: &str, value: &[u8]) -> Self {
        let wide: Vec<u8> = name.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let count = |length: usize| u64::try_from(length).unwrap_or(u64::MAX).to_le_bytes();
        let data = [
            vendor,
            &count(name.len())[..],
            &count(value.len()),
            &wide,
            value,
        ]
        .concat();
        self.data(1, CONFIG, &data)
    }

    /// `text`, as GRUB measures it into RTMR 2 and logs it behind `before`.
    #[must_use]
    pub fn line(self, before: &str, text: &str) -> Self {
        let data = format!("{before}{text}\0");
        self.event(3, LINE, sha384(text.as_bytes()), data.as_bytes())
    }

    /// An event of its own data.
    #[must_use]
    pub fn data(self, register: u32, kind: u32, data: &[u8]) -> Self {
        self.event(register, kind, sha384(data), data)
    }

    /// An event of something that the log notes as `note`.
    #[must_use]
    pub fn elsewhere(self, register: u32, kind: u32, note: &[u8]) -> Self {
        let digest = sha384(&[b"contents of ", note].concat());
        self.event(register, kind, digest, note)
    }

    #[must_use]
    pub fn event(mut self, register: u32, kind: u32, digest: [u8; 48], data: &[u8]) -> Self {
        for number in [register, kind, 1] {
            self.bytes.extend(number.to_le_bytes());
        }
        self.bytes.extend([0x0c, 0]);
        self.bytes.extend(digest);
        self.bytes.extend(length(data));
        self.bytes.extend(data);
        let index = register
            .checked_sub(1)
            .and_then(|index| usize::try_from(index).ok());
        if let Some(held) = index.and_then(|index| self.rtmr.get_mut(index)) {
            *held = sha384(&[*held, digest].concat());
        }
        self
    }
}

fn length(data: &[u8]) -> [u8; 4] {
    u32::try_from(data.len()).unwrap_or(u32::MAX).to_le_bytes()
}

/// One list with one SHA-256 in it (UEFI 2.10, section 32.4.1).
fn signature_list(digest: &[u8; 32]) -> Vec<u8> {
    const SHA256: [u8; 16] = [
        0x26, 0x16, 0xc4, 0xc1, 0x4c, 0x50, 0x92, 0x40, 0xac, 0xa9, 0x41, 0xf9, 0x36, 0x93, 0x43,
        0x28,
    ];
    let mut list = SHA256.to_vec();
    for number in [28_u32 + 48, 0, 48] {
        list.extend(number.to_le_bytes());
    }
    list.extend([0; 16]);
    list.extend(digest);
    list
}
