//! Invariants across `assume` and use: who can become whoever can do that.

use crate::fixture::{compile, cvc5};
use estate::{EstateFiles, Today};
use estate_prove::{InvariantReport, Result, prove_blocking};

const ONLY: &str = r#"
@id("only what CI built, on a machine that booted clean, writes cards")
never (
  principal is Identity,
  action in [Action::"insert", Action::"update", Action::"delete", Action::"truncate"],
  resource == Table::"shop/public/cards"
)
except {
  principal has code && principal.code has source &&
  principal.code.source == "github.com/acme/payments" &&
  principal.machine has boot && principal.machine.boot has secure_boot &&
  principal.machine.boot.secure_boot
};
"#;

const WRITES: &str = r#"
@id("payments writes cards")
permit (principal == Identity::"payments/api", action == Action::"insert", resource == Table::"shop/public/cards");
@id("reporting reads cards")
permit (principal == Identity::"reporting/nightly", action == Action::"select", resource == Table::"shop/public/cards");
"#;

/// Who becomes payments/api: what CI built, on a machine that booted clean.
const BUILT: &str = r#"
@id("payments is what CI built, on a clean machine")
permit (principal in Pool::"demo", action == Action::"assume", resource == Identity::"payments/api")
when {
  principal has uid && principal.uid == 1000 &&
  principal has code && principal.code has source &&
  principal.code.source == "github.com/acme/payments" &&
  principal.machine has boot && principal.machine.boot has secure_boot &&
  principal.machine.boot.secure_boot
};
@id("reporting is whoever it is")
permit (principal in Pool::"demo", action == Action::"assume", resource == Identity::"reporting/nightly")
when { principal has uid && principal.uid == 1001 };
"#;

fn files(assume: &str, uses: &str) -> EstateFiles {
    let mut files = EstateFiles::new();
    for (path, text) in [
        (
            "estate.toml",
            "trust_domain = \"example.org\"\n[[administrator]]\nuid = 0\n",
        ),
        (
            "identities/shop.toml",
            "[[group]]\nname = \"writers\"\n\
             [[identity]]\npath = \"payments/api\"\nkind = \"service\"\nowner = \"payments\"\n\
             [[identity]]\npath = \"reporting/nightly\"\nkind = \"job\"\nowner = \"data\"\n",
        ),
        (
            "resources/shop.toml",
            "[[database]]\nname = \"shop\"\nowner = \"data\"\n[[database.schema]]\nname = \"public\"\n\
             [[database.schema.table]]\nname = \"cards\"\nclassification = \"pii\"\n",
        ),
        ("references/pools.toml", "[[pool]]\nname = \"demo\"\n"),
        ("policies/assume.cedar", assume),
        ("policies/shop.cedar", uses),
        ("invariants/cards.cedar", ONLY),
    ] {
        files.insert(path, text);
    }
    files
}

fn prove(test: &str, files: &EstateFiles) -> Option<InvariantReport> {
    let options = cvc5(test)?;
    let mut report = prove_blocking(&compile(files), &options);
    Some(report.invariants.remove(0))
}

#[test]
fn only_code_of_one_repository_on_a_clean_machine_ever_writes() {
    let Some(one) = prove("only_code_of_one_repository", &files(BUILT, WRITES)) else {
        return;
    };
    assert!(matches!(one.result, Result::Proved), "{}", one.result);
    assert!(
        matches!(one.today, Today::Holds { requests: 1 }),
        "{:?}",
        one.today
    );
    assert!(one.is_accepted());
}

/// Then who becomes whom is nobody's business: here anybody becomes who could write.
#[test]
fn where_a_forbid_keeps_everybody_off_nobody_is_asked_about_one_by_one() {
    let uses = format!(
        "{WRITES}@id(\"frozen\") forbid (principal, action, resource == Table::\"shop/public/cards\") \
         unless {{ action == Action::\"select\" }};\n"
    );
    let anybody = "permit (principal in Pool::\"demo\", action == Action::\"assume\", resource);\n";
    let Some(one) = prove("where_a_forbid_keeps_everybody_off", &files(anybody, &uses)) else {
        return;
    };
    assert!(matches!(one.result, Result::Proved), "{}", one.result);
    assert!(matches!(one.today, Today::Holds { .. }), "{:?}", one.today);
    // Without the forbid the same is broken.
    let Some(two) = prove(
        "where_a_forbid_keeps_everybody_off",
        &files(anybody, WRITES),
    ) else {
        return;
    };
    assert!(
        matches!(two.result, Result::Broken { .. }),
        "{}",
        two.result
    );
}

/// The boot is not asked for: the answer is who, by which line, with which facts.
#[test]
fn an_assume_policy_that_asks_for_less_is_named_with_facts_that_pass_it() {
    let lax = BUILT.replace(
        " &&\n  principal.machine has boot && principal.machine.boot has secure_boot &&\n  principal.machine.boot.secure_boot",
        "",
    );
    assert_ne!(lax, BUILT);
    let Some(one) = prove("an_assume_policy_that_asks_for_less", &files(&lax, WRITES)) else {
        return;
    };
    let Result::Broken { counterexample } = &one.result else {
        panic!("{}", one.result);
    };
    assert_eq!(counterexample.action, "assume");
    assert_eq!(counterexample.resource.id.as_deref(), Some("payments/api"));
    assert_eq!(counterexample.because.len(), 1);
    assert_eq!(counterexample.because[0].file, "policies/assume.cedar");
    assert_eq!(counterexample.because[0].line, 2);
    let facts = &counterexample.principal.facts;
    assert_eq!(facts["uid"], "1000", "{facts:?}");
    assert_eq!(facts["code.source"], "\"github.com/acme/payments\"");
    assert_ne!(
        facts.get("machine.boot.secure_boot").map(String::as_str),
        Some("true")
    );
    let then = counterexample.then.as_ref().unwrap();
    assert_eq!(then.principal.id.as_deref(), Some("payments/api"));
    assert_eq!(then.because[0].file, "policies/shop.cedar");
    assert!(
        counterexample.today,
        "a workload with these facts is enough"
    );
    assert!(
        counterexample.text.contains("policies/assume.cedar:2"),
        "{}",
        counterexample.text
    );
    assert!(
        counterexample.text.contains("and then"),
        "{}",
        counterexample.text
    );
    assert!(
        !counterexample.text.contains('{'),
        "for people: {}",
        counterexample.text
    );
    let Today::Broken { by } = &one.today else {
        panic!("{:?}", one.today);
    };
    assert_eq!(by[0].principal, "Identity::\"payments/api\"");
    assert!(!one.is_accepted());
}

/// Somebody else may write as well, whom anybody of uid 1001 becomes.
#[test]
fn a_grant_to_another_identity_breaks_it_by_who_becomes_that() {
    let more = format!(
        "{WRITES}@id(\"reporting writes\")\npermit (principal == Identity::\"reporting/nightly\", \
         action == Action::\"update\", resource in Schema::\"shop/public\");\n"
    );
    let Some(one) = prove("a_grant_to_another_identity", &files(BUILT, &more)) else {
        return;
    };
    let Result::Broken { counterexample } = &one.result else {
        panic!("{}", one.result);
    };
    assert_eq!(
        counterexample.resource.id.as_deref(),
        Some("reporting/nightly")
    );
    assert_eq!(counterexample.because[0].line, 11);
}

/// Nobody is in the group today: it holds today, and not for any data.
#[test]
fn what_membership_alone_keeps_out_holds_today_and_is_not_proved() {
    let more = format!(
        "{WRITES}@id(\"writers write\")\npermit (principal in Group::\"writers\", \
         action == Action::\"update\", resource == Table::\"shop/public/cards\");\n"
    );
    let Some(one) = prove("what_membership_alone_keeps_out", &files(BUILT, &more)) else {
        return;
    };
    assert!(
        matches!(one.result, Result::Broken { .. }),
        "{}",
        one.result
    );
    assert!(matches!(one.today, Today::Holds { .. }), "{:?}", one.today);
    assert!(!one.is_accepted());
}

/// A template stands for all its instances.
#[test]
fn a_template_is_asked_about_as_its_instances_are() {
    let template = "pools/{machine.pool}/writers/{workload.unit}";
    let with = |assume: &str| {
        let uses = format!(
            "{WRITES}@id(\"jobs write\")\npermit (principal == Identity::\"{template}\", \
             action == Action::\"insert\", resource == Table::\"shop/public/cards\");\n"
        );
        let mut files = files(&format!("{BUILT}{assume}"), &uses);
        let text = format!(
            "{}[[identity]]\npath = \"{template}\"\nkind = \"job\"\nowner = \"data\"\n",
            files.0["identities/shop.toml"]
        );
        files.insert("identities/shop.toml", text);
        files
    };
    let open = format!(
        "@id(\"a job is its unit\")\npermit (principal in Pool::\"demo\", action == Action::\"assume\", \
         resource == Identity::\"{template}\")\nwhen {{ principal has uid && principal.uid == 0 && principal has unit }};\n"
    );
    let Some(one) = prove("a_template_is_asked_about", &with(&open)) else {
        return;
    };
    let Result::Broken { counterexample } = &one.result else {
        panic!("{}", one.result);
    };
    assert_eq!(counterexample.resource.id.as_deref(), Some(template));
    let closed = BUILT.replace(
        "Identity::\"payments/api\"",
        &format!("Identity::\"{template}\""),
    );
    let closed = closed
        .split_once("@id(\"reporting")
        .unwrap()
        .0
        .replace("@id(\"", "@id(\"job ");
    let one = prove("a_template_is_asked_about", &with(&closed)).unwrap();
    assert!(matches!(one.result, Result::Proved), "{}", one.result);
}

/// The use asks for what a machine shows: then it does not matter who becomes it.
#[test]
fn a_condition_of_the_use_counts_for_what_no_agent_asserts() {
    let clean = r#"
@id("payments writes cards, on clean machines")
permit (principal == Identity::"payments/api", action == Action::"insert", resource == Table::"shop/public/cards")
when { context.machine has boot && context.machine.boot has secure_boot && context.machine.boot.secure_boot };
"#;
    let lax = "@id(\"lax\")\npermit (principal in Pool::\"demo\", action == Action::\"assume\", \
               resource == Identity::\"payments/api\");\n";
    let mut files = files(lax, clean);
    let visible = files.0["identities/shop.toml"].replacen(
        "owner = \"payments\"\n",
        "owner = \"payments\"\nvisible = [\"machine.boot.secure_boot\", \"code.source\", \"code.sha256\"]\n",
        1,
    );
    files.insert("identities/shop.toml", visible);
    let head = ONLY.split_once("except").unwrap().0;
    files.insert(
        "invariants/cards.cedar",
        format!(
            "{head}except {{ principal.machine has boot && principal.machine.boot has secure_boot && \
             principal.machine.boot.secure_boot }};"
        ),
    );
    let Some(one) = prove("a_condition_of_the_use", &files) else {
        return;
    };
    assert!(matches!(one.result, Result::Proved), "{}", one.result);
    // What the agent says of code is not believed at the use: no policy there names machines.
    files.insert(
        "policies/shop.cedar",
        clean.replace(
            "context.machine has boot && context.machine.boot has secure_boot && context.machine.boot.secure_boot",
            "context has code && context.code has source && context.code.source == \"x\"",
        ),
    );
    files.insert(
        "invariants/cards.cedar",
        format!("{head}except {{ principal has code && principal.code has source && principal.code.source == \"x\" }};"),
    );
    let one = prove("a_condition_of_the_use", &files).unwrap();
    assert!(
        matches!(one.result, Result::Broken { .. }),
        "{}",
        one.result
    );
}

/// The permit names no machines, so only the forbid speaks of code, and what it believes anybody's agent says.
#[test]
fn what_holds_only_if_agents_that_nobody_named_are_believed_is_broken() {
    let unplaced = r#"
@id("payments is anything on a clean machine")
permit (principal is Workload, action == Action::"assume", resource == Identity::"payments/api")
when {
  principal.machine has boot && principal.machine.boot has secure_boot &&
  principal.machine.boot.secure_boot
};
@id("nobody without the right code")
forbid (principal is Workload, action == Action::"assume", resource)
unless {
  principal has code && principal.code has source &&
  principal.code.source == "github.com/acme/payments"
};
"#;
    let placed = unplaced.replace(
        "principal is Workload, action == Action::\"assume\", resource == ",
        "principal in Pool::\"demo\", action == Action::\"assume\", resource == ",
    );
    assert_ne!(placed, unplaced);
    let Some(one) = prove("agents_that_nobody_named", &files(&placed, WRITES)) else {
        return;
    };
    assert!(matches!(one.result, Result::Proved), "{}", one.result);
    let one = prove("agents_that_nobody_named", &files(unplaced, WRITES)).unwrap();
    let Result::Broken { counterexample } = &one.result else {
        panic!("{}", one.result);
    };
    assert_eq!(
        counterexample.because[0].id,
        "payments is anything on a clean machine"
    );
    // An invariant about `assume` alone is proved no otherwise.
    let mut direct = files(unplaced, WRITES);
    direct.insert(
        "invariants/cards.cedar",
        "@id(\"only that code\")\nnever (principal is Workload, action == Action::\"assume\", resource)\n\
         unless { principal has code && principal.code has source && \
         principal.code.source == \"github.com/acme/payments\" };\n",
    );
    let one = prove("agents_that_nobody_named", &direct).unwrap();
    assert!(
        matches!(one.result, Result::Broken { .. }),
        "{}",
        one.result
    );
}

#[test]
fn without_a_solver_nothing_that_spans_both_is_known() {
    let options = estate_prove::Options::with_solver(Some("/nonexistent/cvc5".into()));
    let report = prove_blocking(&compile(&files(BUILT, WRITES)), &options);
    let one = &report.invariants[0];
    assert!(
        matches!(one.result, Result::Unknown { .. }),
        "{}",
        one.result
    );
    assert!(!matches!(one.today, Today::Holds { .. }), "{:?}", one.today);
    assert!(!one.is_accepted() && one.is_open());
}
