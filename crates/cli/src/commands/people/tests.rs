//! Logging in as users do it: this client, a real server, and a provider that nobody here wrote.

use super::*;
use crate::arguments::{DelegateArguments, WorkloadSocket};
use estate::EstateFiles;
use server::Running;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use testkit::oidc::Provider;

const DOMAIN: &str = "example.org";

async fn server(dir: &Path, issuer: &str) -> Running {
    let path = dir.join("server.toml");
    let text = format!(
        "trust_domain = \"{DOMAIN}\"\ndata_dir = \"{dir}/data\"\n\
         listen = \"127.0.0.1:0\"\nhttp_listen = \"127.0.0.1:0\"\n\
         [custody.ca]\nkind = \"file\"\ndir = \"{dir}/keys/ca\"\n\
         [custody.ledger]\nkind = \"file\"\ndir = \"{dir}/keys/ledger\"\n\
         [[oidc]]\nissuer = \"{issuer}\"\nclient_id = \"trilith\"\n",
        dir = dir.display()
    );
    std::fs::write(&path, text).unwrap();
    server::start(server::Config::load(&path).unwrap())
        .await
        .unwrap()
}

fn estate(issuer: &str) -> EstateFiles {
    let uid = rustix::process::getuid().as_raw();
    let mut files = EstateFiles::new();
    files.insert(
        "estate.toml",
        format!(
            "trust_domain = \"{DOMAIN}\"\n[[administrator]]\nuid = {uid}\ngroups = [\"operators\"]\n\
             [[administrator]]\nperson = \"people/ada\"\ngroups = [\"operators\"]\n"
        ),
    );
    files.insert(
        "identities/all.toml",
        format!(
            "[[group]]\nname = \"operators\"\n[[identity]]\npath = \"people/ada\"\nkind = \"person\"\n\
             owner = \"people\"\nlogin = {{ issuer = \"{issuer}\", subject = \"ada-1\" }}\n\
             [[identity]]\npath = \"agents/helper\"\nkind = \"ai-agent\"\nowner = \"support\"\n"
        ),
    );
    files.insert(
        "delegations/all.toml",
        "[[delegation]]\nid = \"ada has a helper\"\nfrom = 'Identity::\"people/ada\"'\n\
         to = 'Identity::\"agents/helper\"'\n",
    );
    files.insert(
        "policies/all.cedar",
        "@id(\"operators administer\")\n\
         permit (principal is Admin in Group::\"operators\", action, resource);\n",
    );
    files
}

/// What a browser does: the provider's pages, and then where they send it, changed on its way by `change`.
fn browser(url: &str, change: fn(String) -> String) {
    let url = url.to_owned();
    std::thread::spawn(move || {
        let back = change(testkit::oidc::log_in(&url, "ada-1").unwrap());
        let (host, target) = back
            .strip_prefix("http://")
            .and_then(|rest| rest.split_once('/'))
            .unwrap();
        let request = format!("GET /{target} HTTP/1.1\r\nhost: {host}\r\n\r\n");
        testkit::http::raw(host.parse().unwrap(), request.as_bytes())
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_logs_in_administers_from_afar_and_logs_out() {
    if let Err(missing) = testkit::oidc::installed() {
        testkit::skip(
            "cli::a_person_logs_in_administers_from_afar_and_logs_out",
            &missing,
        );
        return;
    }
    let provider = Provider::start().unwrap();
    let issuer = provider.issuer();
    let dir = tempfile::tempdir().unwrap();
    let running = server(dir.path(), issuer).await;
    let socket = dir.path().join("data/admin.sock");
    let mut local = admin::connect(&socket).await.unwrap();
    let request = v1::EstateRequest {
        files: estate(issuer).to_blob(),
        ..v1::EstateRequest::default()
    };
    local.estate_apply(request.clone()).await.unwrap();
    let status = local.status(v1::StatusRequest {}).await.unwrap();
    let status = admin::document(status).unwrap();
    let arguments = || LoginArguments {
        issuer: issuer.to_owned(),
        trust_domain: DOMAIN.to_owned(),
        pin: status["pin"].as_str().unwrap().to_owned(),
        ca_file: None,
        browser: false,
        timeout: 30,
    };
    let session = dir.path().join("state/session.json");
    let global = Global {
        json: true,
        admin_socket: "/nonexistent".into(),
        admin_server: Some(running.listen.to_string()),
        session: Some(session.clone()),
        log: String::new(),
    };
    let code = |failure: Option<Failure>| failure.unwrap().findings()[0].code.to_string();

    // Nobody has logged in; and an answer to another request logs nobody in.
    assert_eq!(code(admin::connect(&global).await.err()), "CLI-SESSION");
    let forged = |url: &str| browser(url, |back| back.replace("state=", "state=x"));
    let soon = LoginArguments {
        timeout: 2,
        ..arguments()
    };
    let refused = log_in(soon, &global, forged).await;
    assert_eq!(code(refused.err()), "CLI-LOGIN-TIME");
    assert!(!session.exists());
    // The pin is not this server's.
    let other = LoginArguments {
        pin: format!("tl1:{}", "0".repeat(64)),
        ..arguments()
    };
    let refused = log_in(other, &global, |_| panic!("it was asked")).await;
    assert_eq!(code(refused.err()), "TLS-PIN-MISMATCH");

    log_in(arguments(), &global, |url| browser(url, |back| back))
        .await
        .unwrap();
    let mode = std::fs::metadata(&session).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
    let text = std::fs::read_to_string(&session).unwrap();
    assert!(!text.contains("eyJ"), "a token is kept");
    crate::commands::administer::status(&global).await.unwrap();
    let list = crate::arguments::AgentCommand::List;
    crate::commands::administer::agents(list, &global)
        .await
        .unwrap();
    let mut remote = admin::connect(&global).await.unwrap();
    let applied = v1::EstateRequest {
        message: "from afar".to_owned(),
        reissue: true,
        ..request
    };
    remote.estate_apply(applied).await.unwrap();
    // She lets her helper act, and nobody whom the estate does not let her.
    let delegated = |to: &str| {
        let to = to.to_owned();
        let delegating = DelegateArguments {
            socket: WorkloadSocket {
                socket: String::new(),
            },
            to,
            token: None,
            server: None,
            actions: vec!["select".to_owned()],
            resources: Vec::new(),
            ttl: 60,
            wait: None,
        };
        crate::commands::delegation::delegate(delegating, &global)
    };
    delegated("agents/helper").await.unwrap();
    assert_eq!(code(delegated("people/bob").await.err()), "DELEGATION-NONE");
    let listed = remote.delegations(v1::DelegationsRequest::default()).await;
    let listed = admin::document(listed.unwrap()).unwrap();
    assert_eq!(
        listed["delegations"][0]["chain"],
        json!([
            "spiffe://example.org/people/ada",
            "spiffe://example.org/agents/helper"
        ])
    );
    let stolen = dir.path().join("copy.json");
    std::fs::copy(&session, &stolen).unwrap();

    logout(LogoutArguments {}, &global).await.unwrap();
    assert!(!session.exists());
    let thief = Global {
        session: Some(stolen),
        ..global.clone()
    };
    assert_eq!(code(admin::connect(&thief).await.err()), "SESSION-NONE");
    assert_eq!(code(admin::connect(&global).await.err()), "CLI-SESSION");
    running.stop().await.unwrap();
}

#[test]
fn the_request_carries_no_secret_and_every_guard() {
    let metadata = Metadata {
        issuer: "https://a.example".to_owned(),
        authorization_endpoint: "https://a.example/auth?tenant=1".to_owned(),
        token_endpoint: String::new(),
        jwks_uri: String::new(),
        names_issuer: false,
    };
    let begun = v1::LoginBegun {
        client_id: "a&b".to_owned(),
        nonce: "n".to_owned(),
        expires: 0,
        max_age_s: 60,
    };
    let url = request(
        &metadata,
        &begun,
        "http://127.0.0.1:1/callback",
        ("s", "n", "v"),
    );
    let challenge = oidc::pkce::challenge("v");
    assert_eq!(
        url,
        format!(
            "https://a.example/auth?tenant=1&response_type=code&scope=openid&client_id=a%26b\
             &redirect_uri=http%3A%2F%2F127.0.0.1%3A1%2Fcallback&state=s&nonce=n\
             &code_challenge={challenge}&code_challenge_method=S256&max_age=60"
        )
    );
}

#[test]
fn what_is_no_token_answer_is_a_finding() {
    assert_eq!(token(200, br#"{"id_token":"a.b.c"}"#).unwrap(), "a.b.c");
    for (status, body) in [
        (200, "{}"),
        (400, r#"{"error":"invalid_grant"}"#),
        (400, r#"{"id_token":"a"}"#),
        (200, "<html>"),
    ] {
        let refused = token(status, body.as_bytes()).unwrap_err();
        assert_eq!(refused.findings()[0].code, "CLI-LOGIN-TOKEN");
    }
}
