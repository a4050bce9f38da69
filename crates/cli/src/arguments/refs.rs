//! The commands under `refs`: reference values.

use clap::{Args, Subcommand};
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
pub enum RefsCommand {
    /// Compute reference values from what is signed, and write them as one generation to one file
    #[command(subcommand)]
    Import(ImportCommand),
    /// Say what a digest or path is by the references in FILES, and whether it is good here and now
    #[command(
        after_long_help = "Examples:\n  trilith refs find /usr/bin/openssl estate/references/debian.json\n  trilith refs find 26f2e57c99338feaf71c46fa4babdc7e1a6c115943002d109fdb746667104f5f estate/references/*.json"
    )]
    Find(FindArguments),
    /// Show the boots in which the machines of RING may open what they have sealed, by the server's signatures
    #[command(
        after_long_help = "Examples:\n  trilith refs approvals production\n  trilith refs approvals production --out new-kernel.json\n  trilith refs approvals production --json"
    )]
    Approvals(ApprovalsArguments),
    /// Make the policy that kernels of a ring enforce (IPE) from an estate's references, and sign it
    #[command(
        after_long_help = "The file goes into the estate's references folder. Programs are listed by fs-verity digest. What has not\nchanged keeps its version; else the version is a higher one.\n\nExamples:\n  trilith refs ipe ./estate --ring web --certificate db.crt --key db.key --output estate/references/enforcement.json\n  trilith refs ipe ./estate --ring web --certificate db.crt --key db.key --boot-verified --enforce --output estate/references/enforcement.json"
    )]
    Ipe(IpeArguments),
    /// Make a rule of what machines of a ring may boot, or add to one
    #[command(
        after_long_help = "A machine has to fit one rule of its ring as a whole, beside what generations predict; what a rule does not\nname is not allowed. --from takes what booting an imported artefact measures.\n\nExamples:\n  trilith refs boot estate/references/boot.json --rule web --ring web --from shim-grub-linux --command-line 'root=LABEL=root ro quiet' --file initrd=26f2e57c99338feaf71c46fa4babdc7e1a6c115943002d109fdb746667104f5f\n  trilith refs boot estate/references/boot.json --rule web --dbx BootHole=80a66d53a945d2286fcadd780fae1c225aa732079cd67b5225dc78aaab4e2ff8 --sbat shim=4"
    )]
    Boot(BootArguments),
    /// Change when and for which machines a generation holds; the values stay as they were imported
    #[command(
        after_long_help = "Examples:\n  trilith refs change estate/references/debian-2026-07.json --valid-until 2026-12-31T00:00:00Z\n  trilith refs change estate/references/debian-2026-07.json --generation debian-2026-07 --add-ring production"
    )]
    Change(ChangeArguments),
}

#[derive(Debug, Args)]
pub struct IpeArguments {
    /// Folder of the estate
    #[arg(value_name = "DIR")]
    pub estate: PathBuf,
    /// Ring of machines that it is for
    #[arg(long, value_name = "RING")]
    pub ring: String,
    /// Certificate that the kernels trust, PEM or DER; with Secure Boot, one of the firmware's db
    #[arg(long, value_name = "FILE")]
    pub certificate: PathBuf,
    /// Its private key: PKCS #8 in PEM
    #[arg(long, value_name = "FILE")]
    pub key: PathBuf,
    /// The file of references to write, usually in the estate's references folder; replaced if it exists
    #[arg(long, short, value_name = "FILE")]
    pub output: PathBuf,
    /// The policy's name on the machines
    #[arg(long, value_name = "NAME", default_value = "trilith")]
    pub name: String,
    /// What was in the initramfs that the firmware verified may run
    #[arg(long)]
    pub boot_verified: bool,
    /// Refuse what is not listed; else kernels only say in their audit log what they would refuse
    #[arg(long)]
    pub enforce: bool,
    /// Also write the signed policy, as the kernel takes it
    #[arg(long, value_name = "FILE")]
    pub p7b: Option<PathBuf>,
    /// Also write the list of files and their fs-verity digests
    #[arg(long, value_name = "FILE")]
    pub manifest: Option<PathBuf>,
    /// When, as 2026-07-11T00:00:00Z; by default now
    #[arg(long, value_name = "TIME")]
    pub at: Option<String>,
}

#[derive(Debug, Args)]
pub struct BootArguments {
    /// The references file, as JSON; written anew, or made
    pub file: PathBuf,
    /// Which rule
    #[arg(long, value_name = "NAME")]
    pub rule: String,
    /// Ring of machines that it is for; may be given more than once, as may everything below that is listed
    #[arg(long = "ring", value_name = "RING")]
    pub rings: Vec<String>,
    /// An artefact's name, as an import wrote it, whose parts may boot
    #[arg(long, value_name = "ARTEFACT")]
    pub from: Vec<String>,
    /// Whether Secure Boot has to be on; a new rule requires it
    #[arg(long, value_enum)]
    pub secure_boot: Option<SecureBootArgument>,
    /// What may start (PCR 4), by its Authenticode digest: WHAT=SHA256
    #[arg(long = "image", value_name = "DIGEST")]
    pub images: Vec<String>,
    /// Drivers on add-in cards (PCR 2), by the same
    #[arg(long = "driver", value_name = "DIGEST")]
    pub drivers: Vec<String>,
    /// By which certificate, or digest of an image, programs may start (PCR 7)
    #[arg(long = "authority", value_name = "DIGEST")]
    pub authorities: Vec<String>,
    /// What dbx has to hold (PCR 7)
    #[arg(long, value_name = "DIGEST")]
    pub dbx: Vec<String>,
    /// Lowest level of shim's revocations (PCR 7): COMPONENT=LEVEL
    #[arg(long, value_name = "LEVEL")]
    pub sbat: Vec<String>,
    /// Lists of keys that shim may have (PCR 14)
    #[arg(long, value_name = "DIGEST")]
    pub mok: Vec<String>,
    /// A whole command line of the kernel, without the path that GRUB puts before it (PCR 8, 9, 12)
    #[arg(long = "command-line", value_name = "TEXT", allow_hyphen_values = true)]
    pub command_lines: Vec<String>,
    /// A command that GRUB may run (PCR 8); if there is one, all others are refused
    #[arg(long = "grub-command", value_name = "TEXT", allow_hyphen_values = true)]
    pub grub_commands: Vec<String>,
    /// A file that is loaded: kernel, initrd, grub.cfg (PCR 9, 12, 13)
    #[arg(long = "file", value_name = "DIGEST")]
    pub files: Vec<String>,
    /// A PCR that may hold anything
    #[arg(long, value_name = "PCR")]
    pub unjudged: Vec<u8>,
    /// From when it holds, as 2026-07-11T00:00:00Z
    #[arg(long, value_name = "TIME")]
    pub valid_from: Option<String>,
    /// Until when it holds
    #[arg(long, value_name = "TIME")]
    pub valid_until: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum SecureBootArgument {
    Required,
    Any,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = true, id = "change", args = ["valid_from", "valid_until", "add_rings"])]
pub struct ChangeArguments {
    /// The references file, as JSON; written anew
    pub file: PathBuf,
    /// Which generation, where the file has several
    #[arg(long, value_name = "NAME")]
    pub generation: Option<String>,
    /// From when it holds, as 2026-07-11T00:00:00Z
    #[arg(long, value_name = "TIME")]
    pub valid_from: Option<String>,
    /// Until when it holds
    #[arg(long, value_name = "TIME")]
    pub valid_until: Option<String>,
    /// Another ring of machines that it holds for; may be given more than once
    #[arg(long = "add-ring", value_name = "RING")]
    pub add_rings: Vec<String>,
}

#[derive(Debug, Subcommand)]
pub enum ImportCommand {
    /// From Debian packages: signed InRelease, Packages, .deb, files; and the boot of shim, GRUB and kernel
    #[command(
        after_long_help = "Examples:\n  trilith refs import debian --debs ./debs --output estate/references/debian.json\n  trilith refs import debian --lists /srv/mirror/lists --keyring ./archive.gpg --debs ./debs --ring canary --output canary.json\n  trilith refs import debian --debs ./boot --uefi /sys/firmware/efi/efivars --output boot.json"
    )]
    Debian(DebianArguments),
    /// From unified kernel images: PCR 4, 9 and 11, and 7 where the machine's variables are given
    #[command(
        after_long_help = "Examples:\n  trilith refs import uki /efi/EFI/Linux/debian.efi --output estate/references/uki.json\n  trilith refs import uki debian.efi --uefi OVMF_VARS.fd --phase stub --output uki.json"
    )]
    Uki(UkiArguments),
    /// From a kernel that firmware or systemd-boot starts: PCR 4, 9 and 12, and 7 where the variables are given
    #[command(
        after_long_help = "Linux measures its options from 5.17 on, and an initrd that firmware or systemd-boot hands over (LoadFile2),\nnot one that it reads itself by initrd=.\n\nExamples:\n  trilith refs import kernel /boot/vmlinuz-6.1.0-56-amd64 --cmdline \"$(cat /proc/cmdline)\" --initrd /boot/initrd.img-6.1.0-56-amd64 --loader /usr/lib/systemd/boot/efi/systemd-bootx64.efi --output kernel.json\n  trilith refs import kernel vmlinuz --cmdline 'console=ttyS0' --output kernel.json"
    )]
    Kernel(KernelArguments),
    /// From a machine's UEFI variables: PCR 7 when it starts IMAGE
    #[command(
        after_long_help = "Examples:\n  trilith refs import uefi /sys/firmware/efi/efivars --image debian.efi --output uefi.json\n  trilith refs import uefi OVMF_VARS_4M.ms.fd --image shimx64.efi.signed --then grubx64.efi.signed --output uefi.json"
    )]
    Uefi(UefiArguments),
    /// From a container image by digest, on disk (an OCI layout) or of a registry: every file of its layers, and what is attached
    #[command(
        after_long_help = "What is attached counts if a [[signer]] of the estate made it.\n\nExamples:\n  trilith refs import oci ./layout --digest sha256:7f1c2a3e0c9a1d1f4b2d5e6f7a8b9c0d1e2f3a4b5c6d7e8f9a0b1c2d3e4f5a6b --name payments-api --output payments.json\n  trilith refs import oci ./layout --digest sha256:7f1c2a3e0c9a1d1f4b2d5e6f7a8b9c0d1e2f3a4b5c6d7e8f9a0b1c2d3e4f5a6b --name payments-api --output payments.json --attached payments-signed.json\n  trilith refs import oci registry.example/payments-api@sha256:7f1c2a3e0c9a1d1f4b2d5e6f7a8b9c0d1e2f3a4b5c6d7e8f9a0b1c2d3e4f5a6b --output payments.json --attached payments-signed.json"
    )]
    Oci(OciArguments),
    /// From SLSA provenance that a known key signed: the digests of its subjects
    #[command(
        after_long_help = "Example:\n  trilith refs import slsa provenance.intoto.json --key builder.pem --output build.json"
    )]
    Slsa(SlsaArguments),
    /// What somebody said of a program, beside the program's digest: a Sigstore bundle, an envelope, a signature
    #[command(
        after_long_help = "What is said counts if a [[signer]] of the estate said it. The file is written whole, for the estate's\nreferences folder.\n\nExamples:\n  trilith refs import code ./payments-api --bundle payments-api.sigstore.json --output estate/references/payments.json\n  trilith refs import code ./payments-api --envelope provenance.intoto.json --output payments.json\n  trilith refs import code ./payments-api --signature payments-api.sig --output payments.json"
    )]
    Code(CodeArguments),
}

/// What every import is asked.
#[derive(Debug, Args)]
pub struct GenerationArguments {
    /// The references file to write, usually in the estate's references folder; replaced if it exists
    #[arg(long, short, value_name = "FILE")]
    pub output: PathBuf,
    /// Name of the generation; by default the name of the file
    #[arg(long, value_name = "NAME")]
    pub generation: Option<String>,
    /// Ring of machines that it holds for, as `canary`; may be given more than once
    #[arg(long = "ring", value_name = "RING", default_value = "*")]
    pub rings: Vec<String>,
    /// From when it holds, as 2026-07-11T00:00:00Z; by default from now
    #[arg(long, value_name = "TIME")]
    pub valid_from: Option<String>,
    /// Until when; by default until the file says otherwise
    #[arg(long, value_name = "TIME")]
    pub valid_until: Option<String>,
}

#[derive(Debug, Args)]
pub struct DebianArguments {
    #[command(flatten)]
    pub generation: GenerationArguments,
    /// Folder with the packages, as apt-get download leaves them
    #[arg(long, value_name = "DIR")]
    pub debs: PathBuf,
    /// Folder with InRelease and Packages of the archives
    #[arg(long, value_name = "DIR", default_value = "/var/lib/apt/lists")]
    pub lists: PathBuf,
    /// Keys that may sign an archive; may be given more than once
    #[arg(
        long = "keyring",
        value_name = "FILE",
        default_value = "/usr/share/keyrings/debian-archive-keyring.gpg"
    )]
    pub keyrings: Vec<PathBuf>,
    /// Every file, and not only what can run
    #[arg(long)]
    pub all_files: bool,
    /// UEFI variables of the machines, for PCR 7 and 14: a copy of efivars, or an OVMF_VARS file
    #[arg(long, value_name = "PATH")]
    pub uefi: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct UkiArguments {
    #[command(flatten)]
    pub generation: GenerationArguments,
    /// Unified kernel images
    #[arg(required = true, value_name = "IMAGE")]
    pub images: Vec<PathBuf>,
    /// UEFI variables of the machines, for PCR 7: a copy of efivars, or an OVMF_VARS file
    #[arg(long, value_name = "PATH")]
    pub uefi: Option<PathBuf>,
    /// Up to where PCR 11 is measured when the machine quotes; `stub` without systemd's boot phases
    #[arg(long, value_enum, default_value_t = PhaseArgument::Ready)]
    pub phase: PhaseArgument,
    /// The boot loader that starts the images, as systemd-bootx64.efi; by default the firmware
    #[arg(long, value_name = "FILE")]
    pub loader: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct KernelArguments {
    #[command(flatten)]
    pub generation: GenerationArguments,
    /// The kernel, as the boot loader reads it
    pub kernel: PathBuf,
    /// Its command line, as /proc/cmdline has it after such a boot
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub cmdline: String,
    /// An initrd that it is handed; several in their order
    #[arg(long = "initrd", value_name = "FILE")]
    pub initrds: Vec<PathBuf>,
    /// systemd-boot, if it starts the kernel; by default the firmware does
    #[arg(long, value_name = "FILE")]
    pub loader: Option<PathBuf>,
    /// UEFI variables of the machines, for PCR 7: a copy of efivars, or an OVMF_VARS file
    #[arg(long, value_name = "PATH")]
    pub uefi: Option<PathBuf>,
}

/// A stage of systemd's boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum PhaseArgument {
    Stub,
    EnterInitrd,
    LeaveInitrd,
    Sysinit,
    Ready,
}

#[derive(Debug, Args)]
pub struct UefiArguments {
    #[command(flatten)]
    pub generation: GenerationArguments,
    /// A copy of /sys/firmware/efi/efivars, or an OVMF_VARS file
    pub variables: PathBuf,
    /// The image that the firmware starts: a UKI, a kernel or shim
    #[arg(long, value_name = "FILE")]
    pub image: PathBuf,
    /// What shim starts next
    #[arg(long, value_name = "FILE")]
    pub then: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct OciArguments {
    #[command(flatten)]
    pub generation: GenerationArguments,
    /// Folder with `index.json` and `blobs/sha256`, or REGISTRY/NAME@sha256:HEX, which is pulled
    pub image: String,
    /// Digest of the manifest or index of an image in a folder, as your registry or signature names it
    #[arg(long, value_name = "sha256:HEX")]
    pub digest: Option<String>,
    /// The registries that may be asked
    #[arg(
        long,
        value_name = "FILE",
        default_value = "/etc/trilith/registries.toml"
    )]
    pub registries: PathBuf,
    /// Which image of an index
    #[arg(long, default_value = "linux/amd64")]
    pub platform: String,
    /// What to call it; by default the name of the folder, or the last part of its name in the registry
    #[arg(long)]
    pub name: Option<String>,
    /// Write the signatures and attestations that are attached to it to FILE, for the estate's references folder too
    #[arg(long, value_name = "FILE")]
    pub attached: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct SlsaArguments {
    #[command(flatten)]
    pub generation: GenerationArguments,
    /// A DSSE envelope with an in-toto statement
    pub provenance: PathBuf,
    /// Public key of the builder, PEM; may be given more than once
    #[arg(long = "key", value_name = "FILE", required = true)]
    pub keys: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub struct CodeArguments {
    /// The executable that it was said of
    pub program: PathBuf,
    /// The references file to write; replaced if it exists
    #[arg(long, short, value_name = "FILE")]
    pub output: PathBuf,
    /// A Sigstore bundle; may be given more than once
    #[arg(long = "bundle", value_name = "FILE", required_unless_present_any = ["envelopes", "signatures"])]
    pub bundles: Vec<PathBuf>,
    /// A DSSE envelope by a signer's key; may be given more than once
    #[arg(long = "envelope", value_name = "FILE")]
    pub envelopes: Vec<PathBuf>,
    /// A signature over the program's bytes by a signer's key, raw or base64; may be given more than once
    #[arg(long = "signature", value_name = "FILE")]
    pub signatures: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub struct ApprovalsArguments {
    /// A pool of the estate; empty: machines in none
    pub ring: String,
    /// Write them to FILE, for a machine that reaches no server; replaced if it exists
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct FindArguments {
    /// A SHA-256 of 64 hexadecimal digits, or an absolute path
    pub what: String,
    /// Files of references
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Ring of the machine; by default any
    #[arg(long)]
    pub ring: Option<String>,
    /// When; by default now
    #[arg(long, value_name = "TIME")]
    pub at: Option<String>,
}
