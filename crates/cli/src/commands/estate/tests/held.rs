//! Two authors weaken an invariant by the command line, and the folder of the ledger says when it held.

use super::super::{approve, held, write};
use super::{DOMAIN, config};
use crate::arguments::{Global, HeldArguments};
use crate::commands::author;
use ::estate::EstateFiles;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const INVARIANT: &str = "a gateway never writes";

struct Site {
    dir: tempfile::TempDir,
    authors: String,
}

impl Site {
    fn keys(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("data/admin.sock")
    }

    fn global(&self) -> Global {
        Global {
            admin_socket: self.socket(),
            admin_server: None,
            session: None,
            ..global()
        }
    }

    fn files(&self, invariant: bool) -> EstateFiles {
        let uid = rustix::process::getuid().as_raw();
        let mut files = EstateFiles::new();
        let head = format!(
            "trust_domain = \"{DOMAIN}\"\n[[administrator]]\nuid = {uid}\ngroups = [\"operators\"]\n"
        );
        files.insert("estate.toml", format!("{head}{}", self.authors));
        files.insert("identities/all.toml", "[[group]]\nname = \"operators\"\n");
        files.insert(
            "resources/shop.toml",
            "[[database]]\nname = \"shop\"\nowner = \"data\"\n",
        );
        files.insert(
            "policies/all.cedar",
            "@id(\"operators administer\")\n\
             permit (principal is Admin in Group::\"operators\", action, resource);\n",
        );
        if invariant {
            files.insert(
                "invariants/all.cedar",
                format!(
                    "@id(\"{INVARIANT}\")\n\
                     never (principal is Identity, action == Action::\"insert\", resource)\n\
                     when {{ principal.kind == \"gateway\" }};\n"
                ),
            );
        }
        files
    }

    fn folder(&self, name: &str, invariant: bool) -> PathBuf {
        let folder = self.dir.path().join(name);
        write(&self.files(invariant), &folder).unwrap();
        folder
    }

    async fn apply(
        &self,
        folder: &Path,
        by: Option<&str>,
        approvals: &[PathBuf],
    ) -> serde_json::Value {
        let change = super::Change {
            approvals: approve::read(approvals).unwrap(),
            signer: by
                .map(|name| approve::Signer::open(name.to_owned(), &self.keys(name)).unwrap()),
            ..super::Change::default()
        };
        super::applied(folder, change, (&self.socket()).into())
            .await
            .unwrap()
    }

    fn held(&self, verify: bool) -> Result<ExitCode, crate::Failure> {
        self.held_from(0, verify)
    }

    fn held_from(&self, from: u64, verify: bool) -> Result<ExitCode, crate::Failure> {
        let arguments = HeldArguments {
            invariant: INVARIANT.to_owned(),
            data: self.dir.path().join("data"),
            trust: self.dir.path().join("trust.json"),
            from,
            to: None,
            verify,
            timeout: 60,
        };
        held::run(&arguments, &self.global())
    }
}

fn global() -> Global {
    use clap::Parser as _;
    crate::arguments::Arguments::try_parse_from(["trilith", "--json", "status"])
        .unwrap()
        .global
}

fn pem(keys: &Path) -> String {
    let key = author::key(keys).unwrap();
    let spki = crypto::base64::encode(key.public_key().spki_der());
    format!("\"\"\"\n-----BEGIN PUBLIC KEY-----\n{spki}\n-----END PUBLIC KEY-----\n\"\"\"")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invariant_held_until_two_authors_removed_it_and_anyone_can_prove_it_again() {
    if testkit::tool("cvc5").is_none() {
        testkit::skip("cli.held", "cvc5 is not installed");
        return;
    }
    let mut site = Site {
        dir: tempfile::tempdir().unwrap(),
        authors: String::new(),
    };
    for name in ["ada", "bob"] {
        let keys = site.keys(name);
        assert_eq!(
            author::key(&keys).err().unwrap().findings()[0].code,
            "AUTHOR-KEY"
        );
        let create = crate::arguments::AuthorKeyCommand::Create {
            name: name.to_owned(),
            keys: keys.clone(),
        };
        author::run(crate::arguments::AuthorCommand::Key(create), &global()).unwrap();
        site.authors += &format!("[[author]]\nname = \"{name}\"\nkey = {}\n", pem(&keys));
    }
    let server = server::start(config(site.dir.path())).await.unwrap();
    let with = site.folder("with", true);
    let without = site.folder("without", false);
    assert_eq!(site.apply(&with, None, &[]).await["applicable"], true);
    let alone = site.apply(&without, Some("ada"), &[]).await;
    assert_eq!(alone["finding"]["code"], "ESTATE-APPROVAL-ALONE", "{alone}");
    let file = site.dir.path().join("bob.json");
    let bob = approve::Signer::open("bob".to_owned(), &site.keys("bob")).unwrap();
    approve::approve(&without, &bob, (1, &file), &site.global())
        .await
        .unwrap();
    let applied = site.apply(&without, Some("ada"), &[file]).await;
    assert_eq!(applied["applicable"], true, "{applied}");
    let status = crate::admin::connect(&site.socket())
        .await
        .unwrap()
        .status(proto::v1::StatusRequest::default())
        .await
        .unwrap();
    let status = crate::admin::document(status).unwrap();
    let trust = serde_json::json!({
        "trust_domain": DOMAIN,
        "ledger_key": status["ledger"]["key"],
        "x509_authorities": status["x509_authorities"],
    });
    std::fs::write(site.dir.path().join("trust.json"), trust.to_string()).unwrap();
    let used = site.held(false).unwrap_err();
    assert_eq!(used.findings()[0].code, "HELD-LEDGER", "the server runs");
    server.stop().await.unwrap();

    // It does not hold any more; until then it did, and is proved again.
    for verify in [false, true] {
        let code = site.held(verify).unwrap();
        let expected = ExitCode::from(crate::EXIT_VERIFICATION);
        assert_eq!(format!("{code:?}"), format!("{expected:?}"));
    }
    let trust_of_others = {
        use crypto::Signer as _;
        let other = crypto::KeyPair::generate(crypto::Algorithm::Ed25519).unwrap();
        let origin = format!("{DOMAIN}/server");
        ledger::LedgerKey::new(&origin, other.public_key().clone()).unwrap()
    };
    let refused = server::Past::open(&site.dir.path().join("data"), &trust_of_others);
    assert_eq!(refused.err().unwrap().code, "HELD-LEDGER");
    // A blob that is gone takes the answer with it.
    std::fs::remove_dir_all(site.dir.path().join("data/blobs")).unwrap();
    assert_eq!(site.held(true).unwrap_err().findings()[0].code, "HELD-BLOB");
    site.held(false).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erased_version_is_named_and_later_ones_are_proved_again() {
    if testkit::tool("cvc5").is_none() {
        testkit::skip("cli.held", "cvc5 is not installed");
        return;
    }
    let site = Site {
        dir: tempfile::tempdir().unwrap(),
        authors: String::new(),
    };
    let server = server::start(config(site.dir.path())).await.unwrap();
    let first = site.folder("first", true);
    let policies = first.join("policies/all.cedar");
    let text = std::fs::read_to_string(&policies).unwrap();
    std::fs::write(&policies, format!("// A first try.\n{text}")).unwrap();
    let erased = site.apply(&first, None, &[]).await["index"].as_u64();
    let later = site.folder("later", true);
    let later = site.apply(&later, None, &[]).await["index"].as_u64();
    let (erased, later) = (erased.unwrap(), later.unwrap());
    let mut admin = crate::admin::connect(&site.socket()).await.unwrap();
    let request = proto::v1::EraseRequest {
        records: vec![erased],
        reason: "case 7".to_owned(),
        act: true,
        ..proto::v1::EraseRequest::default()
    };
    admin.erase(request).await.unwrap();
    let status = admin.status(proto::v1::StatusRequest::default()).await;
    let status = crate::admin::document(status.unwrap()).unwrap();
    let trust = serde_json::json!({
        "trust_domain": DOMAIN,
        "ledger_key": status["ledger"]["key"],
        "x509_authorities": status["x509_authorities"],
    });
    std::fs::write(site.dir.path().join("trust.json"), trust.to_string()).unwrap();
    drop(admin);
    server.stop().await.unwrap();

    let code = |code: ExitCode| format!("{code:?}");
    let incomplete = ExitCode::from(crate::EXIT_VERIFICATION);
    assert_eq!(code(site.held(false).unwrap()), code(ExitCode::SUCCESS));
    assert_eq!(code(site.held(true).unwrap()), code(incomplete));
    // What was in force before is nothing that was asked for.
    for from in [later, later + 1] {
        let held = site.held_from(from, true).unwrap();
        assert_eq!(code(held), code(ExitCode::SUCCESS), "{from}");
    }
    // Still, up to the record before.
    let held = site.held_from(later - 1, true).unwrap();
    assert_eq!(code(held), code(incomplete));
}
