//! What confidential machines have to show, as the estate declares it.

use crate::fixture::{compile, problems_with, shop_files};
use estate::{SgxBy, SnpBy, TeeGeneration, TeeKind, TeeTerms};

const PEM: &str = "'''\n-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n'''";

fn good() -> String {
    let (digest, mrtd) = ("3e".repeat(48), "3d".repeat(48));
    format!(
        "[[tee_root]]\nname = \"lab\"\nkind = \"sev-snp\"\ngeneration = \"milan\"\npem = {PEM}\n\
         [[tee]]\npool = \"demo\"\nkind = \"sev-snp\"\nroot = \"lab\"\n\
         [[tee.floor]]\ngeneration = \"milan\"\nsnp = 24\n\
         [[tee.image]]\nname = \"prod\"\nmeasurement = \"{digest}\"\n\
         [[tee]]\npool = \"demo\"\nkind = \"tdx\"\nrequire = false\ntcb_status = [\"UpToDate\"]\n\
         [[tee.image]]\nname = \"td\"\nmrtd = \"{mrtd}\"\n"
    )
}

#[test]
fn a_pool_asks_for_hardware_by_default_and_of_its_vendor() {
    let mut files = shop_files();
    files.insert("references/tee.toml", good());
    let estate = compile(&files);
    let asked: Vec<_> = estate.references().tees_of("demo").collect();
    assert_eq!(asked.len(), 2);
    assert_eq!((asked[0].require, asked[0].root_name()), (true, "lab"));
    assert_eq!((asked[1].require, asked[1].root_name()), (false, "intel"));
    let TeeTerms::SevSnp(terms) = &asked[0].terms else {
        panic!("{asked:?}");
    };
    assert_eq!(terms.floors[&TeeGeneration::Milan], [0, 0, 0, 24, 0]);
    let images = terms.images.as_ref().unwrap();
    assert_eq!(images[0].by, SnpBy::Measurement([0x3e; 48]));
    assert_eq!(estate.references().tees_of("other").count(), 0);
}

#[test]
fn what_would_accept_anything_or_nothing_is_refused() {
    for (from, to, code) in [
        (
            "pool = \"demo\"\nkind = \"tdx\"",
            "pool = \"dmeo\"\nkind = \"tdx\"",
            "ESTATE-POOL",
        ),
        ("kind = \"tdx\"", "kind = \"sev-snp\"", "ESTATE-DUPLICATE"),
        ("name = \"lab\"", "name = \"amd\"", "ESTATE-TEE"),
        ("root = \"lab\"", "root = \"lba\"", "ESTATE-TEE"),
        (
            "require = false",
            "require = false\nroot = \"lab\"",
            "ESTATE-TEE",
        ),
        (
            "root = \"lab\"",
            "root = \"lab\"\nany_image = true",
            "ESTATE-TEE",
        ),
        (
            "[[tee.floor]]\ngeneration = \"milan\"\nsnp = 24\n",
            "",
            "ESTATE-TEE",
        ),
        (
            "root = \"lab\"",
            "root = \"lab\"\ntcb_status = []",
            "ESTATE-TEE",
        ),
        (
            "require = false",
            "require = false\nrevocation = \"if-present\"",
            "ESTATE-TEE",
        ),
        ("generation = \"milan\"\npem", "pem", "ESTATE-TEE"),
        ("measurement", "mrtd", "ESTATE-TEE"),
        ("measurement = \"3e", "measurement = \"3", "ESTATE-DIGEST"),
        (
            "name = \"prod\"",
            "name = \"prod\"\nfamily_id = \"00\"",
            "ESTATE-DIGEST",
        ),
        ("[\"UpToDate\"]", "[\"Revoked\"]", "ESTATE-DECLARATION"),
        (
            "generation = \"milan\"\nsnp",
            "generation = \"rome\"\nsnp",
            "ESTATE-DECLARATION",
        ),
    ] {
        let text = good().replacen(from, to, 1);
        assert_ne!(text, good(), "{from}");
        let said = problems_with("references/tee.toml", &text);
        assert!(said.contains(code), "{from} -> {to}: {said}");
    }
}

fn paravisor() -> String {
    format!(
        "[[tee_root]]\nname = \"lab\"\nkind = \"sev-snp\"\ngeneration = \"milan\"\npem = {PEM}\n\
         [[tee]]\nkind = \"azure-snp\"\nroot = \"lab\"\n\
         [[tee.floor]]\ngeneration = \"milan\"\nsnp = 24\n\
         [[tee.image]]\nname = \"hcl\"\nid_key = \"{}\"\n",
        "3e".repeat(48)
    )
}

#[test]
fn a_paravisor_is_asked_of_machines_in_no_pool_and_has_the_roots_of_its_hardware() {
    let mut files = shop_files();
    files.insert("references/tee.toml", paravisor());
    let estate = compile(&files);
    let asked: Vec<_> = estate.references().tees_of("").collect();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].kind().as_str(), "azure-snp");
    assert_eq!(estate.references().tees_of("demo").count(), 0);
    for (from, to) in [
        ("kind = \"sev-snp\"", "kind = \"azure-snp\""),
        ("root = \"lab\"\n[[tee.floor", "root = \"amd\"\n[[tee.floor"),
    ] {
        let text = paravisor().replacen(from, to, 1);
        assert_ne!(text, paravisor(), "{from}");
        let said = problems_with("references/tee.toml", &text);
        assert!(said.contains("ESTATE-TEE"), "{from} -> {to}: {said}");
    }
}

/// Whoever may ask the hardware in the place of a listed paravisor vouches for any key.
#[test]
fn a_paravisor_that_nobody_listed_vouches_for_nothing() {
    let image = paravisor().find("[[tee.image]]").unwrap();
    let listed = paravisor();
    let any = listed
        .get(..image)
        .unwrap()
        .replacen("root =", "any_image = true\nroot =", 1);
    let said = problems_with("references/tee.toml", &any);
    assert!(said.contains("vouches for keys"), "{said}");
    // The same on TDX.
    let root = format!("[[tee_root]]\nname = \"lab\"\nkind = \"tdx\"\npem = {PEM}\n");
    let tdx = |image: &str| format!("{root}[[tee]]\nkind = \"azure-tdx\"\nroot = \"lab\"\n{image}");
    let said = problems_with("references/tee.toml", &tdx("any_image = true\n"));
    assert!(said.contains("vouches for keys"), "{said}");
    let listed = format!(
        "[[tee.image]]\nname = \"hcl\"\nmrtd = \"{}\"\n",
        "3e".repeat(48)
    );
    let mut files = shop_files();
    files.insert("references/tee.toml", tdx(&listed));
    let estate = compile(&files);
    let kinds: Vec<&str> = (estate.references().tees_of(""))
        .map(|one| one.kind().as_str())
        .collect();
    assert_eq!(kinds, ["azure-tdx"]);
    for (vmpl, refused) in [(0, false), (1, true), (3, true)] {
        let asked = format!("{}[tee.policy]\nvmpl = {vmpl}\n", paravisor());
        if refused {
            let said = problems_with("references/tee.toml", &asked);
            assert!(said.contains("ESTATE-TEE"), "{vmpl}: {said}");
        } else {
            let mut files = shop_files();
            files.insert("references/tee.toml", asked);
            compile(&files);
        }
    }
}

#[test]
fn a_nitro_tpm_is_recognised_by_its_registers() {
    let good = format!(
        "[[tee]]\npool = \"demo\"\nkind = \"nitro-tpm\"\n[[tee.image]]\nname = \"os\"\n\
         [tee.image.pcrs]\n4 = \"{}\"\n",
        "05".repeat(48)
    );
    let mut files = shop_files();
    files.insert("references/tee.toml", good.clone());
    let estate = compile(&files);
    let asked = estate.references().tees_of("demo").next().unwrap();
    assert_eq!(asked.root_name(), "aws");
    let TeeTerms::NitroTpm(terms) = &asked.terms else {
        panic!("{asked:?}");
    };
    assert_eq!(terms.images.as_ref().unwrap()[0].pcrs[&4], [5; 48]);
    for (from, to, code) in [
        ("4 =", "24 =", "ESTATE-TEE"),
        ("4 =", "four =", "ESTATE-TEE"),
        ("\"05", "\"5", "ESTATE-DIGEST"),
        ("[tee.image.pcrs]\n4", "measurement", "ESTATE-TEE"),
        (
            "kind = \"nitro-tpm\"",
            "kind = \"nitro-tpm\"\nrevocation = \"required\"",
            "ESTATE-TEE",
        ),
        ("kind = \"nitro-tpm\"", "kind = \"tdx\"", "ESTATE-TEE"),
    ] {
        let text = good.replacen(from, to, 1);
        assert_ne!(text, good, "{from}");
        let said = problems_with("references/tee.toml", &text);
        assert!(said.contains(code), "{from} -> {to}: {said}");
    }
}

fn enclaves() -> String {
    format!(
        "[[tee]]\npool = \"demo\"\nkind = \"nitro\"\n[[tee.image]]\nname = \"signer\"\n\
         [tee.image.pcrs]\n0 = \"{image}\"\n3 = \"{image}\"\n\
         [[tee]]\npool = \"demo\"\nkind = \"sgx\"\nminimum_evaluation = 18\n\
         [[tee.image]]\nname = \"vault\"\nmrsigner = \"{signer}\"\nproduct = 7\nminimum_svn = 9\n\
         [[tee.image]]\nname = \"canary\"\nmrenclave = \"{signer}\"\n",
        image = "05".repeat(48),
        signer = "51".repeat(32),
    )
}

#[test]
fn enclaves_are_placed_by_what_runs_in_them() {
    let mut files = shop_files();
    files.insert("references/tee.toml", enclaves());
    let estate = compile(&files);
    let references = estate.references();
    let nitro: Vec<_> = references.enclaves(TeeKind::Nitro).collect();
    assert_eq!((nitro.len(), nitro[0].root_name()), (1, "aws"));
    let sgx: Vec<_> = references.enclaves(TeeKind::Sgx).collect();
    assert_eq!((sgx.len(), sgx[0].root_name()), (1, "intel"));
    let TeeTerms::Sgx(terms) = &sgx[0].terms else {
        panic!("{sgx:?}");
    };
    let signer = SgxBy::Signer {
        signer: [0x51; 32],
        product: 7,
    };
    assert_eq!(
        (terms.images[0].by, terms.images[0].minimum_svn),
        (signer, 9)
    );
    assert_eq!(terms.images[1].by, SgxBy::Measurement([0x51; 32]));
    assert_eq!(terms.minimum_evaluation, 18);
    assert_eq!(references.enclaves(TeeKind::NitroTpm).count(), 0);
}

#[test]
fn an_enclave_that_nobody_listed_stands_in_no_pool() {
    let nowhere = "an enclave is known by what runs in it";
    for (from, to, said) in [
        (
            "pool = \"demo\"\nkind = \"nitro\"",
            "kind = \"nitro\"",
            "name the `pool`",
        ),
        (
            "pool = \"demo\"\nkind = \"sgx\"",
            "kind = \"sgx\"",
            "name the `pool`",
        ),
        ("0 = \"05", "2 = \"05", nowhere),
        ("0 = \"05", "0 = \"5", "expected 96 hexadecimal digits"),
        (
            &format!("0 = \"{}", "05".repeat(48)),
            &format!("0 = \"{}", "00".repeat(48)),
            "debug mode",
        ),
        (
            "kind = \"nitro\"",
            "kind = \"nitro\"\ntcb_status = []",
            "neither a TCB",
        ),
        (
            "kind = \"sgx\"",
            "kind = \"sgx\"\nrevocation = \"required\"",
            "of SEV-SNP",
        ),
        ("product = 7\n", "", "an image of SGX"),
        (
            "mrenclave = \"51",
            "mrenclave = \"1",
            "expected 64 hexadecimal digits",
        ),
        ("mrsigner", "mrenclave", "an image of SGX"),
        ("minimum_svn = 9", "minimum_svn = 65536", "an image of SGX"),
        ("minimum_svn = 9", "id_key = \"00\"", "an image of SGX"),
        ("kind = \"sgx\"", "kind = \"tdx\"", "an image of TDX"),
        (
            "kind = \"sgx\"",
            "kind = \"nitro-tpm\"",
            "an image of Nitro",
        ),
    ] {
        let text = enclaves().replacen(from, to, 1);
        assert_ne!(text, enclaves(), "{from}");
        let problems = problems_with("references/tee.toml", &text);
        assert!(problems.contains(said), "{from} -> {to}: {problems}");
    }
    // Whatever runs is not left to policy.
    for kind in ["nitro", "sgx"] {
        let any = format!("[[tee]]\npool = \"demo\"\nkind = \"{kind}\"\nany_image = true\n");
        let problems = problems_with("references/tee.toml", &any);
        assert!(problems.contains(nowhere), "{kind}: {problems}");
    }
}
