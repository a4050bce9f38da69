//! What a registry, or whoever is in its place, may try: it can withhold, and nothing else.

use crate::service::{Asked, BUNDLE, Puller, Reply, Repository, Service, digest, read};
use std::time::{Duration, Instant};

/// A registry of `repository`, but for what `lie` answers.
async fn lying(
    repository: &Repository,
    lie: impl Fn(&Asked) -> Option<Reply> + Send + 'static,
) -> Service {
    let repository = repository.clone();
    Service::start(move |asked| lie(asked).unwrap_or_else(|| repository.reply(asked))).await
}

#[tokio::test]
async fn other_bytes_and_more_bytes_than_were_named_are_refused() {
    let repository = Repository::new();
    let image = repository.image.clone();
    type Lie = fn(&Asked) -> Option<Reply>;
    let cases: [(&str, &str, Lie); 9] = [
        ("REGISTRY-DIGEST", "another manifest", |it| {
            it.path
                .contains("/manifests/sha256:")
                .then(|| Reply::good(b"{}"))
        }),
        ("REGISTRY-SIZE", "a manifest without an end", |it| {
            it.path
                .contains("/manifests/sha256:")
                .then_some(Reply::Endless)
        }),
        ("REGISTRY-DIGEST", "another layer", |it| {
            it.path
                .contains("/blobs/")
                .then(|| Reply::good(&[b'x'; 100]))
        }),
        ("REGISTRY-DIGEST", "another layer of the same size", |it| {
            let layer = digest(&[b'l'; 100_000]).to_string();
            it.path
                .ends_with(&layer)
                .then(|| Reply::good(&[b'x'; 100_000]))
        }),
        ("REGISTRY-DIGEST", "a layer that is cut short", |it| {
            it.path.contains("/blobs/").then(|| Reply::good(b""))
        }),
        ("REGISTRY-SIZE", "a layer without an end", |it| {
            it.path.contains("/blobs/").then_some(Reply::Endless)
        }),
        ("REGISTRY-MISSING", "no layer", |it| {
            it.path.contains("/blobs/").then(|| Reply::status(404))
        }),
        ("REGISTRY-ANSWER", "a failure", |it| {
            it.path.contains("/blobs/").then(|| Reply::status(503))
        }),
        // What is attached is not forgotten because somebody stops the answer.
        (
            "REGISTRY-ANSWER",
            "no answer about what is attached",
            |it| it.path.contains("/referrers/").then(|| Reply::status(500)),
        ),
    ];
    for (code, what, lie) in cases {
        let service = lying(&repository, lie).await;
        let refused = Puller::new(&service, "").refused(&image).await;
        assert_eq!(refused.code, code, "{what}: {refused}");
    }
}

#[tokio::test]
async fn an_image_larger_than_is_taken_is_refused_before_it_is_fetched() {
    let mut repository = Repository::new();
    let image = repository.image.clone();
    let service = lying(&repository, |_| None).await;
    let most = |bytes: u64| {
        let host = service.address.to_string();
        let text = format!(
            "most_bytes = {bytes}\n[[registry]]\nhost = \"{host}\"\nurl = \"{}\"\n",
            service.url()
        );
        Puller::with(&host, text)
    };
    let refused = most(100_000).refused(&image).await;
    assert_eq!(refused.code, "REGISTRY-SIZE");
    assert!(
        service
            .asked()
            .iter()
            .all(|one| !one.path.contains("/blobs/"))
    );
    most(200_000).pull(&image).await.unwrap();

    // Sizes that do not fit into a number together.
    let huge =
        serde_json::json!({ "mediaType": "x", "digest": repository.layer, "size": u64::MAX });
    let other = serde_json::json!({ "mediaType": "x", "digest": image, "size": u64::MAX });
    let huge = repository.manifest(&[huge, other], None, None, None);
    let service = lying(&repository, |_| None).await;
    let refused = Puller::new(&service, "").refused(&huge).await;
    assert_eq!(refused.code, "REGISTRY-SIZE");
}

#[tokio::test]
async fn a_registry_that_takes_its_time_is_left() {
    let repository = Repository::new();
    let service = lying(&repository, |it| {
        it.path.contains("/blobs/").then_some(Reply::Drip)
    })
    .await;
    let host = service.address.to_string();
    let text = format!(
        "timeout_s = 1\n[[registry]]\nhost = \"{host}\"\nurl = \"{}\"\n",
        service.url()
    );
    let begun = Instant::now();
    let refused = Puller::with(&host, text).refused(&repository.image).await;
    assert_eq!(refused.code, "REGISTRY-TIMEOUT");
    assert!(begun.elapsed() < Duration::from_secs(40));
}

#[tokio::test]
async fn redirects_lead_to_no_address_inside_and_not_in_circles() {
    let repository = Repository::new();
    let image = repository.image.clone();
    let inside = Service::start(|_| Reply::good(b"of the inside")).await;
    let port = inside.address.port();
    for to in [
        "/v2/app/blobs/again".to_owned(),
        inside.url(),
        format!("https://127.0.0.1:{port}/secret"),
        // A name is what its addresses are.
        format!("https://localhost:{port}/secret"),
        format!("https://[::ffff:127.0.0.1]:{port}/secret"),
        "http://169.254.169.254/latest/meta-data".to_owned(),
        "https://169.254.169.254/latest/meta-data".to_owned(),
        "https://10.0.0.1/".to_owned(),
        "http://registry.example/".to_owned(),
        "https://user:word@registry.example/".to_owned(),
        "//registry.example/".to_owned(),
        "file:///etc/passwd".to_owned(),
        String::new(),
    ] {
        let where_to = to.clone();
        let service = lying(&repository, move |it| {
            it.path
                .contains("/blobs/")
                .then(|| Reply::redirect(&where_to))
        })
        .await;
        let refused = Puller::new(&service, "").refused(&image).await;
        assert_eq!(refused.code, "REGISTRY-REDIRECT", "{to}: {refused}");
        assert!(inside.asked().is_empty(), "{to}");
    }
}

#[tokio::test]
async fn blobs_may_be_kept_where_the_operator_says_and_nobody_is_shown_who_asks() {
    let repository = Repository::new();
    let image = repository.image.clone();
    let store = lying(&repository, |_| None).await;
    let (to, keeper) = (store.url(), repository.clone());
    let service = Service::start(move |asked| match asked.authorization.as_deref() {
        Some("Basic cmVhZGVyOnNlY3JldA==") if asked.path.contains("/blobs/") => {
            Reply::redirect(&format!("{to}{}", asked.path))
        }
        Some("Basic cmVhZGVyOnNlY3JldA==") => keeper.reply(asked),
        _ => Reply::challenge("Basic realm=x"),
    })
    .await;
    let named = format!(
        "credentials = \"credentials\"\nblobs = [\"{}\"]\n",
        store.url()
    );
    let puller = Puller::new(&service, &named);
    let pulled = puller.pull(&image).await.unwrap();
    read(&pulled, &image).unwrap();
    let asked = store.asked();
    assert_eq!(asked.len(), 2, "configuration and layer");
    assert!(
        asked.iter().all(|one| one.authorization.is_none()),
        "{asked:?}"
    );
    let unnamed = Puller::new(&service, "credentials = \"credentials\"\n")
        .refused(&image)
        .await;
    assert_eq!(unnamed.code, "REGISTRY-REDIRECT");
}

#[tokio::test]
async fn credentials_are_shown_to_no_realm_that_the_operator_did_not_name() {
    let repository = Repository::new();
    let image = repository.image.clone();
    let tokens = Service::start(|_| Reply::good(b"{\"access_token\":\"t0ken\"}")).await;
    let (realm, keeper) = (format!("{}/token", tokens.url()), repository.clone());
    let service = Service::start(move |asked| match asked.authorization.as_deref() {
        Some("Bearer t0ken") => keeper.reply(asked),
        _ => Reply::challenge(&format!("Bearer realm=\"{realm}\"")),
    })
    .await;
    let refused = Puller::new(&service, "credentials = \"credentials\"\n")
        .refused(&image)
        .await;
    assert_eq!(refused.code, "REGISTRY-REALM");
    assert!(tokens.asked().is_empty(), "nothing was shown");
    let named = format!(
        "credentials = \"credentials\"\ntoken = [\"{}\"]\n",
        tokens.url()
    );
    Puller::new(&service, &named).pull(&image).await.unwrap();
    assert!(tokens.asked().iter().all(|one| one.authorization.is_some()));
    // A token that no header can carry, or none, or without an end.
    for body in [
        &b"{\"token\":\"a b\"}"[..],
        b"{\"token\":\"a\\r\\nb: c\"}",
        b"{}",
        b"no",
    ] {
        let body = body.to_vec();
        tokens.answer(move |_| Reply::good(&body));
        let refused = Puller::new(&service, &named).refused(&image).await;
        assert_eq!(refused.code, "REGISTRY-ANSWER");
    }
    tokens.answer(|_| Reply::Endless);
    let refused = Puller::new(&service, &named).refused(&image).await;
    assert_eq!(refused.code, "REGISTRY-SIZE");
}

/// The operator's password would be shown for whatever else a realm asks for.
#[tokio::test]
async fn a_realm_with_a_query_widens_no_token() {
    let repository = Repository::new();
    let image = repository.image.clone();
    let tokens = Service::start(|_| Reply::good(b"{\"token\":\"t0ken\"}")).await;
    let named = format!(
        "credentials = \"credentials\"\ntoken = [\"{}\"]\n",
        tokens.url()
    );
    for more in ["?scope=repository:app:pull,push", "?", "#scope"] {
        let (realm, keeper) = (format!("{}/token{more}", tokens.url()), repository.clone());
        let service = Service::start(move |asked| match asked.authorization.as_deref() {
            Some("Bearer t0ken") => keeper.reply(asked),
            _ => Reply::challenge(&format!("Bearer realm=\"{realm}\"")),
        })
        .await;
        let refused = Puller::new(&service, &named).refused(&image).await;
        assert_eq!(refused.code, "REGISTRY-REALM", "{more}");
        assert!(tokens.asked().is_empty(), "nothing was shown: {more}");
    }
}

/// Anybody who can push can attach things.
#[tokio::test]
async fn what_strangers_attach_is_passed_over_and_hides_nothing() {
    let mut repository = Repository::new();
    let image = repository.image.clone();
    let good = repository.refer(&image, "{\"a\":1}");
    let lost = repository.refer(&image, "{\"b\":2}");
    let broken = repository.put(b"[]", None);
    let broken = repository.entry(&broken, crate::service::MANIFEST);
    // A blob that the registry has in another size, and one that it does not have.
    let mut layer = repository.blob(b"{\"c\":3}", BUNDLE);
    layer["size"] = serde_json::json!(3);
    let short = repository.manifest(&[layer], None, Some(&image), None);
    let short = repository.entry(&short, crate::service::MANIFEST);
    let lost_digest = lost["digest"].as_str().unwrap().to_owned();
    repository.manifests.remove(&lost_digest);
    let listed = vec![broken, lost, short, good];
    repository.referrers = Some([(image.clone(), listed)].into());
    repository
        .manifests
        .insert(format!("{}.sig", image.replace(':', "-")), b"{".to_vec());
    let service = lying(&repository, |_| None).await;
    let puller = Puller::new(&service, "");
    let pulled = puller.pull(&image).await.unwrap();
    assert_eq!(pulled.passed_over.len(), 4, "{:?}", pulled.passed_over);
    assert_eq!(read(&pulled, &image).unwrap().evidence.len(), 1);
}
