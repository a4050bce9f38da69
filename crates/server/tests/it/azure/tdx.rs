//! The same on TDX: the paravisor's report holds what only its host can check, and a quote of it comes beside.

use super::{Site, VM, claims, facts_of, key, pinned};
use crate::harness::{DOMAIN, PROGRAM, finding, program};
use crate::tee_forged::domain;
use crate::tee_forged::forge_azure::{SNP, TDX, hcl, report_data};
use crate::tee_forged::forge_intel::Platform;
use crate::tpm::{evidence, pin};
use agent::AgentConfig;
use proto::v1;
use proto::v1::join_client::JoinClient;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;
use testkit::swtpm::Attributes;
use tokio_util::sync::CancellationToken;

const GOOD: &str = "kind = \"azure-tdx\"\nroot = \"lab-tdx\"\n[[tee.image]]\nname = \"paravisor\"\n\
    mrtd = \"3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d\"\n";

fn asked() -> String {
    format!("[[tee]]\n{GOOD}[[tee]]\npool = \"demo\"\n{GOOD}")
}

/// What Azure's host makes of what a paravisor with these runtime data reports.
fn quote(claims: &str, change: impl FnOnce(&mut Platform)) -> Vec<u8> {
    let mut domain = domain();
    domain.put(520, &report_data(claims));
    change(&mut domain);
    domain.quote()
}

fn report(claims: &str) -> Vec<u8> {
    hcl(TDX, &[0x81; 1024], claims)
}

fn shown(report: Vec<u8>, quote: Vec<u8>) -> Option<v1::TeeEvidence> {
    Some(v1::TeeEvidence {
        kind: "azure-tdx".to_owned(),
        report,
        auxiliary: quote,
        ..v1::TeeEvidence::default()
    })
}

impl Site {
    fn claims(&self) -> String {
        claims(&self.chip.modulus().unwrap(), VM)
    }

    fn honest_domain(&self) -> Option<v1::TeeEvidence> {
        let claims = self.claims();
        shown(report(&claims), quote(&claims, |_| {}))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paravisor_on_tdx_vouches_for_the_key_of_its_machine() {
    let Some(site) = Site::start("server.azure-tdx-join", Attributes::Azure, "").await else {
        return;
    };
    let ak = site.ak();
    site.ask(&asked(), &pinned(&ak)).await;
    let machine = site.join(site.honest_domain()).await.unwrap();
    let facts = facts_of(&machine);
    for (name, value) in [
        ("machine.name", "web-1"),
        ("machine.tpm.kind", "tee"),
        ("machine.tpm.ak_chain", "vouched"),
        ("machine.tpm.ak_sha256", ak.as_str()),
        ("machine.tee.kind", "azure-tdx"),
        ("machine.tee.image", "paravisor"),
        ("machine.tee.root", "lab-tdx"),
        ("machine.tee.tcb.status", "UpToDate"),
        ("machine.cloud.provider", "azure"),
        ("machine.cloud.instance_id", VM.to_lowercase().as_str()),
    ] {
        assert_eq!(facts.text(name), Some(value), "{name}");
    }
    let (_, verdict) = site.fixture.records(&["verdict"]).await.pop().unwrap();
    let kept = verdict["body"]["evidence"].to_string();
    for kind in ["tpm-quote", "hcl-report", "tdx-quote", "tdx-collateral"] {
        assert!(kept.contains(kind), "{kept}");
    }
    let mut sync = crate::kernel::attested(&site.chip.chip, &machine).await;
    let (_, held) = sync
        .ask("w1", &program(1000, PROGRAM), Vec::new())
        .await
        .unwrap();
    assert_eq!(held.len(), 1, "by a policy that asks for the hardware");
    let renewed = site.renew(&machine, [1; 16], site.honest_domain()).await;
    assert_eq!(renewed.unwrap().joined.node_id, machine.joined.node_id);

    // Evidence that is kept is tried on an estate as a join's is.
    let tried = async |asked: &str| {
        let request = v1::DryRunRequest {
            files: super::files(asked, &pinned(&ak)).to_blob(),
            node: "web-1".to_owned(),
            ..v1::DryRunRequest::default()
        };
        let mut admin = site.fixture.admin().await;
        let mut told = admin.attest_dry_run(request).await.unwrap().into_inner();
        let first = told.message().await.unwrap().unwrap();
        let first: serde_json::Value = serde_json::from_str(&first.json).unwrap();
        first["outcome"].as_str().unwrap().to_owned()
    };
    assert_eq!(tried(&asked()).await, "kept");
    assert_eq!(tried(&asked().replace("3d3d", "3e3e")).await, "evicted");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_lie_of_a_paravisor_on_tdx_is_refused_and_nobody_joins() {
    let Some(site) = Site::start("server.azure-tdx-lies", Attributes::Azure, "").await else {
        return;
    };
    site.ask(&asked(), "").await;
    let ours = site.claims();
    let mut theirs = site.chip.modulus().unwrap();
    theirs[100] ^= 1;
    let theirs = claims(&theirs, VM);
    let good = quote(&ours, |_| {});
    let cases: Vec<(&str, &str, Option<v1::TeeEvidence>)> = vec![
        ("TPM-AK-UNKNOWN", "no report", None),
        (
            "TPM-AK-VOUCHED",
            "report and quote of another machine",
            shown(report(&theirs), quote(&theirs, |_| {})),
        ),
        (
            "TEE-TDX-REPORT-DATA",
            "the quote of another machine beside this one's report",
            shown(report(&ours), quote(&theirs, |_| {})),
        ),
        (
            "TEE-TDX-REPORT-DATA",
            "another id in the runtime data",
            shown(report(&ours.replace("26F8BC30", "26F8BC31")), good.clone()),
        ),
        (
            "TEE-INTEL-VERSION",
            "the report without a quote",
            shown(report(&ours), Vec::new()),
        ),
        (
            "TEE-AZURE-KIND",
            "a report of the other hardware",
            shown(hcl(SNP, &[0; 1184], &ours), good.clone()),
        ),
        (
            "TEE-TDX-DEBUG",
            "a paravisor that may be debugged",
            shown(
                report(&ours),
                quote(&ours, |it| it.put(120, &((1_u64 << 28) | 1).to_le_bytes())),
            ),
        ),
        (
            "TEE-TDX-IMAGE",
            "another paravisor, or none, which vouches for any key",
            shown(report(&ours), quote(&ours, |it| it.put(136, &[0x3e; 48]))),
        ),
        (
            "TEE-INTEL-SIGNATURE",
            "signed by another key",
            shown(report(&ours), quote(&ours, |it| it.wrong.quote = true)),
        ),
        (
            "TPM-AK-UNKNOWN",
            "the quote of a trust domain, which vouches for no key",
            Some(v1::TeeEvidence {
                kind: "tdx".to_owned(),
                report: good.clone(),
                ..v1::TeeEvidence::default()
            }),
        ),
    ];
    for (code, what, tee) in cases {
        assert_eq!(site.refused(tee).await, code, "{what}");
    }
    // Against Intel's own root; where SEV-SNP is asked for; where nothing is.
    let vendors = asked().replace("root = \"lab-tdx\"\n", "");
    let others = super::asked();
    for (asked, code) in [
        (vendors.as_str(), "TEE-INTEL-CHAIN"),
        (others.as_str(), "TPM-AK-UNKNOWN"),
        ("", "TPM-AK-UNKNOWN"),
    ] {
        site.ask(asked, "").await;
        assert_eq!(site.refused(site.honest_domain()).await, code, "{asked}");
    }
    // Good hardware does not make up for a TPM that lies.
    site.ask(&asked(), "").await;
    let (link, mut finish) = evidence(&site.fixture, &site.chip.chip, &key()).await;
    finish.tee = site.honest_domain();
    finish.quote_signature.reverse();
    let refused = JoinClient::new(link.channel).tpm_finish(finish).await;
    let code = finding(&refused.unwrap_err()).code;
    assert!(code.starts_with("TPM-"), "{code}");
    assert_eq!(site.count("node-state").await, 0, "nobody joined");
}

/// The host's service, which makes `quote` of any report; stays until the test ends.
fn host(quote: &[u8]) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let quote = crypto::base64::encode_url(quote);
    let answer = format!("HTTP/1.1 200 OK\r\n\r\n{{\"quote\":\"{quote}\"}}");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = Vec::new();
            let mut part = [0; 4096];
            while !request.ends_with(b"}") {
                let read = stream.read(&mut part).unwrap();
                request.extend(&part[..read]);
            }
            stream.write_all(answer.as_bytes()).unwrap();
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_agent_on_tdx_asks_its_host_for_the_quote() {
    let name = "server.azure-tdx-agent";
    let Some(site) = Site::start(name, Attributes::Azure, "").await else {
        return;
    };
    site.ask(&asked(), &pinned(&site.ak())).await;
    let claims = site.claims();
    site.chip.report(&report(&claims)).unwrap();
    let quotes = host(&quote(&claims, |_| {}));
    let pin = pin(&site.fixture).await;
    let config = |quotes: &str| {
        let here = site.fixture.dir.path().display();
        let text = format!(
            "trust_domain = \"{DOMAIN}\"\nserver = \"{}\"\npin = \"{pin}\"\n\
             data_dir = \"{here}/agent\"\nworkload_socket = \"{here}/agent.sock\"\n\
             [join]\nmethod = \"tpm\"\ntpm = \"{}\"\n\
             [join.tee]\nparavisor = \"azure\"\nquotes = \"{quotes}\"\n",
            site.fixture.address(),
            site.chip.chip.uri(),
        );
        AgentConfig::parse(&text, Path::new("agent.toml")).unwrap()
    };
    // Nobody answers: it does not join as something less.
    let ended = agent::run(config("127.0.0.1:1"), CancellationToken::new()).await;
    assert!(format!("{:?}", ended.unwrap_err()).contains("AGENT-TEE"));
    assert_eq!(site.count("node-state").await, 0);
    let stop = CancellationToken::new();
    let running = tokio::spawn(agent::run(config(&quotes.to_string()), stop.clone()));
    let joined = async {
        while site.count("node-state").await < 1 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let joined = tokio::time::timeout(Duration::from_secs(90), joined).await;
    joined.expect("a join");
    stop.cancel();
    running.await.unwrap().unwrap();
}
