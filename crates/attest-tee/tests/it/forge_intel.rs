//! A TDX or SGX platform whose every part is ours: chains, collateral, quoting enclave, quote.

use crate::der::{
    CERTIFY_AND_LIST, Certificate, List, fixed, identifier, integer, octets, pem, sequence,
};
use crate::evidence::day;
use attest_tee::Code;
use attest_tee::intel::{Collateral, CollateralBytes, Roots, TcbPolicy};
use attest_tee::{sgx, tdx};
use crypto::{Algorithm, KeyPair, Signer as _};
use facts::{Finding, Timestamp, Verdict};
use serde_json::{Value, json};
use std::sync::LazyLock;

fn key() -> KeyPair {
    KeyPair::generate(Algorithm::EcdsaP256).unwrap()
}

pub(crate) static ROOT: LazyLock<KeyPair> = LazyLock::new(key);
pub(crate) static PLATFORM_CA: LazyLock<KeyPair> = LazyLock::new(key);
pub(crate) static PCK: LazyLock<KeyPair> = LazyLock::new(key);
pub(crate) static SIGNING: LazyLock<KeyPair> = LazyLock::new(key);
pub(crate) static ATTESTATION: LazyLock<KeyPair> = LazyLock::new(key);
pub(crate) static OTHER: LazyLock<KeyPair> = LazyLock::new(key);

const SGX_ARC: [u64; 7] = [1, 2, 840, 113_741, 1, 13, 1];
pub(crate) const ROOT_NAME: &str = "Intel SGX Root CA";
pub(crate) const CA_NAME: &str = "Intel SGX PCK Platform CA";

pub(crate) fn now() -> Timestamp {
    day(2026, 6, 1)
}

/// A good trust domain with these registers.
pub(crate) fn with_registers(rtmr: &[[u8; 48]; 4]) -> Platform {
    let mut platform = Platform::tdx(4);
    for (index, rtmr) in rtmr.iter().enumerate() {
        platform.put(328 + 48 * index, rtmr);
    }
    platform
}

/// Whose keys sign what, where not the right ones.
#[derive(Clone, Default)]
pub(crate) struct Wrong {
    pub(crate) quote: bool,
    pub(crate) qe_report: bool,
    pub(crate) pck: bool,
    pub(crate) intermediate: bool,
    pub(crate) tcb_info: bool,
    pub(crate) identity: bool,
    pub(crate) signing: bool,
    pub(crate) pck_list: bool,
    pub(crate) root_list: bool,
    pub(crate) crl_issuer: bool,
}

/// Everything that a test may change before it is signed.
#[derive(Clone)]
pub(crate) struct Platform {
    pub(crate) version: u16,
    pub(crate) tee: u32,
    pub(crate) header: Vec<u8>,
    /// Kind and bytes; the kind is written in version 5.
    pub(crate) body: (u16, Vec<u8>),
    pub(crate) qe_report: Vec<u8>,
    pub(crate) bind_key: bool,
    pub(crate) auth: Vec<u8>,
    /// Behind the chain, within the lengths.
    pub(crate) after_chain: Vec<u8>,
    pub(crate) root: Certificate,
    pub(crate) intermediate: Certificate,
    pub(crate) pck: Certificate,
    pub(crate) signing: Certificate,
    pub(crate) crl_issuer: Certificate,
    pub(crate) pck_list: List,
    pub(crate) root_list: List,
    pub(crate) tcb_info: Value,
    pub(crate) identity: Value,
    pub(crate) wrong: Wrong,
    pub(crate) tail: Vec<u8>,
    pub(crate) now: Timestamp,
    pub(crate) report_data: [u8; 64],
    pub(crate) tdx: tdx::References,
    pub(crate) sgx: sgx::References,
}

/// The SGX extension of a PCK certificate: item name, value.
pub(crate) fn sgx_extension(
    components: [u8; 16],
    pce_svn: u64,
    fmspc: [u8; 6],
) -> (Vec<u64>, bool, Vec<u8>) {
    let item =
        |tail: &[u64], value: Vec<u8>| sequence(&[identifier(&[&SGX_ARC, tail].concat()), value]);
    let mut tcb: Vec<_> = components
        .iter()
        .zip(1..)
        .map(|(svn, number)| item(&[2, number], integer(u64::from(*svn))))
        .collect();
    tcb.push(item(&[2, 17], integer(pce_svn)));
    tcb.push(item(&[2, 18], octets(&components)));
    let value = sequence(&[
        item(&[1], octets(&[0xbb; 16])),
        item(&[2], sequence(&tcb)),
        item(&[3], octets(&[0, 0])),
        item(&[4], octets(&fmspc)),
        item(&[5], vec![0x0a, 0x01, 0x01]),
    ]);
    (SGX_ARC.to_vec(), false, value)
}

fn level(sgx: u8, tdx: u8, pce: u16, status: &str) -> Value {
    let sixteen = |svn: u8| (0..16).map(|_| json!({ "svn": svn })).collect::<Vec<_>>();
    json!({
        "tcb": {"sgxtcbcomponents": sixteen(sgx), "pcesvn": pce, "tdxtcbcomponents": sixteen(tdx)},
        "tcbDate": "2026-01-01T00:00:00Z",
        "tcbStatus": status,
        "advisoryIDs": ["INTEL-SA-00001"],
    })
}

pub(crate) fn module(svn: u16, status: &str) -> Value {
    json!({
        "id": "TDX_03",
        "mrsigner": "00".repeat(48),
        "attributes": "0000000000000000",
        "attributesMask": "FFFFFFFFFFFFFFFF",
        "tcbLevels": [
            {"tcb": {"isvsvn": svn}, "tcbDate": "2026-01-01T00:00:00Z", "tcbStatus": status},
            {"tcb": {"isvsvn": 1}, "tcbDate": "2024-01-01T00:00:00Z", "tcbStatus": "OutOfDate"},
        ],
    })
}

impl Platform {
    /// A good trust domain, quoted in version 4 or 5.
    pub(crate) fn tdx(version: u16) -> Self {
        let mut body = vec![0; if version == 4 { 584 } else { 648 }];
        body[..16].fill(5);
        // A module of version 3.
        body[1] = 3;
        if version == 5 {
            body.copy_within(0..16, 584);
        }
        let mut platform = Self::new(version, 0x81, (3, body));
        platform.put(120, &(1_u64 << 28).to_le_bytes());
        platform.put(136, &[0x3d; 48]);
        platform.put(184, &[0xc0; 48]);
        platform.put(520, &[0x5a; 64]);
        platform.tcb_info["tdxModuleIdentities"] = json!([module(5, "UpToDate")]);
        platform.tdx = tdx::References {
            roots: Roots::default(),
            tcb: TcbPolicy::default(),
            code: Code::Listed(vec![tdx::Image {
                name: "prod".to_owned(),
                mr_td: [0x3d; 48],
                rtmr: [None; 4],
                mr_config_id: Some([0xc0; 48]),
            }]),
            ..tdx::References::default()
        };
        platform
    }

    /// A good enclave, quoted in version 3 or 5.
    pub(crate) fn sgx(version: u16) -> Self {
        let mut platform = Self::new(version, 0, (1, vec![0; 384]));
        platform.put(48, &[0x05]);
        platform.put(64, &[0xec; 32]);
        platform.put(128, &[0x51; 32]);
        platform.put(256, &[7, 0, 9, 0]);
        platform.put(320, &[0x5a; 64]);
        platform.tcb_info["id"] = "SGX".into();
        platform.identity["id"] = "QE".into();
        platform.sgx = sgx::References {
            roots: Roots::default(),
            tcb: TcbPolicy::default(),
            code: Code::Listed(vec![sgx::Image {
                name: "prod".to_owned(),
                by: sgx::By::Measurement([0xec; 32]),
                minimum_svn: 9,
            }]),
        };
        platform
    }

    fn new(version: u16, tee: u32, body: (u16, Vec<u8>)) -> Self {
        let mut header = vec![0; 48];
        header[..2].copy_from_slice(&version.to_le_bytes());
        header[2] = 2;
        header[4..8].copy_from_slice(&tee.to_le_bytes());
        header[12..28]
            .copy_from_slice(&crypto::hex::decode("939a7233f79c4ca9940a0db3957f0607").unwrap());
        let mut qe_report = vec![0; 384];
        qe_report[48] = 0x15;
        qe_report[128..160].fill(0xe1);
        qe_report[256..260].copy_from_slice(&[2, 0, 6, 0]);
        let mut pck = Certificate::leaf("Intel SGX PCK Certificate", CA_NAME, 100);
        pck.extensions = vec![sgx_extension([5; 16], 300, [0xf0; 6])];
        Self {
            version,
            tee,
            header,
            body,
            qe_report,
            bind_key: true,
            auth: (0..32).collect(),
            after_chain: Vec::new(),
            root: Certificate::authority(ROOT_NAME, ROOT_NAME, 1),
            intermediate: Certificate {
                ca: Some(Some(0)),
                ..Certificate::authority(CA_NAME, ROOT_NAME, 2)
            },
            pck,
            signing: Certificate::leaf("Intel SGX TCB Signing", ROOT_NAME, 3),
            crl_issuer: Certificate {
                ca: Some(Some(0)),
                key_usage: Some(CERTIFY_AND_LIST),
                ..Certificate::authority(CA_NAME, ROOT_NAME, 2)
            },
            pck_list: List::new(CA_NAME, now()),
            root_list: List::new(ROOT_NAME, now()),
            tcb_info: json!({
                "id": "TDX", "version": 3, "tcbType": 0,
                "issueDate": "2026-05-20T00:00:00Z", "nextUpdate": "2026-06-19T00:00:00Z",
                "fmspc": "F0F0F0F0F0F0", "pceId": "0000", "tcbEvaluationDataNumber": 18,
                "tdxModule": {
                    "mrsigner": "00".repeat(48),
                    "attributes": "0000000000000000",
                    "attributesMask": "FFFFFFFFFFFFFFFF",
                },
                "tcbLevels": [level(5, 5, 300, "UpToDate"), level(3, 3, 300, "OutOfDate")],
            }),
            identity: json!({
                "id": "TD_QE", "version": 2,
                "issueDate": "2026-05-21T00:00:00Z", "nextUpdate": "2026-06-20T00:00:00Z",
                "tcbEvaluationDataNumber": 17,
                "miscselect": "00000000", "miscselectMask": "FFFFFFFF",
                "attributes": "11000000000000000000000000000000",
                "attributesMask": "FBFFFFFFFFFFFFFF0000000000000000",
                "mrsigner": "E1".repeat(32), "isvprodid": 2,
                "tcbLevels": [
                    {"tcb": {"isvsvn": 6}, "tcbDate": "2026-01-01T00:00:00Z", "tcbStatus": "UpToDate"},
                    {"tcb": {"isvsvn": 4}, "tcbDate": "2025-01-01T00:00:00Z", "tcbStatus": "OutOfDate",
                     "advisoryIDs": ["INTEL-SA-00002"]},
                ],
            }),
            wrong: Wrong::default(),
            tail: Vec::new(),
            now: now(),
            report_data: [0x5a; 64],
            tdx: tdx::References::default(),
            sgx: sgx::References::default(),
        }
    }

    /// Into the body.
    pub(crate) fn put(&mut self, at: usize, bytes: &[u8]) {
        self.body.1[at..at + bytes.len()].copy_from_slice(bytes);
    }

    pub(crate) fn roots(&self) -> Roots {
        Roots::from_pem(&pem(&self.root.sign(&ROOT, &ROOT))).unwrap()
    }

    pub(crate) fn chain(&self) -> String {
        let by = |wrong: bool, right: &'static KeyPair| -> &KeyPair {
            if wrong { &OTHER } else { right }
        };
        [
            self.pck.sign(&PCK, by(self.wrong.pck, &PLATFORM_CA)),
            self.intermediate
                .sign(&PLATFORM_CA, by(self.wrong.intermediate, &ROOT)),
            self.root.sign(&ROOT, &ROOT),
        ]
        .iter()
        .map(|der| pem(der))
        .collect()
    }

    pub(crate) fn quote(&self) -> Vec<u8> {
        self.quote_with(&self.chain())
    }

    pub(crate) fn quote_with(&self, chain: &str) -> Vec<u8> {
        let mut bytes = self.header.clone();
        let (kind, body) = &self.body;
        if self.version == 5 {
            bytes.extend(kind.to_le_bytes());
            bytes.extend((body.len() as u32).to_le_bytes());
        }
        bytes.extend(body);
        let signed_by = if self.wrong.quote {
            &OTHER
        } else {
            &ATTESTATION
        };
        let signature = fixed::<32>(&signed_by.sign(&bytes).unwrap());
        let attestation = &ATTESTATION.public_key().raw()[1..];

        let mut qe_report = self.qe_report.clone();
        if self.bind_key {
            let vouched = crypto::sha256(&[attestation, &self.auth].concat());
            qe_report[320..352].copy_from_slice(&vouched);
        }
        let qe_by = if self.wrong.qe_report { &OTHER } else { &PCK };
        let qe_signature = fixed::<32>(&qe_by.sign(&qe_report).unwrap());
        let mut certification = [qe_report, qe_signature].concat();
        certification.extend((self.auth.len() as u16).to_le_bytes());
        certification.extend(&self.auth);
        certification.extend(5_u16.to_le_bytes());
        certification.extend((chain.len() as u32).to_le_bytes());
        certification.extend(chain.as_bytes());
        certification.extend(&self.after_chain);
        if self.version >= 4 {
            let mut outer = 6_u16.to_le_bytes().to_vec();
            outer.extend((certification.len() as u32).to_le_bytes());
            outer.extend(certification);
            certification = outer;
        }
        let data = [signature.as_slice(), attestation, &certification].concat();
        bytes.extend((data.len() as u32).to_le_bytes());
        bytes.extend(data);
        bytes.extend(&self.tail);
        bytes
    }

    pub(crate) fn collateral(&self) -> CollateralBytes {
        let by = |wrong: bool, right: &'static KeyPair| -> &KeyPair {
            if wrong { &OTHER } else { right }
        };
        let signed = |name: &str, body: &Value, wrong: bool| {
            let text = body.to_string();
            let signature = by(wrong, &SIGNING).sign(text.as_bytes()).unwrap();
            let signature = crypto::hex::encode(&fixed::<32>(&signature));
            format!("{{\"{name}\":{text},\"signature\":\"{signature}\"}}")
        };
        let wrong = &self.wrong;
        let root = pem(&self.root.sign(&ROOT, &ROOT));
        let ca = if wrong.crl_issuer {
            &OTHER
        } else {
            &PLATFORM_CA
        };
        CollateralBytes {
            tcb_info: signed("tcbInfo", &self.tcb_info, wrong.tcb_info),
            qe_identity: signed("enclaveIdentity", &self.identity, wrong.identity),
            signing_chain: pem(&self.signing.sign(&SIGNING, by(wrong.signing, &ROOT))) + &root,
            pck_crl: self.pck_list.sign(if wrong.pck_list { &OTHER } else { ca }),
            pck_crl_chain: pem(&self.crl_issuer.sign(ca, &ROOT)) + &root,
            root_crl: self.root_list.sign(by(wrong.root_list, &ROOT)),
        }
    }

    pub(crate) fn open(&self) -> Result<Collateral, Finding> {
        Collateral::open(&self.collateral(), &self.roots())
    }

    /// How quotes are judged under this platform's collateral and references.
    pub(crate) fn judge_of(&self) -> impl Fn(&[u8], Option<&[u8]>) -> Verdict {
        let collateral = self.open();
        let (report_data, now, tee) = (self.report_data, self.now, self.tee);
        let sgx = sgx::References {
            roots: self.roots(),
            ..self.sgx.clone()
        };
        let tdx = tdx::References {
            roots: self.roots(),
            ..self.tdx.clone()
        };
        move |quote, event_log| {
            let collateral = match &collateral {
                Ok(collateral) => collateral,
                Err(finding) => return Verdict::refused(vec![finding.clone()], Vec::new()),
            };
            if tee == 0 {
                let expected = sgx::Expectation { report_data, now };
                return sgx::verify(quote, collateral, &expected, &sgx);
            }
            let evidence = tdx::Evidence { quote, event_log };
            let expected = tdx::Expectation { report_data, now };
            tdx::verify(&evidence, collateral, &expected, &tdx)
        }
    }

    pub(crate) fn judge(&self) -> Verdict {
        self.judge_of()(&self.quote(), None)
    }

    pub(crate) fn judge_quote(&self, quote: &[u8]) -> Verdict {
        self.judge_of()(quote, None)
    }

    pub(crate) fn judge_with_log(&self, log: &[u8]) -> Verdict {
        self.judge_of()(&self.quote(), Some(log))
    }
}
