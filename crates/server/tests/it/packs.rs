//! Packs as the server makes them: they show that nothing was left out, wherever the ledgers are small enough.

use crate::follower::Gateway;
use crate::harness::{DOMAIN, Fixture, PROGRAM, program};
use crypto::Signer as _;
use ledger::body::{ActionOn, Begin, Body as _, Coverage, Intent, Outcome, SessionStart};
use ledger::pack::{Doubt, Question, Report, Trust, verify};
use ledger::{Base64, Decimal, RecordBuilder};
use ledger_store::{Ledger, Options};
use proto::v1::gateway_message::Message;
use proto::v1::{GatewayHead, PackRequest, SegmentData, delta};
use std::sync::Arc;

const API: &str = "spiffe://example.org/payments/api";
const OTHER: &str = "spiffe://example.org/reporting/nightly";

pub(crate) async fn pack(fixture: &Fixture, question: &str) -> Vec<u8> {
    let question = question.to_owned();
    let mut admin = fixture.admin().await;
    let stream = admin
        .pack(PackRequest {
            question,
            ..PackRequest::default()
        })
        .await;
    let mut stream = stream.unwrap().into_inner();
    let mut pack = Vec::new();
    while let Some(chunk) = stream.message().await.unwrap() {
        pack.extend(chunk.data);
    }
    pack
}

pub(crate) async fn trust(fixture: &Fixture) -> Trust {
    Trust {
        trust_domain: DOMAIN.to_owned(),
        ledger_key: fixture.ledger_key().await,
        x509_authorities: Vec::new(),
        policy: None,
    }
}

pub(crate) async fn verified(fixture: &Fixture, question: &str) -> Report {
    let trust = trust(fixture).await;
    verify(&pack(fixture, question).await, &trust).unwrap()
}

/// A gateway's ledger, which its stream hands to the server.
pub(crate) struct Recording {
    gateway: Gateway,
    pub(crate) own: Ledger,
    seen: u64,
}

impl Recording {
    pub(crate) async fn start(fixture: &Fixture) -> Self {
        let gateway = Gateway::connect(fixture, 2000).await.unwrap();
        gateway.hello(0, Vec::new()).await;
        let dir = fixture.dir.path().join("gateway");
        let origin = format!("{DOMAIN}/gateway/pg");
        let signer = Arc::clone(&gateway.signer) as _;
        let own = Ledger::open(&dir, signer, &origin, &Options::default()).unwrap();
        Self {
            gateway,
            own,
            seen: 0,
        }
    }

    /// The first record, as a gateway begins its ledger with it: whoever reads its folder needs it.
    pub(crate) fn begin(&self) {
        let begin = Begin {
            trust_domain: DOMAIN.to_owned(),
            ledger_key: Base64(self.gateway.signer.public_key().spki_der().to_vec()),
            format: "v1".to_owned(),
        };
        self.append("spiffe://example.org/gateway/pg", begin.record());
    }

    /// A session of `identity` with so many queries.
    pub(crate) fn session(&self, identity: &str, queries: u64) {
        let session = format!("s{}", self.own.reader().size());
        let start = SessionStart {
            session: session.clone(),
            spiffe_id: identity.to_owned(),
            serial: "a1".to_owned(),
            issuance: None,
            resource: "postgres:shop".to_owned(),
            role: "r".to_owned(),
            application: "psql".to_owned(),
            claimed_on_behalf_of: Vec::new(),
            on_behalf_of: Vec::new(),
        };
        self.append(identity, start.record());
        for _ in 0..queries {
            let intent = Intent {
                session: session.clone(),
                statement: "f".to_owned(),
                actions: vec![ActionOn {
                    action: "select".to_owned(),
                    resources: vec!["shop/public/cards".to_owned()],
                    more: None,
                    columns: Vec::new(),
                }],
                decision: "s.1".to_owned(),
                policies: vec!["p".to_owned()],
                coverage: Coverage::Complete,
                more_policies: None,
                claimed_on_behalf_of: Vec::new(),
                on_behalf_of: Vec::new(),
            };
            let seq = self.append(identity, intent.record());
            let outcome = Outcome {
                intent: Decimal(seq),
                result: "ok".to_owned(),
                sqlstate: None,
                rows: Some(Decimal(1)),
                tag: None,
                transaction: None,
            };
            self.append(identity, outcome.record());
        }
    }

    pub(crate) fn append(&self, identity: &str, record: RecordBuilder) -> u64 {
        let draft = record.actor(identity, "x509").draft().unwrap();
        let committed = self.own.append_many(vec![draft]).wait().unwrap();
        drop(committed);
        self.own.reader().size() - 1
    }

    /// Until the server has anchored all of it.
    pub(crate) async fn anchor(&mut self) {
        let head = self.own.reader().head();
        let size = head.checkpoint.size;
        let consistency = match self.seen {
            0 => Vec::new(),
            seen => self.own.reader().consistency(seen, size).unwrap(),
        };
        let message = Message::Head(GatewayHead {
            checkpoint: head.note.as_ref().to_owned(),
            consistency: consistency.iter().map(|hash| hash.to_vec()).collect(),
            old_size: self.seen,
        });
        self.gateway.send(message).await;
        loop {
            match self.gateway.next().await.unwrap() {
                delta::Delta::Fetch(fetch) => {
                    let end = fetch.from_index + u64::from(fetch.limit);
                    let read = self
                        .own
                        .reader()
                        .read_signed(fetch.from_index..end, 1 << 20);
                    let (records, note) = read.unwrap();
                    let segment = Message::Segment(SegmentData {
                        request: fetch.request,
                        first_index: fetch.from_index,
                        records,
                        checkpoint: note.unwrap_or_default(),
                    });
                    self.gateway.send(segment).await;
                }
                delta::Delta::Anchored(anchored) if anchored.size == size => {
                    self.seen = size;
                    return;
                }
                _ => {}
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_identity_did_is_shown_to_be_all_that_it_did() {
    let fixture = Fixture::start().await;
    let mut recording = Recording::start(&fixture).await;
    recording.session(API, 3);
    recording.session(OTHER, 2);
    recording.anchor().await;
    recording.session(API, 1);
    recording.anchor().await;
    let asked = "{\"kind\":\"access\",\"identity\":\"payments/api\"}";
    let report = verified(&fixture, asked).await;
    assert!(report.is_complete(), "{:?}", report.doubts);
    assert_eq!(report.checkpoints[1].size, 15);
    let gateway = &report.extents[1];
    assert_eq!((gateway.answers, gateway.matching), (10, Some(10)));
    assert!(gateway.until.is_some() && report.extents[0].until.is_some());
    // What it states is what was answered, with the whole name.
    let question = Question::Access {
        identity: API.to_owned(),
        resource: None,
        newest: None,
    };
    assert_eq!(report.question, question);

    let newest = "{\"kind\":\"access\",\"identity\":\"payments/api\",\"newest\":2}";
    let report = verified(&fixture, newest).await;
    assert!(report.is_complete(), "{:?}", report.doubts);
    let gateway = &report.extents[1];
    assert_eq!((gateway.answers, gateway.matching), (3, Some(10)));

    let one = "{\"kind\":\"record\",\"ledger\":\"pg\",\"index\":9}";
    let report = verified(&fixture, one).await;
    assert!(report.is_complete() && report.whole.is_empty());
    let ledger = format!("{DOMAIN}/gateway/pg");
    assert_eq!(report.question, Question::Record { ledger, index: 9 });
}

#[tokio::test(flavor = "multi_thread")]
async fn an_issuance_is_shown_to_be_the_only_one() {
    let fixture = Fixture::start().await;
    let machine = fixture.join("m1").await;
    let mut sync = machine.sync().await.unwrap();
    let facts = program(1000, PROGRAM);
    let (issued, _) = sync.ask("w1", &facts, Vec::new()).await.unwrap();
    let serial = &issued.svids[0].serial;
    let asked = format!("{{\"serial\":\"{serial}\",\"kind\":\"issuance\"}}");
    let report = verified(&fixture, &asked).await;
    assert!(report.is_complete(), "{:?}", report.doubts);
    assert_eq!(report.extents[0].answers, 1);
    assert!(
        report
            .records
            .iter()
            .any(|item| item.record.kind().as_str() == "verdict")
    );
}

/// A ledger that is too large to be shown whole: the pack says so itself.
#[tokio::test(flavor = "multi_thread")]
async fn of_a_large_ledger_a_pack_does_not_claim_to_be_complete() {
    let fixture = Fixture::start().await;
    let mut recording = Recording::start(&fixture).await;
    recording.session(API, 1);
    let padding = || {
        let gap = ledger::body::Gap {
            cause: "crash".to_owned(),
            from: 0,
            to: 0,
            lost: None,
            detail: String::new(),
        };
        gap.record().draft().unwrap()
    };
    for _ in 0..66 {
        let many = (0..1_000).map(|_| padding()).collect();
        recording.own.append_many(many).wait().unwrap();
    }
    recording.anchor().await;
    let asked = "{\"kind\":\"access\",\"identity\":\"payments/api\"}";
    let report = verified(&fixture, asked).await;
    let origin = format!("{DOMAIN}/gateway/pg");
    assert_eq!(report.doubts, [Doubt::NoEntries { origin }]);
    assert_eq!(report.extents[1].answers, 3);
    assert!(report.extents[0].complete);
}
