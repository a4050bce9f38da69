//! Joins whose endorsements are fetched, from a vendor of the test's own.

use super::{
    GOOD, SNP, Show, Site, TDX, facts_of, finding, guest, honest, honest_domain, report, shown,
};
use crate::harness::metric;
use crate::stock::{SNP_CRL, snp_key, stock};
use crate::tee_forged::{bundle, domain};
use crate::vendor::{Reply, Vendor, authority};
use proto::v1::join_client::JoinClient;
use std::time::Duration;
use testkit::tsm::Tsm;
use tokio_util::sync::CancellationToken;

/// Longer than a loaded machine takes.
const WAIT: &str = "wait_ms = 20000\n";

/// A site whose file of endorsements is empty, and that may ask this vendor.
async fn site(test: &str, vendor: &Vendor, terms: &str) -> Option<(Site, tempfile::TempDir)> {
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, authority()).unwrap();
    stock(vendor, &guest(), &domain());
    let mut configuration = format!("[tee_fetch]\n{terms}");
    for (kind, root) in [("amd", "lab"), ("intel", "lab-tdx")] {
        configuration.push_str(&format!(
            "[[tee_fetch.source]]\nvendor = \"{kind}\"\nroot = \"{root}\"\nurl = \"{}\"\nca = \"{}\"\n",
            vendor.url(),
            ca.display()
        ));
    }
    let asked = TDX.to_owned() + SNP + GOOD;
    let site = Site::start(test, &asked, &configuration).await?;
    site.endorse("{\"version\": 1}");
    Some((site, folder))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_machine_needs_is_fetched_once_and_judged_like_any_other() {
    let vendor = Vendor::start().await;
    let Some((site, _folder)) = site("server.tee-fetch", &vendor, WAIT).await else {
        return;
    };
    let machine = site.join(honest).await.unwrap();
    let facts = facts_of(&machine);
    assert_eq!(facts.text("machine.tee.image"), Some("prod"));
    assert_eq!(facts.text("machine.tee.revocation"), Some("checked"));
    let mut asked = vendor.asked();
    asked.sort();
    assert_eq!(asked, [snp_key(), SNP_CRL.to_owned()]);
    site.renew(&machine, [1; 16], honest).await.unwrap();
    assert_eq!(vendor.asked().len(), 0, "it is kept");

    let machine = site.join(honest_domain).await.unwrap();
    assert_eq!(facts_of(&machine).text("machine.tee.kind"), Some("tdx"));
    assert_eq!(vendor.asked().len(), 4);
    // What was fetched takes away like what was brought: a lie stays one.
    let lies = site.refused(|asked| {
        let mut guest = guest();
        guest.put(0x90, &[0x3f; 48]);
        shown("sev-snp", report(&guest, asked))
    });
    assert_eq!(lies.await, "TEE-SNP-IMAGE");
    let http = site.fixture.running().http_listen;
    let good = "trilith_server_endorsement_requests_total{outcome=\"good\"}";
    assert_eq!(metric(http, good).await, 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_asked_on_behalf_of_a_machine_that_is_refused_anyway() {
    let vendor = Vendor::start().await;
    let Some((site, _folder)) = site("server.tee-fetch-guard", &vendor, WAIT).await else {
        return;
    };
    // Its TPM lies.
    let (link, mut finish, asked, _) = site.evidence().await;
    finish.tee = honest(&asked);
    finish.quote_signature.reverse();
    let refused = JoinClient::new(link.channel).tpm_finish(finish).await;
    assert!(finding(&refused.unwrap_err()).code.starts_with("TPM-"));
    // Its quote leads to no root of Intel's; its chip is masked; it is of a generation that is not accepted.
    let lies: Vec<(&str, Show<'_>)> = vec![
        (
            "TEE-INTEL-SIGNATURE",
            Box::new(|asked| {
                let mut domain = domain();
                domain.put(520, asked);
                domain.wrong.quote = true;
                shown("tdx", domain.quote())
            }),
        ),
        (
            "TEE-SNP-STRUCTURE",
            Box::new(|_| shown("sev-snp", vec![0; 100])),
        ),
    ];
    for (code, show) in lies {
        assert_eq!(site.refused(show).await, code);
    }
    let genoa = SNP.to_owned() + &GOOD.replace("milan", "genoa");
    site.ask(&genoa).await;
    assert_eq!(site.refused(honest).await, "TEE-ENDORSEMENT-MISSING");
    // The pool asks for no hardware.
    site.ask("").await;
    site.join(honest).await.unwrap();
    assert_eq!(vendor.asked(), Vec::<String>::new());
    // Below the vendor's own root, of which there is no source.
    site.ask(&(SNP.replace("root = \"lab\"\n", "") + GOOD))
        .await;
    assert_eq!(site.refused(honest).await, "TEE-ENDORSEMENT-FETCH");
    assert_eq!(vendor.asked(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vendor_that_fails_refuses_and_evicts_nobody_and_the_file_stands_in() {
    let vendor = Vendor::start().await;
    let Some((site, _folder)) = site("server.tee-fetch-away", &vendor, WAIT).await else {
        return;
    };
    vendor.otherwise(Reply::status(500));
    site.endorse(&bundle(&guest(), &domain()));
    let machine = site.join(honest).await.unwrap();
    assert_eq!(vendor.asked(), Vec::<String>::new(), "the file comes first");
    site.endorse("{\"version\": 1}");
    let refused = site.renew(&machine, [1; 16], honest).await.err().unwrap();
    let refused = finding(&refused);
    assert_eq!(refused.code, "TEE-ENDORSEMENT-FETCH");
    let observed = refused.observed.unwrap();
    assert!(observed.contains("it answered 500"), "{observed}");
    assert!(
        refused
            .next
            .unwrap()
            .contains("trilith attest endorsements fetch")
    );
    assert!(vendor.asked().len() <= 2);
    assert_eq!(site.count("revocation").await, 0);
    let states = site.fixture.records(&["node-state"]).await;
    assert_eq!(states.last().unwrap().1["body"]["state"], "joined");
    site.endorse(&bundle(&guest(), &domain()));
    site.renew(&machine, [2; 16], honest).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_join_waits_no_longer_than_it_may_and_finds_what_came() {
    let vendor = Vendor::start().await;
    let terms = "wait_ms = 300\n";
    let Some((site, _folder)) = site("server.tee-fetch-wait", &vendor, terms).await else {
        return;
    };
    let list = Reply::good(&guest().crl().unwrap());
    let late = Reply::Late(Duration::from_millis(2_500), Box::new(list));
    vendor.put(SNP_CRL, late);
    assert_eq!(site.refused(honest).await, "TEE-ENDORSEMENT-PENDING");
    assert_eq!(site.count("node-state").await, 0);
    let joined = async {
        while let Err(refused) = site.join(honest).await {
            assert_eq!(finding(&refused).code, "TEE-ENDORSEMENT-PENDING");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), joined)
        .await
        .expect("it comes");
    assert_eq!(vendor.asked().len(), 2, "each was asked for once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_agent_joins_once_what_it_needs_has_come() {
    let vendor = Vendor::start().await;
    let test = "server.tee-fetch-agent";
    let terms = "wait_ms = 300\n";
    let Some((site, _folder)) = site(test, &vendor, terms).await else {
        return;
    };
    let list = Reply::good(&guest().crl().unwrap());
    let late = Reply::Late(Duration::from_secs(2), Box::new(list));
    vendor.put(SNP_CRL, late);
    let answers = |asked: &[u8]| (report(&guest(), &asked.try_into().unwrap()), Vec::new());
    let tsm = match Tsm::mount("sev_guest", Some(0), Box::new(answers)) {
        Ok(tsm) => tsm,
        Err(missing) => return testkit::skip(test, &missing),
    };
    let config = site.agent(tsm.root()).await;
    let stop = CancellationToken::new();
    let running = tokio::spawn(agent::run(config, stop.clone()));
    let joined = async {
        while site.count("node-state").await == 0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), joined)
        .await
        .expect("it asks again by itself");
    stop.cancel();
    running.await.unwrap().unwrap();
    assert_eq!(vendor.asked().len(), 2);
}
