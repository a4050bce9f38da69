//! Chips that are put back while nobody looks: the server starts again between two answers, or another chip of
//! the same machine answers.

use crate::attesting::{SLOW, ended, refused};
use crate::harness::{Fixture, PATIENCE, Sync, finding};
use crate::kernel::{attested, question, quote};
use crate::tpm::start;
use crate::tpm_renewal::{chips, join, name, tool};
use proto::v1;
use proto::v1::node_message::Message;
use std::fs;
use std::path::Path;
use std::time::Duration;
use testkit::swtpm::Swtpm;

/// Milliseconds, as `tpm2_setclock` takes them.
const DAY: &str = "86400000";
const HALF_A_DAY: &str = "43200000";

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

/// A chip whose state is copied while it is off.
struct Copied {
    chip: Swtpm,
    copy: tempfile::TempDir,
}

impl Copied {
    fn of(mut chip: Swtpm) -> Self {
        let folder = testkit::temp_dir().unwrap();
        chip.power_off();
        copy(&chip.state(), folder.path());
        chip.power_on().unwrap();
        Self { chip, copy: folder }
    }

    /// As when it was copied, and started as often since: it counts the boots that it did.
    fn put_back(&mut self) {
        self.chip.power_off();
        copy(self.copy.path(), &self.chip.state());
        self.chip.power_on().unwrap();
    }
}

fn copied(test: &str) -> Option<Copied> {
    let (chip, _) = chips(test)?;
    if let Err(why) = testkit::tools(["tpm2_setclock", "tpm2_clear", "tpm2_shutdown"]) {
        testkit::skip(test, &why);
        return None;
    }
    Some(Copied::of(chip))
}

async fn next(sync: &mut Sync) -> v1::AttestRequest {
    tokio::time::timeout(PATIENCE, question(sync))
        .await
        .expect("it passed: there is another")
}

async fn because(fixture: &Fixture) -> String {
    let recorded = async {
        loop {
            let locks = fixture.records(&["lock"]).await;
            if !locks.is_empty() {
                return locks;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let locks = tokio::time::timeout(PATIENCE, recorded).await;
    let locks = locks.expect("it is locked behind its eviction");
    assert_eq!(locks.len(), 1, "{locks:?}");
    let observed = &locks[0].1["body"]["finding"]["observed"];
    observed.as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_starts_again_knows_in_an_answer_what_a_chip_counted_in_its_last() {
    let Some(mut copied) = copied("server.tpm-restart") else {
        return;
    };
    let mut fixture = start(&copied.chip, SLOW).await;
    let mut machine = join(&fixture, &copied.chip, None).await.unwrap();
    tool(&copied.chip, &["tpm2_setclock", DAY]);
    let mut sync = attested(&copied.chip, &machine).await;
    next(&mut sync).await;
    fixture.restart().await;
    machine.address = fixture.address();
    copied.put_back();
    tool(&copied.chip, &["tpm2_setclock", HALF_A_DAY]);
    let mut sync = machine.sync().await.unwrap();
    sync.send(Message::Hello(v1::NodeHello::default())).await;
    let asked = next(&mut sync).await;
    let answer = quote(&copied.chip, &asked).await;
    sync.send(Message::Attestation(answer)).await;
    assert_eq!(refused(&fixture, 1).await[0].code, "TPM-CLOCK-BACK");
    ended(&mut sync).await;
    let because = because(&fixture).await;
    assert!(because.contains("TPM-CLOCK-BACK"), "{because}");
}

/// Its verdict shows less than its last answer.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_starts_again_knows_at_a_join_what_a_chip_counted_in_its_last_answer() {
    let Some(mut copied) = copied("server.tpm-restart-join") else {
        return;
    };
    let mut fixture = start(&copied.chip, SLOW).await;
    let machine = join(&fixture, &copied.chip, None).await.unwrap();
    tool(&copied.chip, &["tpm2_setclock", DAY]);
    let mut sync = attested(&copied.chip, &machine).await;
    next(&mut sync).await;
    fixture.restart().await;
    copied.put_back();
    tool(&copied.chip, &["tpm2_setclock", HALF_A_DAY]);
    let refused = finding(&join(&fixture, &copied.chip, None).await.err().unwrap());
    assert_eq!(refused.code, "AGENT-LOCKED");
    let observed = refused.observed.unwrap();
    assert!(observed.contains("TPM-CLOCK-BACK"), "{observed}");
    fixture.readmit(&name(&machine)).await;
    // What it counts then is where it begins anew.
    join(&fixture, &copied.chip, None).await.unwrap();
    fixture.restart().await;
    join(&fixture, &copied.chip, None).await.unwrap();
}

/// The estate means one machine by both. One was started often, the other seldom.
#[tokio::test(flavor = "multi_thread")]
async fn chips_of_one_machine_are_compared_each_with_itself() {
    let Some((mut often, seldom)) = chips("server.tpm-two-chips") else {
        return;
    };
    if let Err(why) = testkit::tools(["tpm2_clear"]) {
        return testkit::skip("server.tpm-two-chips", &why);
    }
    for _ in 0..3 {
        often.power_off();
        often.power_on().unwrap();
    }
    let mut fixture = start(&often, SLOW).await;
    let pinned = |chip: &Swtpm| {
        let mut tpm = device::tpm::Tpm::open(&chip.uri()).unwrap();
        crypto::hex::encode(&crypto::sha256(&tpm.endorsement().unwrap().public))
    };
    let machine = format!(
        "[[machine]]\nname = \"m1\"\nek_sha256 = [\"{}\", \"{}\"]\npool = \"demo\"\n",
        pinned(&often),
        pinned(&seldom)
    );
    let roots = [often.root_pem(), often.issuer_pem()];
    let roots = roots.map(|path| fs::read_to_string(path).unwrap());
    let root = format!(
        "[[tpm_root]]\nname = \"test\"\nemulated = true\npem = '''\n{}'''\n",
        roots.concat()
    );
    let mut estate = crate::harness::estate();
    estate.insert("references/tpm.toml", root + &machine);
    fixture.apply(&estate).await.unwrap();
    for chip in [&often, &seldom, &often] {
        let joined = join(&fixture, chip, None).await.unwrap();
        assert_eq!(name(&joined), "m1");
    }
    // The machine's last verdict is the other's.
    join(&fixture, &seldom, None).await.unwrap();
    fixture.restart().await;
    tool(&often, &["tpm2_clear", "-c", "platform"]);
    let refused = finding(&join(&fixture, &often, None).await.err().unwrap());
    assert_eq!(refused.code, "AGENT-LOCKED");
    let observed = refused.observed.unwrap();
    assert!(observed.contains("TPM-BOOT-REWOUND"), "{observed}");
}
