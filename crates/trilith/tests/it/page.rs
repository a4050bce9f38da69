//! `trilith verify --html`: what the page says of a pack that verifies and of one that does not, and that whatever
//! others wrote stays text. Two parsers that nobody here wrote judge each page.

use crate::ledger_support::{Memory, SERVER, STAMP, issuance};
use estate::EstateFiles;
use ledger::body::{
    self, ActionOn, Begin, BlobRef, Body as _, Coverage, Decision, EstateVersion, FactValue,
    Intent, Issuance, Outcome, SessionStart, Verdict, VerdictOutcome,
};
use ledger::pack::{PackBuilder, Question, grounds};
use ledger::{Base64, Decimal, EstateRef, HexDigest, Record, RecordBuilder};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

const API: &str = "spiffe://example.org/payments/api";
const POLICY: &str =
    "@id(\"payments reads cards\")\npermit (principal, action, resource)\nwhen { 1 < 2 };";

/// One ledger, of which a pack has the records from the first to the last.
struct Site {
    server: Memory,
    files: EstateFiles,
    blobs: Vec<Vec<u8>>,
    folder: tempfile::TempDir,
}

impl Site {
    /// A ledger that began, with an estate in force.
    fn new() -> Self {
        let mut files = EstateFiles::bootstrap("example.org", 0);
        files.insert("policies/payments.cedar", format!("// who\n{POLICY}\n"));
        let server = Memory::new(SERVER, 1);
        let begin = Begin {
            trust_domain: "example.org".to_owned(),
            ledger_key: Base64(server.key().public_key().spki_der().to_vec()),
            format: "v1".to_owned(),
        };
        let mut site = Self {
            server,
            blobs: vec![files.to_blob(), b"facts".to_vec()],
            files,
            folder: testkit::temp_dir().expect("a folder"),
        };
        site.append(begin.record());
        let version = EstateVersion {
            version: HexDigest::of(&site.files.to_blob()),
            blob: BlobRef::of(&site.files.to_blob()),
            parent: None,
            author: "uid:0".to_owned(),
            message: "first".to_owned(),
            proof_index: None,
            floor: Decimal(1),
        };
        site.append(version.record());
        site
    }

    fn append(&mut self, record: RecordBuilder) {
        let version = HexDigest::of(&self.files.to_blob());
        let record = record.at(STAMP).estate(EstateRef { version, index: 1 });
        self.server.append(record.actor(API, "x509"));
    }

    fn pack(&self) -> Vec<u8> {
        let question = Question::Range {
            ledger: String::new(),
            from: 0,
            to: self.server.records.len() as u64 - 1,
        };
        let mut pack = PackBuilder::new(&question, &self.server.note());
        for index in 0..self.server.records.len() as u64 {
            let receipt = self.server.receipt(index);
            let record = Record::parse(&receipt.record).expect("a record");
            let named = grounds(&record).expect("its grounds").blobs;
            for blob in &self.blobs {
                if named.contains(&HexDigest::of(blob)) {
                    pack.blob(blob.clone());
                }
            }
            pack.receipt(&receipt);
        }
        pack.build()
    }

    /// Runs `trilith verify --html`; and where the page is.
    fn verify(&self, pack: &[u8]) -> (Output, PathBuf) {
        let file = |name: &str| self.folder.path().join(name);
        std::fs::write(file("a.pack"), pack).expect("written");
        let trust =
            json!({"trust_domain": "example.org", "ledger_key": self.server.key().to_string()});
        std::fs::write(file("trust.json"), trust.to_string()).expect("written");
        let page = file("page.html");
        let output = Command::new(env!("CARGO_BIN_EXE_trilith"))
            .args([
                "verify",
                "a.pack",
                "--trust",
                "trust.json",
                "--html",
                "page.html",
            ])
            .env_clear()
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .output()
            .expect("it runs");
        if let Some(kept) = std::env::var_os("TRILITH_PAGES") {
            let name = format!("{}.html", HexDigest::of(pack));
            std::fs::copy(&page, Path::new(&kept).join(name)).expect("kept");
        }
        (output, page)
    }
}

/// The text of a page, and of what is marked bad in it; `None` where there is no Python.
fn judged(page: &Path) -> Option<(String, Vec<String>)> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/judge_page.py");
    let run = Command::new("python3").arg(script).arg(page).output();
    let Ok(output) = run else {
        testkit::skip("trilith.pages", "there is no python3");
        return None;
    };
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{complained}");
    let told: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let bad = told["bad"].as_array().expect("a list").iter();
    let bad = bad.map(|text| text.as_str().expect("text").to_owned());
    Some((
        told["text"].as_str().expect("text").to_owned(),
        bad.collect(),
    ))
}

fn verdict(node: &str) -> Verdict {
    Verdict {
        node: node.to_owned(),
        outcome: VerdictOutcome::Affirmed,
        facts_blob: Some(BlobRef::of(b"facts")),
        evidence: Vec::new(),
        facts: Vec::new(),
        findings: Vec::new(),
        ar4si: Some("hw2 ex3".to_owned()),
    }
}

/// What one identity did.
fn site() -> Site {
    let mut site = Site::new();
    site.append(verdict("spiffe://example.org/node/m1").record());
    let code = FactValue::Text("sha256:5feceb66".to_owned());
    let issued = Issuance {
        spiffe_id: API.to_owned(),
        serial: "a1".to_owned(),
        verdict: Decimal(2),
        policies: vec!["payments reads cards".to_owned()],
        facts: BTreeMap::from([("code.sha256".to_owned(), code)]),
        ..issuance()
    };
    site.append(issued.record());
    let start = SessionStart {
        session: "s0".to_owned(),
        spiffe_id: API.to_owned(),
        serial: "a1".to_owned(),
        issuance: Some(Decimal(3)),
        resource: "postgres:shop".to_owned(),
        role: "api".to_owned(),
        application: "psql".to_owned(),
        claimed_on_behalf_of: Vec::new(),
        on_behalf_of: Vec::new(),
    };
    site.append(start.record());
    let actions = vec![ActionOn {
        action: "select".to_owned(),
        resources: vec!["shop/public/cards".to_owned()],
        more: None,
    }];
    let intent = Intent {
        session: "s0".to_owned(),
        statement: "f".to_owned(),
        actions: actions.clone(),
        decision: "s0.1".to_owned(),
        policies: vec!["payments reads cards".to_owned()],
        coverage: Coverage::Complete,
        more_policies: None,
        claimed_on_behalf_of: Vec::new(),
        on_behalf_of: Vec::new(),
    };
    site.append(intent.record());
    let outcome = Outcome {
        intent: Decimal(5),
        result: "ok".to_owned(),
        sqlstate: None,
        rows: Some(Decimal(3)),
        tag: None,
        transaction: None,
    };
    site.append(outcome.record());
    let denial = Decision {
        session: "s0".to_owned(),
        statement: "f".to_owned(),
        actions,
        decision: "s0.2".to_owned(),
        allow: false,
        policies: Vec::new(),
        findings: vec!["DENIED-BY-DEFAULT".to_owned()],
        coverage: Coverage::Complete,
        more_policies: None,
        about: None,
        claimed_on_behalf_of: Vec::new(),
        on_behalf_of: Vec::new(),
    };
    site.append(denial.record());
    site
}

#[test]
fn a_page_says_who_did_what_by_which_policy_code_and_machine_and_what_was_not_checked() {
    let site = site();
    let pack = site.pack();
    let (output, page) = site.verify(&pack);
    let complained = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{complained}");
    let Some((text, bad)) = judged(&page) else {
        return;
    };
    for expected in [
        "Verified, and complete: it holds the records that were asked for",
        "records 0 to 7 of the server's ledger",
        "reached postgres:shop as the role api",
        "may select shop/public/cards, allowed by payments reads cards; ok, 3 rows",
        "may NOT select shop/public/cards, by no policy that permits it; DENIED-BY-DEFAULT",
        "issued SVID a1 to spiffe://example.org/payments/api on machine m1",
        "code.sha256 = sha256:5feceb66",
        "machine spiffe://example.org/node/m1 affirmed (hw2 ex3)",
        "in policies/payments.cedar:2",
        POLICY,
        "What was NOT checked",
        "the trust file names no witnesses",
        "What happened past the gateways.",
        &HexDigest::of(&pack).to_string(),
        &site.server.key().to_string(),
    ] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    // Policies that decided nothing are not told.
    assert!(!text.contains("the administrator who set this up"));
    assert_eq!(bad, ["may NOT "]);
    // The same pack makes the same page.
    let first = std::fs::read(&page).expect("a page");
    let (_, again) = site.verify(&pack);
    assert!(first == std::fs::read(again).expect("a page"));
}

#[test]
fn the_page_of_a_pack_that_does_not_verify_names_the_first_failure_and_shows_nothing_of_the_pack() {
    let site = site();
    let mut pack = site.pack();
    let at = pack.len() - 1;
    pack[at] ^= 1;
    let (output, page) = site.verify(&pack);
    assert_eq!(output.status.code(), Some(3));
    let Some((text, bad)) = judged(&page) else {
        return;
    };
    assert_eq!(bad.len(), 1);
    for expected in ["This pack does NOT verify", "PACK-DIGEST", "blob/"] {
        assert!(bad[0].contains(expected), "{expected}: {bad:?}");
    }
    assert!(
        !text.contains("payments/api") && !text.contains("Verified"),
        "{text}"
    );
}

#[test]
fn whatever_others_wrote_stays_text() {
    let long = "spiffe://example.org/".to_owned() + &"a".repeat(4_000);
    for hostile in [
        "</bdi></code></td><script>alert(1)</script>",
        "\" onmouseover=\"alert(1)\" x=\"",
        "' style='position:fixed",
        "<img src=x onerror=alert(1)>",
        "<!-- --> <![CDATA[ ]]> <?xml?>",
        "</style></title></pre><base href=http://example.com>",
        "&lt;b&gt; &#60; &amp;",
        "javascript:alert(1)",
        "url(http://example.com/x)",
        "\u{5d0}\u{5d1} \u{627}\u{644}",
        long.as_str(),
    ] {
        let mut site = Site::new();
        let text = || hostile.to_owned();
        let issued = Issuance {
            spiffe_id: text(),
            serial: text(),
            node: text(),
            verdict: Decimal(2),
            facts: BTreeMap::from([("code".to_owned(), FactValue::Text("x".to_owned()))]),
            ..issuance()
        };
        let mut machine = verdict(hostile);
        machine.ar4si = Some(text());
        site.append(machine.record());
        site.append(issued.record());
        let finding = body::Finding {
            code: text(),
            message: "m".to_owned(),
            expected: None,
            observed: None,
            next: None,
        };
        let lock = body::Lock {
            node: "n".to_owned(),
            finding,
            generation: Decimal(1),
        };
        site.append(lock.record());
        let readmit = body::Readmit {
            node: "n".to_owned(),
            reason: text(),
            by: "b".to_owned(),
            generation: Decimal(1),
        };
        site.append(readmit.record());
        let act = body::Admin {
            principal: "p".to_owned(),
            action: "a".to_owned(),
            resource: text(),
            allow: false,
            policies: Vec::new(),
            detail: "d".to_owned(),
        };
        site.append(act.record());
        site.append(body::Stop { reason: text() }.record());
        let (output, page) = site.verify(&site.pack());
        let complained = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(0), "{complained}");
        let Some((text, _)) = judged(&page) else {
            return;
        };
        // In the row, the identity and the machine; in the record as it stands, JSON may escape it.
        assert!(text.matches(hostile).count() >= 9, "{hostile}: {text}");
    }
}

#[test]
fn what_turns_or_hides_text_is_written_out() {
    let mut site = Site::new();
    let reason = "a\u{202e}b\u{200b}c\u{2066}d".to_owned();
    site.append(body::Stop { reason }.record());
    let (output, page) = site.verify(&site.pack());
    assert_eq!(output.status.code(), Some(0));
    let Some((text, _)) = judged(&page) else {
        return;
    };
    assert!(text.contains("a\\u{202e}b\\u{200b}c\\u{2066}d"), "{text}");
    assert!(!text.contains(['\u{202e}', '\u{200b}', '\u{2066}']));
}

/// What a browser made of the page after it was loaded and whatever could run had run.
#[test]
fn in_a_browser_nothing_of_a_hostile_page_runs() {
    let Some(chromium) = testkit::tool("chromium") else {
        testkit::skip("trilith.page-browser", "chromium is not installed");
        return;
    };
    let mut site = Site::new();
    for reason in [
        "</pre></bdi><script>document.title = 'owned'</script>",
        "<img src=x onerror=\"document.title = 'owned'\">",
        "\" onfocus=\"document.title = 'owned'\" autofocus tabindex=\"1",
        "<style>* { display: none }</style><iframe src=http://127.0.0.1:9></iframe>",
    ] {
        let reason = reason.to_owned();
        site.append(body::Stop { reason }.record());
    }
    let (output, page) = site.verify(&site.pack());
    assert_eq!(output.status.code(), Some(0));
    let home = site.folder.path();
    let output = Command::new(chromium)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"])
        .arg(format!(
            "--user-data-dir={}",
            home.join("browser").display()
        ))
        .arg(format!("file://{}", page.display()))
        .env("HOME", home)
        .stdin(Stdio::null())
        .output()
        .expect("it runs");
    let dom = String::from_utf8_lossy(&output.stdout);
    assert!(
        dom.contains("<title>Trilith pack: records 0 to 5 of the server's ledger</title>"),
        "{dom}"
    );
    assert!(
        dom.contains("&lt;script&gt;document.title = 'owned'&lt;/script&gt;"),
        "{dom}"
    );
    for element in ["<script", "<img", "<iframe", "onfocus=\"document"] {
        assert!(!dom.contains(element), "{element}: {dom}");
    }
    assert_eq!(dom.matches("<style").count(), 1);
}
