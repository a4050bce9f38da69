//! Machines that go on proving themselves after they joined. The chips are software and hold what is
//! extended into them; lists are written as a kernel writes them.

use crate::follower::Gateway;
use crate::harness::{Fixture, Machine, PATIENCE, PROGRAM, Sync, finding, metric, program};
use crate::kernel::{Kernel, LISTED, content, entry, question, quote, references};
use crate::recovering::until;
use crate::surviving::spawn;
use crate::tpm::{evidence, pin};
use crate::tpm_renewal::renew_with;
use attest_tpm::continuous::Standing;
use crypto::{Algorithm, KeyPair, hex, sha256};
use facts::Finding;
use proto::v1;
use proto::v1::join_client::JoinClient;
use proto::v1::node_message::Message;
use proto::v1::node_update::Update;
use proto::v1::{AttestRequest, delta};
use references::Withdrawal;
use serde_json::Value;
use server::bench::{Node, cuts};
use std::sync::Arc;
use std::time::{Duration, Instant};
use testkit::chip::Chip;

pub(crate) const PACE: &str = "[attestation]\ninterval_s = 1\nwindow_s = 5\n";
/// Nobody is evicted for silence.
pub(crate) const SLOW: &str = "[attestation]\ninterval_s = 2\nwindow_s = 600\n";

/// A stream whose agent answers.
pub(crate) async fn connect(machine: &Machine) -> Sync {
    let sync = machine.sync().await.unwrap();
    hello(&sync, true).await;
    sync
}

pub(crate) async fn hello(sync: &Sync, attests: bool) {
    let hello = v1::NodeHello {
        version: "1".to_owned(),
        bundle_sequence: 0,
        attests,
        enforces: false,
        lineage: String::new(),
    };
    sync.send(Message::Hello(hello)).await;
}

/// Answers honestly; the next question, which says how far the list is verified.
pub(crate) async fn pass(kernel: &Kernel, sync: &mut Sync, asked: &AttestRequest) -> AttestRequest {
    let answer = kernel.answer(asked).await;
    sync.send(Message::Attestation(answer)).await;
    let next = question(sync).await;
    let entries = u64::try_from(kernel.entries.len()).unwrap();
    assert_eq!(next.ima_entries, entries, "it passed");
    next
}

/// Until the server has ended the stream.
pub(crate) async fn ended(sync: &mut Sync) {
    while sync.next().await.is_ok() {}
}

/// The findings of the newest refused verdict, once there are `count`.
pub(crate) async fn refused(fixture: &Fixture, count: usize) -> Vec<Finding> {
    let seen = async {
        loop {
            let records = fixture.records(&["verdict"]).await;
            let mut refused = records
                .iter()
                .filter(|(_, record)| record["body"]["outcome"] == "refused");
            if refused.clone().count() >= count {
                let findings = refused.next_back().unwrap().1["body"]["findings"].clone();
                return serde_json::from_value(findings).unwrap();
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, seen)
        .await
        .expect("a refused verdict")
}

pub(crate) async fn locked(fixture: &Fixture) -> Value {
    let mut admin = fixture.admin().await;
    let agents = admin.agents(v1::StatusRequest {}).await.unwrap();
    let agents: Value = serde_json::from_str(&agents.into_inner().json).unwrap();
    let all = agents.as_array().or_else(|| agents["agents"].as_array());
    let m1 = all
        .unwrap()
        .iter()
        .find(|agent| agent["node"] == "m1" || agent["name"] == "m1");
    m1.unwrap_or_else(|| panic!("{agents}"))["locked"].clone()
}

fn fact<'a>(verdict: &'a facts::Stated, name: &str) -> Option<&'a str> {
    verdict.facts.text(name)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_is_judged_at_the_join_by_what_may_run() {
    let Some(mut kernel) = Kernel::boot("server.ima-join") else {
        return;
    };
    let fixture = kernel.fixture(SLOW).await;
    let joined = kernel.join(&fixture).await.unwrap();
    let verdict: facts::Stated = serde_json::from_slice(&joined.joined.verdict).unwrap();
    assert_eq!(fact(&verdict, "machine.ima.state"), Some("approved"));
    let entries = verdict.facts.value("machine.ima.entries").unwrap();
    assert_eq!(entries.to_string(), "2");
    let records = fixture.records(&["verdict"]).await;
    let kept = records.last().unwrap().1["body"]["evidence"].to_string();
    assert!(kept.contains("\"ima-list\""), "{kept}");

    // What comes behind the quote is not judged yet.
    let (late, _) = entry("/tmp/late", [1; 32], false);
    let longer = [kernel.list(0), late].concat();
    kernel.join_with(&fixture, longer).await.unwrap();

    let silent = kernel.join_with(&fixture, Vec::new()).await;
    assert_eq!(finding(&silent.err().unwrap()).code, "IMA-LIST-MISSING");
    assert_eq!(locked(&fixture).await, "AGENT-EVICTED");
    // What was said before it was evicted lifts nothing; what is said now does.
    kernel.join(&fixture).await.unwrap();
    assert_eq!(locked(&fixture).await, Value::Null);
    let short = kernel.join_with(&fixture, kernel.entries[0].clone()).await;
    assert_eq!(finding(&short.err().unwrap()).code, "IMA-REPLAY");

    kernel.measure("/usr/bin/listed", [9; 32]);
    let refused = finding(&kernel.join(&fixture).await.err().unwrap());
    assert_eq!(refused.code, "IMA-FILE");
    assert!(refused.message.contains("/usr/bin/listed"), "{refused}");
    assert_eq!(
        refused.observed,
        Some(format!("sha256:{}", "09".repeat(32)))
    );
    let expected = refused.expected.unwrap();
    let right = hex::encode(&content(LISTED));
    assert!(
        expected.contains(&right) && expected.contains("listed 1"),
        "{expected}"
    );

    // Where nothing says what may run, nothing is judged.
    fixture.apply(&kernel.estate(None)).await.unwrap();
    let joined = kernel.join(&fixture).await.unwrap();
    let verdict: facts::Stated = serde_json::from_slice(&joined.joined.verdict).unwrap();
    assert_eq!(fact(&verdict, "machine.ima.state"), Some("measured"));
    let joined = kernel.join_with(&fixture, Vec::new()).await.unwrap();
    let verdict: facts::Stated = serde_json::from_slice(&joined.joined.verdict).unwrap();
    assert_eq!(fact(&verdict, "machine.ima.state"), Some("unknown"));
}

/// A machine wrote megabytes behind the entries that its quote reaches, and each of its joins kept them.
#[tokio::test(flavor = "multi_thread")]
async fn what_no_quote_reaches_is_not_kept_with_a_join() {
    let Some(kernel) = Kernel::boot("server.ima-tail") else {
        return;
    };
    let fixture = kernel.fixture(SLOW).await;
    let good = kernel.list(0);
    let (noise, _) = entry("/tmp/noise", [1; 32], false);
    let longer = [good.clone(), noise.repeat(5_000)].concat();
    kernel.join_with(&fixture, longer).await.unwrap();
    let records = fixture.records(&["verdict"]).await;
    let kept = records.last().unwrap().1["body"]["evidence"].clone();
    let lists = kept.as_array().unwrap().iter();
    let lists = lists.filter(|one| one["kind"] == "ima-list");
    let lengths: Vec<String> = lists
        .map(|one| one["length"].to_string().replace('"', ""))
        .collect();
    assert_eq!(lengths, [good.len().to_string()], "{kept}");
    // What is named is there, and nothing else.
    let folder = fixture.dir.path().join("data/blobs");
    let largest = largest_file(&folder);
    assert!(largest < 100_000, "a blob of {largest} bytes");
}

fn largest_file(folder: &std::path::Path) -> u64 {
    let entries = std::fs::read_dir(folder).unwrap();
    let sizes = entries.map(|entry| {
        let entry = entry.unwrap();
        match entry.file_type().unwrap().is_dir() {
            true => largest_file(&entry.path()),
            false => entry.metadata().unwrap().len(),
        }
    });
    sizes.max().unwrap_or_default()
}

/// The caller is gone at the moment of the cut: its stream ended, or its connection.
#[tokio::test(flavor = "multi_thread")]
async fn an_eviction_whose_caller_goes_away_is_recorded_all_the_same() {
    let fixture = Fixture::start_with(SLOW).await;
    let files = references(&[]).to_json();
    let mut estate = crate::harness::estate();
    estate.insert("references/files.json", files);
    fixture.apply(&estate).await.unwrap();
    let mut chip = Chip::booted().unwrap();
    let now = facts::Timestamp::now();
    let mut machine = facts::FactSet::new();
    for (name, value) in [("machine.name", "m1"), ("machine.join", "tpm")] {
        machine.state(name, value, facts::Source::Verified, now);
    }
    let key = KeyPair::generate(Algorithm::EcdsaP256).unwrap();
    let key = crypto::Signer::public_key(&key).clone();
    let every = facts::Warrant::of(facts::Source::Verified, &[""]);
    let verdict = facts::Verdict::affirmed(&every, machine, Vec::new());
    let node = Node::admit(fixture.running(), "m1", key, verdict)
        .await
        .unwrap();
    let quoted = chip.quote(&[0; 32]).unwrap();
    let standing = Standing::kept(&chip.public(), &quoted.attested, &quoted.values.concat());
    let asked = node.stands(standing.unwrap()).await.unwrap().unwrap();

    chip.measure("/tmp/evil", [9; 32]);
    let quoted = chip.quote(&asked.nonce).unwrap();
    let answer = v1::Attestation {
        nonce: asked.nonce,
        quote: quoted.attested,
        quote_signature: quoted.signature,
        pcr_values: quoted.values,
        ima_first: 0,
        ima_list: chip.list_from(0),
        enforcement: None,
    };
    let mut cuts = cuts(fixture.running());
    let answering = Box::pin(node.answer(answer));
    tokio::select! {
        biased;
        cut = cuts.recv() => assert_eq!(cut.unwrap().0, "m1"),
        answered = answering => panic!("it was answered before the cut was heard: {answered:?}"),
    }
    // The answer was dropped at the cut.
    assert_eq!(refused(&fixture, 1).await[0].code, "IMA-FILE");
    let seen = async { while locked(&fixture).await != "AGENT-EVICTED" {} };
    tokio::time::timeout(PATIENCE, seen).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_grows_by_listed_files_goes_on_and_an_unlisted_one_cuts_the_machine() {
    let Some(mut kernel) = Kernel::boot("server.ima-grows") else {
        return;
    };
    let fixture = kernel.fixture(SLOW).await;
    let machine = kernel.join(&fixture).await.unwrap();
    let mut sync = connect(&machine).await;
    let asked = question(&mut sync).await;
    assert_eq!(asked.ima_entries, 2);
    let asked = pass(&kernel, &mut sync, &asked).await;
    let facts = program(1000, PROGRAM);
    let (_, held) = sync.ask("w1", &facts, Vec::new()).await.unwrap();
    assert_eq!(held.len(), 1);
    let mut gateway = Gateway::connect(&fixture, 2000).await.unwrap();
    gateway.hello(0, Vec::new()).await;

    // A file that is listed runs once more, and nothing happens.
    kernel.measure(LISTED, content(LISTED));
    let asked = pass(&kernel, &mut sync, &asked).await;
    let http = fixture.running().http_listen;
    assert!(metric(http, "trilith_server_attestations_total ").await >= 1);
    assert_eq!(metric(http, "trilith_server_ima_entries_total ").await, 1);
    assert_eq!(
        fixture.records(&["verdict"]).await.len(),
        2,
        "m1 and the gateway's"
    );

    // Another one does.
    let begun = Instant::now();
    kernel.measure("/tmp/evil", [9; 32]);
    let answer = kernel.answer(&asked).await;
    sync.send(Message::Attestation(answer)).await;
    let cut = loop {
        if let delta::Delta::Cut(cut) = gateway.next().await.unwrap() {
            break cut;
        }
    };
    println!("from the measurement to the cut: {:?}", begun.elapsed());
    assert_eq!((cut.kind.as_str(), cut.value.as_str()), ("machine", "m1"));
    assert!(cut.reason.starts_with("IMA-FILE"), "{}", cut.reason);
    ended(&mut sync).await;
    let found = refused(&fixture, 1).await;
    assert_eq!(found[0].code, "IMA-FILE");
    assert!(
        found[0].message.contains("entry 3 (/tmp/evil)"),
        "{}",
        found[0]
    );
    let recorded = loop {
        if let delta::Delta::Record(record) = gateway.next().await.unwrap()
            && !record.initial
        {
            break ledger::Receipt::decode(&record.receipt).unwrap();
        }
    };
    let key = fixture.ledger_key().await;
    let verified = recorded.verify(&key).unwrap();
    assert_eq!(verified.record.kind(), ledger::RecordType::Revocation);
    assert_eq!(locked(&fixture).await, "AGENT-EVICTED");
    let code = "trilith_server_evictions_total{code=\"IMA-FILE\"} ";
    until("it is counted once it is recorded", async || {
        metric(http, code).await == 1
    })
    .await;

    // It is out, its list cannot forget, and a clean boot lets it in again.
    let status = machine.sync().await.err().unwrap();
    assert_eq!(finding(&status).code, "CALLER-REVOKED");
    let again = kernel.join(&fixture).await.err().unwrap();
    assert_eq!(finding(&again).code, "IMA-FILE");
    kernel.reboot();
    let machine = kernel.join(&fixture).await.unwrap();
    assert_eq!(locked(&fixture).await, Value::Null);
    let mut sync = connect(&machine).await;
    kernel.prove(&mut sync).await;
    let (_, held) = sync.ask("w1", &facts, Vec::new()).await.unwrap();
    assert_eq!(held.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_is_judged_by_the_whole_list_and_a_bad_one_evicts() {
    let Some(mut kernel) = Kernel::boot("server.ima-renewal") else {
        return;
    };
    let fixture = kernel.fixture(SLOW).await;
    let renew = async |machine: &Machine, kernel: &Kernel, list: Vec<u8>| {
        let key = Arc::new(KeyPair::generate(Algorithm::EcdsaP256).unwrap());
        renew_with(machine, &kernel.chip, crypto::random(), key, list).await
    };
    let machine = kernel.join(&fixture).await.unwrap();
    // A list that is too short to be all of it is no list; the machine comes in again by a good one.
    let short = renew(&machine, &kernel, Vec::new()).await.err().unwrap();
    assert_eq!(finding(&short).code, "IMA-LIST-MISSING");
    assert_eq!(locked(&fixture).await, "AGENT-EVICTED");
    let machine = kernel.join(&fixture).await.unwrap();
    kernel.measure(LISTED, content(LISTED));
    let machine = renew(&machine, &kernel, kernel.list(0)).await.unwrap();
    let verdict: facts::Stated = serde_json::from_slice(&machine.joined.verdict).unwrap();
    let entries = verdict.facts.value("machine.ima.entries").unwrap();
    assert_eq!(entries.to_string(), "3");

    kernel.measure("/tmp/evil", [9; 32]);
    let bad = renew(&machine, &kernel, kernel.list(0))
        .await
        .err()
        .unwrap();
    assert_eq!(finding(&bad).code, "IMA-FILE");
    assert_eq!(locked(&fixture).await, "AGENT-EVICTED");
    let status = machine.sync().await.err().unwrap();
    assert_eq!(finding(&status).code, "CALLER-REVOKED");
    assert_eq!(refused(&fixture, 2).await[0].code, "IMA-FILE");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_eviction_is_lifted_by_a_clean_join_and_a_ban_by_an_administrator_alone() {
    let Some(kernel) = Kernel::boot("server.evict-ban") else {
        return;
    };
    let fixture = kernel.fixture(SLOW).await;
    let revoke = async |kind: &str| {
        let request = v1::RevokeRequest {
            kind: kind.to_owned(),
            value: "m1".to_owned(),
            reason: "we look at it".to_owned(),
        };
        fixture.admin().await.revoke(request).await
    };
    let machine = kernel.join(&fixture).await.unwrap();
    // What was begun before the eviction does not lift it.
    let key = Arc::new(KeyPair::generate(Algorithm::EcdsaP256).unwrap());
    let (link, mut early) = evidence(&fixture, &kernel.chip, &key).await;
    early.ima_list = kernel.list(0);
    revoke("eviction").await.unwrap();
    assert_eq!(locked(&fixture).await, "AGENT-EVICTED");
    let again = revoke("eviction").await.err().unwrap();
    assert_eq!(finding(&again).code, "NODE-NOT-EVICTED");
    let refused = JoinClient::new(link.channel).tpm_finish(early).await;
    assert_eq!(finding(&refused.err().unwrap()).code, "JOIN-OVERTAKEN");
    let status = machine.sync().await.err().unwrap();
    assert_eq!(finding(&status).code, "CALLER-REVOKED");
    kernel.join(&fixture).await.unwrap();
    assert_eq!(locked(&fixture).await, Value::Null);

    // A ban stays, of an evicted machine too.
    revoke("eviction").await.unwrap();
    revoke("machine").await.unwrap();
    assert_eq!(locked(&fixture).await, "AGENT-REVOKED");
    let banned = kernel.join(&fixture).await.err().unwrap();
    assert_eq!(finding(&banned).code, "AGENT-LOCKED");
    fixture.readmit("m1").await;
    kernel.join(&fixture).await.unwrap();
    let states = fixture.records(&["node-state"]).await;
    let evicted = states
        .iter()
        .filter(|(_, one)| one["body"]["state"] == "evicted");
    assert_eq!(evicted.count(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_lie_about_a_quote_or_a_list_evicts_its_machine() {
    let Some(mut kernel) = Kernel::boot("server.attest-lies") else {
        return;
    };
    let other = kernel.chip.sibling().unwrap();
    let fixture = kernel.fixture(SLOW).await;
    let more = ["/usr/bin/one", "/usr/bin/two"];
    let files = kernel.estate(Some(&references(&more)));
    fixture.apply(&files).await.unwrap();
    let mut lies = 0;
    for lie in [
        "cut",
        "reordered",
        "withheld",
        "older quote",
        "another key",
        "other values",
    ] {
        let machine = kernel.join(&fixture).await.unwrap();
        let mut sync = connect(&machine).await;
        let first = question(&mut sync).await;
        let old = quote(&kernel.chip, &first).await;
        let asked = pass(&kernel, &mut sync, &first).await;
        for path in more {
            kernel.measure(path, content(path));
        }
        let mut answer = kernel.answer(&asked).await;
        let [one, two] = [2, 1].map(|back| kernel.entries[kernel.entries.len() - back].clone());
        let code = match lie {
            "cut" => {
                answer.ima_list = two;
                "IMA-REPLAY"
            }
            "reordered" => {
                answer.ima_list = [two, one].concat();
                "IMA-REPLAY"
            }
            "withheld" => {
                answer.ima_list.clear();
                "IMA-LIST-MISSING"
            }
            "older quote" => {
                answer.quote = old.quote;
                answer.quote_signature = old.quote_signature;
                answer.pcr_values = old.pcr_values;
                "TPM-QUOTE-NONCE"
            }
            "another key" => {
                let theirs = quote(&other, &asked).await;
                answer.quote = theirs.quote;
                answer.quote_signature = theirs.quote_signature;
                answer.pcr_values = theirs.pcr_values;
                "TPM-QUOTE-SIGNATURE"
            }
            _ => {
                answer.pcr_values[10] = vec![0; 32];
                "TPM-QUOTE-DIGEST"
            }
        };
        sync.send(Message::Attestation(answer)).await;
        lies += 1;
        let found = refused(&fixture, lies).await;
        assert_eq!(found[0].code, code, "{lie}: {found:?}");
        ended(&mut sync).await;
    }

    // What the machine itself did, one boot each.
    for deed in ["another PCR", "a violation", "a restart"] {
        kernel.reboot();
        let machine = kernel.join(&fixture).await.unwrap();
        let mut sync = connect(&machine).await;
        let asked = question(&mut sync).await;
        let code = match deed {
            "another PCR" => {
                kernel.extend(7, &[1; 32]);
                "ATTEST-PCR-CHANGED"
            }
            "a violation" => {
                kernel.violate(LISTED);
                "IMA-VIOLATION"
            }
            _ => {
                kernel.reboot();
                "ATTEST-REBOOTED"
            }
        };
        let answer = kernel.answer(&asked).await;
        sync.send(Message::Attestation(answer)).await;
        lies += 1;
        let found = refused(&fixture, lies).await;
        assert_eq!(found[0].code, code, "{deed}: {found:?}");
        ended(&mut sync).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_counts_once_and_in_its_time_and_systemd_may_go_on() {
    let Some(kernel) = Kernel::boot("server.attest-once") else {
        return;
    };
    let fixture = kernel.fixture(SLOW).await;
    let machine = kernel.join(&fixture).await.unwrap();
    let mut sync = connect(&machine).await;
    let first = question(&mut sync).await;
    let answer = kernel.answer(&first).await;
    sync.send(Message::Attestation(answer.clone())).await;
    // The same again answers nothing, and changes nothing.
    sync.send(Message::Attestation(answer)).await;
    kernel.extend(11, &sha256(b"ready"));
    let next = question(&mut sync).await;
    let next = pass(&kernel, &mut sync, &next).await;
    kernel.extend(11, &sha256(b"shutdown"));
    pass(&kernel, &mut sync, &next).await;
    let http = fixture.running().http_listen;
    let code = "trilith_server_attestations_refused_total{code=\"ATTEST-NONCE\"} ";
    assert_eq!(metric(http, code).await, 1);
    assert_eq!(fixture.records(&["revocation"]).await.len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_evicts_where_references_speak_and_nobody_is_asked_who_cannot_answer() {
    let Some(kernel) = Kernel::boot("server.attest-silent") else {
        return;
    };
    let fixture = kernel.fixture(PACE).await;
    // A machine without a chip is never asked, whatever its agent says.
    let token = fixture.join("t1").await;
    let mut without = connect(&token).await;
    let machine = kernel.join(&fixture).await.unwrap();
    let mut sync = connect(&machine).await;
    question(&mut sync).await;
    let begun = Instant::now();
    ended(&mut sync).await;
    let lasted = begun.elapsed();
    assert!(lasted > Duration::from_secs(3), "{lasted:?}");
    let found = refused(&fixture, 1).await;
    assert_eq!(found[0].code, "ATTEST-MISSED");

    // Without references an agent of an older version, which answers nothing, stays; and is issued nothing.
    fixture.apply(&kernel.estate(None)).await.unwrap();
    let machine = kernel.join(&fixture).await.unwrap();
    let mut sync = machine.sync().await.unwrap();
    hello(&sync, false).await;
    let refused = sync
        .ask("w1", &program(1000, PROGRAM), Vec::new())
        .await
        .err()
        .unwrap();
    assert_eq!(refused.code, "ATTEST-AWAITED", "{refused}");
    assert_eq!(locked(&fixture).await, Value::Null);
    let asked = async { while !matches!(without.next().await.unwrap(), Update::Attest(_)) {} };
    let asked = tokio::time::timeout(Duration::from_millis(10), asked).await;
    assert!(asked.is_err(), "a machine without a chip was asked");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_withdrawn_file_evicts_the_machines_that_ran_it() {
    let Some(kernel) = Kernel::boot("server.attest-withdrawn") else {
        return;
    };
    let fixture = kernel.fixture(SLOW).await;
    let machine = kernel.join(&fixture).await.unwrap();
    let mut sync = connect(&machine).await;
    let asked = question(&mut sync).await;
    pass(&kernel, &mut sync, &asked).await;
    let mut withdrawn = references(&[]);
    withdrawn.withdrawn.push(Withdrawal {
        name: "listed".to_owned(),
        version: None,
        at: facts::Timestamp::from_secs(1_700_000_000),
        reason: "CVE-2026-1234".to_owned(),
    });
    fixture
        .apply(&kernel.estate(Some(&withdrawn)))
        .await
        .unwrap();
    let asked = question(&mut sync).await;
    assert_eq!(asked.ima_entries, 0, "the whole list is judged anew");
    let answer = kernel.answer(&asked).await;
    sync.send(Message::Attestation(answer)).await;
    let found = refused(&fixture, 1).await;
    assert_eq!(found[0].code, "IMA-EXPIRED");
    let observed = found[0].observed.as_deref().unwrap();
    assert!(observed.contains("CVE-2026-1234"), "{observed}");
    ended(&mut sync).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_eviction_and_what_a_machine_proved_survive_kill_9_of_the_server() {
    let Some(mut kernel) = Kernel::boot("server.attest-kill") else {
        return;
    };
    let mut fixture = kernel.fixture(SLOW).await;
    let mut machine = kernel.join(&fixture).await.unwrap();
    fixture.stop().await;
    let path = fixture.dir.path().join("server.toml");
    let config = server::Config::load(&path).unwrap();

    let (process, address) = spawn(&path);
    machine.address = address;
    let mut sync = connect(&machine).await;
    let asked = question(&mut sync).await;
    assert_eq!(
        asked.ima_entries, 0,
        "the list is sent whole after a restart"
    );
    let asked = pass(&kernel, &mut sync, &asked).await;
    kernel.measure("/tmp/evil", [9; 32]);
    let answer = kernel.answer(&asked).await;
    sync.send(Message::Attestation(answer)).await;
    refused(&fixture, 1).await;
    drop(process);

    let kept = server::state_digest(&config).unwrap();
    assert_eq!(kept, server::rebuild_state(&config).unwrap());
    fixture.server = Some(server::start(config).await.unwrap());
    assert_eq!(locked(&fixture).await, "AGENT-EVICTED");
    machine.address = fixture.address();
    let status = machine.sync().await.err().unwrap();
    assert_eq!(finding(&status).code, "CALLER-REVOKED");
    assert_eq!(
        finding(&kernel.join(&fixture).await.err().unwrap()).code,
        "IMA-FILE"
    );
    kernel.reboot();
    kernel.join(&fixture).await.unwrap();
    assert_eq!(locked(&fixture).await, Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_agent_tells_at_once_what_ran_and_comes_back_when_it_is_clean() {
    let Some(mut kernel) = Kernel::boot("server.attest-agent") else {
        return;
    };
    // Asked by the clock it would take ten times as long.
    let fixture = kernel
        .fixture("[attestation]\ninterval_s = 60\nwindow_s = 600\n")
        .await;
    let folder = fixture.dir.path().join("agent");
    std::fs::create_dir_all(&folder).unwrap();
    let list = folder.join("list");
    let write = |kernel: &Kernel| {
        std::fs::write(list.with_extension("new"), kernel.list(0)).unwrap();
        std::fs::rename(list.with_extension("new"), &list).unwrap();
    };
    write(&kernel);
    let (here, tpm, pin) = (folder.display(), kernel.chip.uri(), pin(&fixture).await);
    let text = format!(
        "trust_domain = \"example.org\"\nserver = \"{}\"\npin = \"{pin}\"\n\
         data_dir = \"{here}/data\"\nworkload_socket = \"{here}/api.sock\"\n\
         [join]\nmethod = \"tpm\"\ntpm = \"{tpm}\"\nima_list = \"{}\"\n",
        fixture.address(),
        list.display()
    );
    let config = agent::AgentConfig::parse(&text, std::path::Path::new("agent.toml")).unwrap();
    let stop = tokio_util::sync::CancellationToken::new();
    let running = tokio::spawn(agent::run(config, stop.clone()));
    let http = fixture.running().http_listen;
    let passed = async |least: u64| {
        while metric(http, "trilith_server_attestations_total ").await < least {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, passed(1))
        .await
        .expect("the first answer");
    kernel.measure(LISTED, content(LISTED));
    write(&kernel);
    tokio::time::timeout(PATIENCE, passed(2))
        .await
        .expect("what is new is told at once");

    kernel.measure("/tmp/evil", [9; 32]);
    let begun = Instant::now();
    write(&kernel);
    let found = refused(&fixture, 1).await;
    println!("from the list to the record: {:?}", begun.elapsed());
    assert_eq!(found[0].code, "IMA-FILE");
    assert!(
        begun.elapsed() < Duration::from_secs(30),
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(locked(&fixture).await, "AGENT-EVICTED");

    kernel.reboot();
    write(&kernel);
    let back = async {
        while locked(&fixture).await != Value::Null {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(3 * PATIENCE, back)
        .await
        .expect("it joins again by itself");
    stop.cancel();
    drop(running.await);
}

/// The agent names a digest; only what the kernel has measured in this boot counts where the policy asks.
#[tokio::test(flavor = "multi_thread")]
async fn code_that_the_kernel_has_not_measured_is_the_agents_word_alone() {
    const RUNS: &str = "/usr/bin/program";
    let Some(mut kernel) = Kernel::boot("server.rooted-code") else {
        return;
    };
    let fixture = Fixture::configured(SLOW).await;
    let mut files = kernel.estate(Some(&references(&[RUNS, "/usr/bin/other"])));
    files.insert(
        "policies/rooted.cedar",
        "@id(\"what the kernel has seen\") permit (principal in Pool::\"demo\", \
         action == Action::\"assume\", resource == Identity::\"payments/api\") \
         when { principal has uid && principal.uid == 1000 && principal has code && \
         principal.code has rooted_in_hardware && principal.code.rooted_in_hardware && \
         principal.code has measured_by && principal.code.measured_by == \"ima\" && \
         principal.code has reference && principal.code.reference like \"listed 1 *\" };",
    );
    fixture.apply(&files).await.unwrap();
    let machine = kernel.join(&fixture).await.unwrap();
    let mut sync = connect(&machine).await;
    let asked = question(&mut sync).await;
    let asked = pass(&kernel, &mut sync, &asked).await;
    let says = |path: &str| program(1000, &hex::encode(&content(path)));
    let (_, held) = sync.ask("w1", &says(RUNS), Vec::new()).await.unwrap();
    assert!(held.is_empty(), "it has not been measured yet");

    kernel.measure(RUNS, content(RUNS));
    let answer = kernel.answer(&asked).await;
    sync.send(Message::Attestation(answer)).await;
    let told = loop {
        if let Update::Reconsider(told) = sync.next().await.unwrap() {
            break told;
        }
    };
    assert_eq!(told.workloads, ["w1"]);
    let (_, held) = sync.ask("w1", &says(RUNS), Vec::new()).await.unwrap();
    assert_eq!(held.len(), 1);

    // A file that may run, and has not.
    let lie = says("/usr/bin/other");
    let (_, held) = sync.ask("w2", &lie, Vec::new()).await.unwrap();
    assert!(held.is_empty());
    // Beside a digest that was measured, another that was not.
    for other in [
        "sha256:".to_owned() + &"1".repeat(64),
        "sha512:".to_owned() + &"1".repeat(128),
    ] {
        let mut lie = says(RUNS);
        let now = facts::Timestamp::now();
        lie.state("code.fsverity", other, facts::Source::Asserted, now);
        let (_, held) = sync.ask("w3", &lie, Vec::new()).await.unwrap();
        assert!(held.is_empty());
    }
    // What was measured in another boot.
    kernel.reboot();
    let machine = kernel.join(&fixture).await.unwrap();
    let mut sync = connect(&machine).await;
    kernel.prove(&mut sync).await;
    let (_, held) = sync.ask("w4", &says(RUNS), Vec::new()).await.unwrap();
    assert!(held.is_empty());
}
