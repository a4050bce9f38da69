//! Machines that would have what was found of them unrecorded or forgotten: chips that are put back, and refusals
//! without an end. And whoever would have a machine locked again and again.

use crate::attesting::{SLOW, locked, refused};
use crate::harness::{Fixture, PATIENCE, finding};
use crate::kernel::{attested, question, references};
use crate::tpm::start;
use crate::tpm_renewal::{chips, join, name, tool};
use attest_tpm::continuous::Standing;
use crypto::{Algorithm, KeyPair};
use facts::{FactSet, Source, Timestamp, Value, Verdict, Warrant};
use proto::v1;
use server::bench::Node;
use store::{Change, Store};
use testkit::chip::Chip;
use testkit::swtpm::Swtpm;

/// `m1`, which has a chip of software whose clock shows five seconds, and its first question.
async fn asked(fixture: &Fixture) -> (Node, Chip, v1::AttestRequest) {
    let mut estate = crate::harness::estate();
    estate.insert("references/files.json", references(&[]).to_json());
    fixture.apply(&estate).await.unwrap();
    let mut chip = Chip::booted().unwrap();
    let now = Timestamp::now();
    let mut machine = FactSet::new();
    for (name, value) in [("machine.name", "m1"), ("machine.join", "tpm")] {
        machine.state(name, value, Source::Verified, now);
    }
    let key = KeyPair::generate(Algorithm::EcdsaP256).unwrap();
    let key = crypto::Signer::public_key(&key).clone();
    let every = Warrant::of(Source::Verified, &[""]);
    let verdict = Verdict::affirmed(&every, machine, Vec::new());
    let node = Node::admit(fixture.running(), "m1", key, verdict)
        .await
        .unwrap();
    chip.clock = 5_000;
    let quoted = chip.quote(&[0; 32]).unwrap();
    let standing = Standing::kept(&chip.public(), &quoted.attested, &quoted.values.concat());
    let asked = node.stands(standing.unwrap()).await.unwrap().unwrap();
    (node, chip, asked)
}

fn answer(chip: &Chip, asked: &v1::AttestRequest) -> v1::Attestation {
    let quoted = chip.quote(&asked.nonce).unwrap();
    v1::Attestation {
        nonce: asked.nonce.clone(),
        quote: quoted.attested,
        quote_signature: quoted.signature,
        pcr_values: quoted.values,
        ima_first: 0,
        ima_list: chip.list_from(0),
        enforcement: None,
    }
}

/// An eviction would be lifted by the next clean join, which is compared with the last verdict.
#[tokio::test(flavor = "multi_thread")]
async fn a_chip_that_is_put_back_between_two_answers_is_locked() {
    let fixture = Fixture::start_with(SLOW).await;
    let (node, mut chip, asked) = asked(&fixture).await;
    chip.clock = 4_000;
    let next = node.answer(answer(&chip, &asked)).await.unwrap();
    assert!(next.is_none());
    assert_eq!(refused(&fixture, 1).await[0].code, "TPM-CLOCK-BACK");
    assert_eq!(locked(&fixture).await, "AGENT-LOCKED");
    let locks = fixture.records(&["lock"]).await;
    assert_eq!(locks.len(), 1);
    let observed = &locks[0].1["body"]["finding"]["observed"];
    assert!(
        observed.as_str().unwrap().contains("TPM-CLOCK-BACK"),
        "{observed}"
    );
}

/// What an agent says beside its machine's quote.
#[tokio::test(flavor = "multi_thread")]
async fn what_comes_with_a_bad_answer_is_not_believed() {
    for (clock, believed) in [(4_000, false), (6_000, true)] {
        let fixture = Fixture::start_with(SLOW).await;
        let (node, mut chip, asked) = asked(&fixture).await;
        let told = async || {
            let agents = fixture.admin().await.agents(v1::StatusRequest {}).await;
            let agents = agents.unwrap().into_inner().json;
            let agents: serde_json::Value = serde_json::from_str(&agents).unwrap();
            agents["agents"][0]["enforcement"].clone()
        };
        let before = told().await;
        chip.clock = clock;
        let said = v1::Enforcement {
            supported: true,
            enforce: true,
            policy: "trilith".to_owned(),
            version: "0.0.1".to_owned(),
            ..v1::Enforcement::default()
        };
        let mut sent = answer(&chip, &asked);
        sent.enforcement = Some(said);
        node.answer(sent).await.unwrap();
        assert_eq!(told().await != before, believed, "{before}");
    }
}

/// Sixteen files, and names of letters that take four bytes each.
#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_runs_much_with_long_names_is_evicted_all_the_same() {
    let fixture = Fixture::start_with(SLOW).await;
    let (node, mut chip, asked) = asked(&fixture).await;
    for number in 0..16 {
        let path = format!("/tmp/{number}{}", "\u{1d54f}".repeat(190));
        chip.measure(&path, [number; 32]);
    }
    node.answer(answer(&chip, &asked)).await.unwrap();
    assert_eq!(refused(&fixture, 1).await[0].code, "IMA-FILE");
    assert_eq!(locked(&fixture).await, "AGENT-EVICTED");
    assert_eq!(fixture.records(&["revocation"]).await.len(), 1);
}

/// It shows more than at its join, and less than in its last answer.
#[tokio::test(flavor = "multi_thread")]
async fn a_join_does_not_hide_that_a_chip_was_put_back_since_its_last_answer() {
    let Some((mut chip, _)) = chips("server.tpm-hidden") else {
        return;
    };
    if let Err(why) = testkit::tools(["tpm2_clear", "tpm2_setclock", "tpm2_shutdown"]) {
        return testkit::skip("server.tpm-hidden", &why);
    }
    let fixture = start(&chip, SLOW).await;
    let machine = join(&fixture, &chip, None).await.unwrap();
    // A day.
    tool(&chip, &["tpm2_setclock", "86400000"]);
    let mut sync = attested(&chip, &machine).await;
    // It passed: there is another.
    tokio::time::timeout(PATIENCE, question(&mut sync))
        .await
        .unwrap();
    let verdict: facts::Stated = serde_json::from_slice(&machine.joined.verdict).unwrap();
    let Some(Value::Integer(boots)) = verdict.facts.value("machine.boot.reset_count") else {
        panic!("a count");
    };
    put_back(&mut chip, *boots);
    // Half a day.
    tool(&chip, &["tpm2_setclock", "43200000"]);
    let refused = finding(&join(&fixture, &chip, None).await.err().unwrap());
    assert_eq!(refused.code, "AGENT-LOCKED");
    let observed = refused.observed.unwrap();
    assert!(observed.contains("TPM-CLOCK-BACK"), "{observed}");
    fixture.readmit(&name(&machine)).await;
    join(&fixture, &chip, None).await.unwrap();
}

/// In the same boot, by what it counts.
fn put_back(chip: &mut Swtpm, boots: i64) {
    tool(chip, &["tpm2_clear", "-c", "platform"]);
    for _ in 0..boots {
        tool(chip, &["tpm2_shutdown", "-c"]);
        chip.power_off();
        chip.power_on().unwrap();
    }
}

/// Whoever once had a copy of a machine's disk, and has a machine of their own.
#[tokio::test(flavor = "multi_thread")]
async fn a_stolen_state_locks_its_machine_once_and_not_after_each_readmission() {
    let Some((chip, thiefs)) = chips("server.tpm-stolen") else {
        return;
    };
    let fixture = start(&chip, "").await;
    let machine = join(&fixture, &chip, None).await.unwrap();
    let thief = join(&fixture, &thiefs, None).await.unwrap();
    let code = async |id| {
        let refused = join(&fixture, &thiefs, Some((&machine, id))).await;
        finding(&refused.err().unwrap()).code
    };
    assert_eq!(code([1; 16]).await, "AGENT-STATE-LOCKED");
    assert_eq!(fixture.records(&["lock"]).await.len(), 2);

    fixture.readmit(&name(&machine)).await;
    fixture.readmit(&name(&thief)).await;
    // Before the machine is back, and afterwards.
    assert_eq!(code([2; 16]).await, "AGENT-STATE-DEAD");
    join(&fixture, &chip, Some((&machine, [3; 16])))
        .await
        .unwrap();
    assert_eq!(code([4; 16]).await, "AGENT-STATE-DEAD");
    assert_eq!(fixture.records(&["lock"]).await.len(), 2);
}

/// Whoever writes to the database's file has one machine stand on what another has proved.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_database_says_of_a_machine_is_not_issued_on_unless_the_ledger_says_it() {
    let mut fixture = Fixture::start().await;
    let mut machine = fixture.join("m1").await;
    fixture.join("m2").await;
    for with_verdict in [false, true] {
        fixture.stop().await;
        let mut store = Store::open(&fixture.dir.path().join("data/state.sqlite")).unwrap();
        let (applied, rows) = store.load().unwrap();
        let row = |name: &str| rows.nodes.iter().find(|row| row.name == name).unwrap();
        let (mut changed, other) = (row("m1").clone(), row("m2"));
        changed.facts.clone_from(&other.facts);
        if with_verdict {
            changed.verdict = other.verdict;
        }
        store.absorb(applied, [&Change::Node(changed)]).unwrap();
        drop(store);
        fixture.go_on().await;
        machine.address = fixture.address();
        let refused = machine.renew([1; 16]).await.err().unwrap();
        assert_eq!(finding(&refused).code, "SERVER-BLOB", "{with_verdict}");
    }
}
