//! A refused apply reaches its user whole: this client against a real server.

use super::*;
use std::fmt::Write as _;

const DOMAIN: &str = "example.org";

fn config(dir: &Path) -> server::Config {
    let path = dir.join("server.toml");
    let dir = dir.display();
    let text = format!(
        "trust_domain = \"{DOMAIN}\"\ndata_dir = \"{dir}/data\"\n\
         listen = \"127.0.0.1:0\"\nhttp_listen = \"127.0.0.1:0\"\n\
         [custody.ca]\nkind = \"file\"\ndir = \"{dir}/keys/ca\"\n\
         [custody.ledger]\nkind = \"file\"\ndir = \"{dir}/keys/ledger\"\n"
    );
    std::fs::write(&path, text).unwrap();
    server::Config::load(&path).unwrap()
}

/// A thousand gateways that may do what no gateway may.
fn broken() -> EstateFiles {
    let uid = rustix::process::getuid().as_raw();
    let mut identities = String::from("[[group]]\nname = \"operators\"\n");
    for number in 0..1_000 {
        write!(
            identities,
            "[[identity]]\npath = \"gateway/number-{number}\"\nkind = \"gateway\"\nowner = \"data\"\n"
        )
        .unwrap();
    }
    let mut files = EstateFiles::new();
    files.insert(
        "estate.toml",
        format!(
            "trust_domain = \"{DOMAIN}\"\n\
             [[administrator]]\nuid = {uid}\ngroups = [\"operators\"]\n"
        ),
    );
    files.insert("identities/all.toml", identities);
    files.insert(
        "resources/shop.toml",
        "[[database]]\nname = \"shop\"\nowner = \"data\"\n",
    );
    files.insert(
        "policies/all.cedar",
        "@id(\"operators administer\")\n\
         permit (principal is Admin in Group::\"operators\", action, resource);\n\
         @id(\"everybody writes\") permit (principal is Identity, action == Action::\"insert\", \
         resource in Database::\"shop\");\n",
    );
    files.insert(
        "invariants/all.cedar",
        "@id(\"a gateway never writes\")\n\
         never (principal is Identity, action == Action::\"insert\", resource)\n\
         when { principal.kind == \"gateway\" };\n",
    );
    files
}

/// Once the whole plan stood in a header, of which a client takes 16 KiB: it then saw nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_apply_of_real_size_reaches_its_user() {
    let dir = tempfile::tempdir().unwrap();
    let server = server::start(config(dir.path())).await.unwrap();
    let socket = dir.path().join("data/admin.sock");
    let folder = dir.path().join("estate");
    write(&broken(), &folder).unwrap();

    let change = Change {
        message: "let everybody write".to_owned(),
        ..Change::default()
    };
    let document = applied(&folder, change, (&socket).into()).await.unwrap();
    assert!(document.to_string().len() > 64 * 1024);
    let failure = refusal(&document).expect("it is refused");
    assert_eq!(
        format!("{:?}", failure.exit_code()),
        format!("{:?}", ExitCode::from(crate::EXIT_VERIFICATION))
    );
    assert_eq!(failure.findings()[0].code, "ESTATE-UNPROVED");
    let reasons = document["reasons"].as_array().unwrap();
    let told: Vec<&str> = reasons.iter().filter_map(Value::as_str).collect();
    assert_eq!(told.len(), 1);
    assert!(told[0].contains("a gateway never writes"), "{}", told[0]);
    assert!(
        told[0].contains("Identity::\"gateway/number-"),
        "{}",
        told[0]
    );
    assert!(
        !told[0].contains('{') && told[0].len() < 2_000,
        "{}",
        told[0]
    );

    // A client that does not ask for the document has the same in short.
    let mut admin = admin::connect(&socket).await.unwrap();
    let mut short = request(&broken(), Change::default());
    short.document = false;
    let status = admin.estate_apply(short).await.unwrap_err();
    let failure = admin::refusal(&status);
    assert_eq!(failure.findings()[0].code, "ESTATE-UNPROVED", "{status:?}");
    server.stop().await.unwrap();
}

/// Every file of it was a problem of its own.
#[test]
fn what_is_no_estate_is_said_to_be_none() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("notes.txt");
    std::fs::write(&file, "notes").unwrap();
    for path in [folder.path(), &file] {
        let refused = read(path).unwrap_err();
        let finding = &refused.findings()[0];
        assert_eq!(finding.code, "ESTATE-FOLDER");
        assert!(finding.next.is_some());
    }
    let refused = read(&folder.path().join("absent")).unwrap_err();
    assert_eq!(refused.findings()[0].code, "CLI-FILE");
    std::fs::write(folder.path().join("estate.toml"), "").unwrap();
    assert_eq!(read(folder.path()).unwrap().0.len(), 2);
}

mod held;
