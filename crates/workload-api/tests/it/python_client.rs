//! The Python `spiffe` package.

use crate::endpoint::{Endpoint, denied};
use serde_json::Value;
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

/// Fetches everything once, then follows the stream and prints each state.
const SCRIPT: &str = r#"
import json, sys, threading
from spiffe import WorkloadApiClient
def say(**fields): print(json.dumps(fields), flush=True)
client = WorkloadApiClient(sys.argv[1])
try:
    context = client.fetch_x509_context()
except Exception as error:
    say(error=type(error).__name__, message=str(error)); sys.exit(0)
say(ids=[str(s.spiffe_id) for s in context.x509_svids], default=str(context.default_svid.spiffe_id),
    chain=len(context.default_svid.cert_chain))
say(x509=[str(b.trust_domain) for b in client.fetch_x509_bundles().bundles],
    jwt=[str(b.trust_domain) for b in client.fetch_jwt_bundles().bundles])
token = client.fetch_jwt_svid(audience={"db"})
valid = client.validate_jwt_svid(token.token, audience="db")
say(token=str(valid.spiffe_id), audience=sorted(valid.audience))
try:
    client.validate_jwt_svid(token.token, audience="other"); say(wrong=None)
except Exception as error:
    say(wrong=type(error).__name__)
done = threading.Event()
def updated(context): say(update=[str(s.spiffe_id) for s in context.x509_svids])
def failed(error): say(ended=str(error)); done.set()
client.stream_x509_contexts(updated, failed)
done.wait()
"#;

struct Python {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Python {
    fn start(endpoint: &Endpoint) -> Option<Self> {
        let Some(python) = testkit::venv_python(&["spiffe"]) else {
            testkit::skip(
                "workload-api python client",
                "no target/venv with the package spiffe; run cargo xtask test",
            );
            return None;
        };
        let mut child = Command::new(python)
            .args(["-c", SCRIPT, &endpoint.uri])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Some(Self { child, lines })
    }

    async fn says(&mut self) -> Value {
        let line = self.lines.next_line().await.unwrap();
        serde_json::from_str(&line.expect("python ended; see its output above")).unwrap()
    }
}

#[tokio::test]
async fn fetches_validates_and_follows() {
    let endpoint = Endpoint::with_two();
    let Some(mut python) = Python::start(&endpoint) else {
        return;
    };
    let api = "spiffe://example.org/payments/api";
    let batch = "spiffe://example.org/payments/batch";
    let said = python.says().await;
    assert_eq!(said["ids"], serde_json::json!([api, batch]), "{said}");
    assert_eq!((&said["default"], &said["chain"]), (&api.into(), &2.into()));
    let said = python.says().await;
    assert_eq!(said["x509"], serde_json::json!(["example.org"]), "{said}");
    assert_eq!(said["jwt"], serde_json::json!(["example.org"]), "{said}");
    let said = python.says().await;
    assert_eq!(said["token"], api, "{said}");
    assert_eq!(said["audience"], serde_json::json!(["db"]));
    let said = python.says().await;
    assert!(said["wrong"].is_string(), "{said}");

    let said = python.says().await;
    assert_eq!(said["update"], serde_json::json!([api, batch]), "{said}");
    let authority = &endpoint.fake.authority;
    endpoint
        .fake
        .show(vec![authority.x509("payments/batch", "")]);
    let said = python.says().await;
    assert_eq!(said["update"], serde_json::json!([batch]), "{said}");
    python.child.kill().await.unwrap();
}

#[tokio::test]
async fn is_refused_without_an_identity() {
    let endpoint = Endpoint::start();
    endpoint.fake.refuse(denied());
    let Some(mut python) = Python::start(&endpoint) else {
        return;
    };
    let said = python.says().await;
    let message = said["message"].as_str().unwrap();
    assert!(message.contains("no identity issued"), "{said}");
    assert!(!message.contains("a secret digest"), "{said}");
}
