//! What has to hold of any bytes that a document or a server says: a finding, or names that an estate can declare.
//! Changes of what is well formed, the same ones in every run.

use crate::false_servers::{json, serve};
use discovery::{Found, Options, Protocol, ToolServer, merge, routes, tools};
use estate::{Estate, EstateFiles};
use std::time::Duration;
use testkit::mutation::changed;

const OPTIONS: Options = Options {
    prune: false,
    inherit: false,
    accept_changed: false,
};

const DOCUMENT: &str = r##"{"openapi": "3.1.0", "info": {"title": "billing", "version": "1"},
 "servers": [{"url": "https://billing.example.org/v1"}],
 "paths": {
  "/invoices": {"get": {"responses": {}}, "post": {"responses": {}}},
  "/invoices/{id}": {"get": {"responses": {}}, "delete": {"responses": {}}, "parameters": []},
  "/shared": {"$ref": "#/components/pathItems/shared"}
 },
 "components": {"pathItems": {"shared": {"patch": {"responses": {}}}}}}"##;

const SWAGGER: &str = r##"{"swagger": "2.0", "basePath": "/v1", "info": {"title": "t", "version": "1"},
 "paths": {"/a": {"get": {"responses": {}}}}}"##;

/// What was found is declared, and a second look finds nothing to do.
fn is_declared(found: &Found) {
    let mut files = EstateFiles::new();
    files.insert("estate.toml", "trust_domain = \"example.org\"\n");
    let outcome = match merge(&files, found, &OPTIONS) {
        Ok(outcome) => outcome,
        Err(finding) => {
            assert!(finding.code.starts_with("SYNC-"), "{finding:?}");
            return;
        }
    };
    for change in &outcome.changes {
        files.insert(change.file.as_str(), change.after.as_str());
    }
    Estate::compile(&files).unwrap_or_else(|problems| panic!("{problems:?}"));
    let again = merge(&files, found, &OPTIONS).unwrap();
    assert!(again.changes.is_empty(), "{:?}", again.changes);
}

#[test]
fn any_document_is_a_finding_or_routes_that_can_be_declared() {
    let mut read = 0;
    for seed in [DOCUMENT, SWAGGER] {
        for change in 0..1_500 {
            match routes(&changed(seed.as_bytes(), change), "billing", None) {
                Ok(api) => {
                    read += 1;
                    for (method, path) in &api.routes {
                        assert!(path.starts_with('/'), "{path:?}");
                        assert!(
                            !method.chars().any(|letter| letter.is_ascii_lowercase()),
                            "{method:?}"
                        );
                    }
                    if read % 8 == 0 {
                        is_declared(&Found::Api(api));
                    }
                }
                Err(finding) => {
                    assert!(finding.code.starts_with("SYNC-"), "{finding:?}");
                    assert!(finding.next.is_some(), "{finding:?}");
                }
            }
        }
    }
    assert!(read > 100, "{read}");
}

const LISTED: &str = r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[
 {"name":"search","title":"Search","description":"Looks for notes","inputSchema":{"type":"object","properties":{"q":{"type":"string"}},"required":["q"]},"annotations":{"readOnlyHint":true}},
 {"name":"write","description":"Writes a note","inputSchema":{"type":"object"},"_meta":{"a":1}}]}}"#;

#[tokio::test(flavor = "multi_thread")]
async fn any_answer_of_a_server_is_a_finding_or_tools_that_can_be_declared() {
    let timeout = Duration::from_secs(10);
    let mut read = 0;
    for change in 0..200 {
        let answer = String::from_utf8_lossy(&changed(LISTED.as_bytes(), change)).into_owned();
        let endpoint = serve(move |_| json(&answer)).await;
        let begun = std::time::Instant::now();
        match tools(&endpoint, Protocol::Stateless, timeout).await {
            Ok(listed) => {
                read += 1;
                for digest in listed.tools.values() {
                    assert!(
                        digest.starts_with("sha256:") && digest.len() == 7 + 64,
                        "{digest}"
                    );
                }
                is_declared(&Found::ToolServer(ToolServer {
                    name: "notes".to_owned(),
                    tools: listed.tools,
                }));
            }
            Err(finding) => assert!(finding.next.is_some(), "{change}: {finding:?}"),
        }
        assert!(begun.elapsed() < timeout * 2, "{change}");
    }
    assert!(read > 10, "{read}");
}
