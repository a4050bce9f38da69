//! What follows when a machine, some code or a key is taken.

use crate::fixture::{compile, shop, shop_files};
use estate::{Blast, Estate, Taken};
use expect_test::expect;

fn reach(estate: &Estate, taken: Taken) -> String {
    let blast: Blast = estate.blast_radius(taken).unwrap();
    assert!(blast.errors.is_empty(), "{:?}", blast.errors);
    let become_it = blast.identities.iter().filter(|one| one.through.is_empty());
    let lines = become_it.map(|reach| {
        let texts = |list: &[estate::Residual]| -> Vec<String> {
            list.iter().map(|one| one.condition.clone()).collect()
        };
        let when = texts(&reach.when);
        match texts(&reach.asserting) {
            asserting if asserting.is_empty() => format!("{} {when:?}\n", reach.identity),
            asserting => format!("{} {when:?} asserting {asserting:?}\n", reach.identity),
        }
    });
    lines.collect()
}

fn machine(name: &str, pool: Option<&str>) -> Taken {
    Taken::Machine {
        name: name.to_owned(),
        pool: pool.map(str::to_owned),
    }
}

#[test]
fn root_on_a_machine_is_whatever_its_agent_may_say() {
    expect![[r#"
        agents/helper [] asserting ["principal has uid && principal.uid == 0 && principal has code && principal.code.known_as.contains(\"agents-helper\")"]
        gateway/pg [] asserting ["principal has uid && principal.uid == 0 && principal has path && principal.path like \"*/trilith\" && !(principal has helper)"]
        ops/psql [] asserting ["principal has uid && principal.uid == 0 && principal has code && principal.code.known_as.contains(\"psql\")"]
        payments/api [] asserting ["principal has uid && principal.uid == 0 && principal has code && principal.code.known_as.contains(\"payments-api\")"]
        reporting/nightly [] asserting ["principal has uid && principal.uid == 0 && principal has code && principal.code.known_as.contains(\"reporting-nightly\")"]
    "#]].assert_eq(&reach(&shop(), machine("m1", Some("demo"))));
    // Of one that no file declares, it depends on the pool.
    let somewhere = reach(&shop(), machine("m1", None));
    assert_eq!(
        somewhere.matches("principal in Pool::").count(),
        5,
        "{somewhere}"
    );
    // In no pool that a policy names, nothing can be become.
    let mut files = shop_files();
    files.insert("references/more.toml", "[[machine]]\nname = \"m1\"\n");
    assert_eq!(reach(&compile(&files), machine("m1", None)), "");
}

/// Instances have their names of facts, which a thief writes; and nobody is a person.
#[test]
fn templates_are_reached_and_people_are_not() {
    let mut files = shop_files();
    files.insert(
        "identities/more.toml",
        "[[identity]]\npath = \"jobs/{workload.unit}\"\nkind = \"job\"\nowner = \"us\"\n\
         [[identity]]\npath = \"people/ada\"\nkind = \"person\"\nowner = \"us\"\n\
         login = { issuer = \"https://login.example.org\", subject = \"ada\" }\n",
    );
    files.insert(
        "policies/more.cedar",
        "@id(\"jobs\") permit (principal in Pool::\"demo\", action == Action::\"assume\", resource) \
         when { resource.kind == \"job\" || resource.kind == \"person\" };\n\
         @id(\"measured\") permit (principal in Pool::\"demo\", action == Action::\"assume\", resource == Identity::\"jobs/{workload.unit}\") \
         when { principal.machine has boot && principal.machine.boot has secure_boot && principal.machine.boot.secure_boot && principal has uid && principal.uid == 7 };\n",
    );
    let estate = compile(&files);
    let blast = estate.blast_radius(machine("m1", Some("demo"))).unwrap();
    assert!(blast.errors.is_empty(), "{:?}", blast.errors);
    let reached = |path: &str| {
        let mut found = blast.identities.iter().filter(|one| one.identity == path);
        found.find(|one| one.through.is_empty())
    };
    assert!(reached("people/ada").is_none());
    let jobs = reached("jobs/{workload.unit}").unwrap();
    let texts = |list: &[estate::Residual]| -> Vec<String> {
        list.iter().map(|one| one.condition.clone()).collect()
    };
    // What hardware shows has to hold; the user is what the thief's agent says it is.
    assert_eq!(
        (texts(&jobs.when), texts(&jobs.asserting)),
        (
            vec!["principal.machine has boot && principal.machine.boot has secure_boot && principal.machine.boot.secure_boot".to_owned()],
            vec!["principal has uid && principal.uid == 7".to_owned()],
        )
    );
}

#[test]
fn taken_code_is_what_goes_by_its_digest() {
    let digest = |digit: char| Taken::Code(digit.to_string().repeat(64));
    expect![[r#"
        payments/api ["principal in Pool::\"demo\" && principal has uid && principal.uid == 0"]
    "#]]
    .assert_eq(&reach(&shop(), digest('1')));
    assert_eq!(reach(&shop(), digest('f')), "");
}

#[test]
fn a_taken_signer_is_who_policies_believe_and_no_listed_digest() {
    let mut files = shop_files();
    files.insert(
        "references/signers.toml",
        r#"
[[signer]]
name = "release"
key = '''
-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEaxfR8uEsQkf4vOblY6RA8ncDfYEt
6zOg9KE5RdiYwpZP40Li/hp/m47n60p8D54WK84zV2sxXs7LtkBoN79R9Q==
-----END PUBLIC KEY-----
'''

[[provenance]]
name = "built by ci"
signers = ["release"]
builder = "https://ci.example"
source = "github.com/acme/shop"
"#,
    );
    files.insert(
        "policies/signed.cedar",
        r#"
@id("what ci built")
permit (principal in Pool::"demo", action == Action::"assume", resource == Identity::"reporting/nightly")
when { principal has uid && principal.uid == 0 && principal has code && principal.code has approved_by &&
       principal.code.approved_by == "built by ci" };

@id("what somebody else signed")
permit (principal in Pool::"demo", action == Action::"assume", resource == Identity::"agents/helper")
when { principal has uid && principal.uid == 0 && principal has code && principal.code has approved_by &&
       principal.code.approved_by == "somebody else" };
"#,
    );
    let estate = compile(&files);
    expect![[r#"
        reporting/nightly ["principal in Pool::\"demo\" && principal has uid && principal.uid == 0"]
    "#]]
    .assert_eq(&reach(&estate, Taken::Signer("release".to_owned())));
    let error = estate
        .blast_radius(Taken::Signer("releas".to_owned()))
        .unwrap_err();
    assert_eq!(
        error,
        "no signer `releas` is declared (did you mean `release`?)"
    );
}

#[test]
fn data_follows_from_identities() {
    let estate = shop();
    let blast = estate
        .blast_radius(Taken::Identity("agents/helper".to_owned()))
        .unwrap();
    assert_eq!(blast.accesses, estate.what_can("agents/helper").accesses);
    let gateway = estate
        .blast_radius(Taken::Gateway("gateway/pg".to_owned()))
        .unwrap();
    let all: usize = estate
        .identities()
        .map(|identity| estate.what_can(&identity.path).accesses.len())
        .sum();
    assert_eq!(gateway.accesses.len(), all);
    assert!(all > blast.accesses.len());
    for wrong in [
        Taken::Gateway("payments/api".to_owned()),
        Taken::Identity("payments".to_owned()),
        Taken::Code("xyz".to_owned()),
        machine("m1", Some("demos")),
    ] {
        assert!(estate.blast_radius(wrong.clone()).is_err(), "{wrong:?}");
    }
}

/// Nothing that a workload on the machine can really become is missing.
#[test]
fn the_answer_is_never_too_small() {
    let estate = shop();
    let blast = estate.blast_radius(machine("m1", Some("demo"))).unwrap();
    let reached: Vec<&str> = blast
        .identities
        .iter()
        .map(|reach| reach.identity.as_str())
        .collect();
    let mut tried = 0;
    for digit in "0123456789abcdef".chars() {
        let facts = crate::fixture::workload(digit);
        for (identity, _) in estate.assumable(&facts) {
            tried += 1;
            assert!(
                reached.contains(&identity.path.as_str()),
                "{}",
                identity.path
            );
        }
    }
    assert!(tried > 0);
}
