//! The demo's estate: the shop of `examples/estate-shop`, with this machine's reference values.

use estate::EstateFiles;

const FILES: &[(&str, &str)] = &[
    (
        "estate.toml",
        include_str!("../../../../examples/estate-shop/estate.toml"),
    ),
    (
        "identities/shop.toml",
        include_str!("../../../../examples/estate-shop/identities/shop.toml"),
    ),
    (
        "resources/shop.toml",
        include_str!("../../../../examples/estate-shop/resources/shop.toml"),
    ),
    (
        "policies/administrators.cedar",
        include_str!("../../../../examples/estate-shop/policies/administrators.cedar"),
    ),
    (
        "policies/assume.cedar",
        include_str!("../../../../examples/estate-shop/policies/assume.cedar"),
    ),
    (
        "policies/shop.cedar",
        include_str!("../../../../examples/estate-shop/policies/shop.cedar"),
    ),
    (
        "invariants/shop.cedar",
        include_str!("../../../../examples/estate-shop/invariants/shop.cedar"),
    ),
    (
        "tests/shop.toml",
        include_str!("../../../../examples/estate-shop/tests/shop.toml"),
    ),
];

/// What is known of this machine and of the demo's programs.
pub(crate) struct References {
    pub(crate) uid: u32,
    pub(crate) ek_sha256: String,
    /// PEM of the emulated TPM's root; none for a real chip, whose key is pinned by digest alone.
    pub(crate) emulated_root: Option<String>,
    /// Name and SHA-256 of each program.
    pub(crate) code: Vec<(&'static str, String)>,
}

/// The whole folder.
pub(crate) fn files(references: &References) -> EstateFiles {
    let mut files = EstateFiles::new();
    let uid = references.uid;
    for (path, text) in FILES {
        let text = text
            .replace("principal.uid == 0", &format!("principal.uid == {uid}"))
            .replace("uid = 0", &format!("uid = {uid}"))
            .replace("\"uid:0\"", &format!("\"uid:{uid}\""))
            .replace("\"workload.uid\" = 0", &format!("\"workload.uid\" = {uid}"));
        files.insert(*path, text);
    }
    let mut machines = format!(
        "[[pool]]\nname = \"demo\"\n\n[[machine]]\nname = \"m1\"\npool = \"demo\"\nek_sha256 = [\"{}\"]\n",
        references.ek_sha256
    );
    if let Some(pem) = &references.emulated_root {
        machines.push_str(&format!(
            "\n# A software TPM: trusted as a reference value of this estate, and said to be emulated.\n\
             [[tpm_root]]\nname = \"demo-swtpm\"\nemulated = true\npem = \"\"\"\n{pem}\"\"\"\n"
        ));
    }
    files.insert("references/machines.toml", machines);
    let mut code = String::new();
    for (name, digest) in &references.code {
        code.push_str(&format!(
            "[[code]]\nname = \"{name}\"\nsha256 = [\"{digest}\"]\n\n"
        ));
    }
    files.insert("references/code.toml", code);
    files
}
