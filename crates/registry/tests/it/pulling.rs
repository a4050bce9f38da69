//! What an honest registry holds is here afterwards, and the verifier reads it.

use crate::service::{Puller, Reply, Repository, Service, read};
use crate::vendor::{Reply as Replied, Vendor, authority};
use attest_code::Form;
use std::collections::BTreeMap;

#[tokio::test]
async fn an_image_is_pulled_with_what_is_attached_and_the_verifier_reads_it() {
    let mut repository = Repository::new();
    let image = repository.image.clone();
    let index = repository.index();
    repository.sign(&image);
    let to_image = repository.refer(&image, "{\"a\":1}");
    let to_index = repository.refer(&index, "{\"b\":2}");
    let referrers = [
        (image.clone(), vec![to_image]),
        (index.clone(), vec![to_index]),
    ];
    repository.referrers = Some(BTreeMap::from(referrers));
    let service = Service::start({
        let repository = repository.clone();
        move |asked| repository.reply(asked)
    })
    .await;
    let puller = Puller::new(&service, "");
    let pulled = puller.pull(&index).await.unwrap();
    assert!(pulled.passed_over.is_empty(), "{:?}", pulled.passed_over);
    let seen = read(&pulled, &index).unwrap();
    assert_eq!(seen.names.len(), 2);
    assert_eq!(seen.layers.len(), 1);
    let forms = |is: fn(&Form) -> bool| seen.evidence.iter().filter(|one| is(&one.form)).count();
    assert_eq!(forms(|form| matches!(form, Form::Bundle(_))), 2);
    assert_eq!(forms(|form| matches!(form, Form::SimpleSigning { .. })), 1);

    // A second time only what may have been attached since is asked for, and the tag of what signs.
    let asked = service.asked();
    assert!(asked.iter().all(|one| one.authorization.is_none()));
    puller.pull(&index).await.unwrap();
    for one in service.asked() {
        let tag = one.path.contains("/referrers/") || one.path.contains("/manifests/sha256-");
        assert!(tag, "{one:?}");
    }

    // What the folder holds is no one's word: a layer that was changed there is fetched again.
    let hex = repository.layer.strip_prefix("sha256:").unwrap();
    let changed = puller.folder.path().join("images/blobs/sha256").join(hex);
    let mut bytes = std::fs::read(&changed).unwrap();
    bytes[7] ^= 1;
    std::fs::write(&changed, bytes).unwrap();
    let pulled = puller.pull(&index).await.unwrap();
    read(&pulled, &index).unwrap();
    let asked = service.asked();
    let of_layer = asked.iter().filter(|one| one.path.contains("/blobs/"));
    assert_eq!(of_layer.count(), 1, "{asked:?}");
}

/// Registries without the API keep a list under a tag.
#[tokio::test]
async fn referrers_are_found_by_the_tag_that_stands_in_for_the_list() {
    let mut repository = Repository::new();
    let image = repository.image.clone();
    let one = repository.refer(&image, "{\"a\":1}");
    let list = serde_json::json!({
        "schemaVersion": 2, "mediaType": crate::service::INDEX, "manifests": [one],
    });
    repository.put(list.to_string().as_bytes(), Some(&image.replace(':', "-")));
    let service = Service::start({
        let repository = repository.clone();
        move |asked| repository.reply(asked)
    })
    .await;
    let puller = Puller::new(&service, "");
    let pulled = puller.pull(&image).await.unwrap();
    assert_eq!(read(&pulled, &image).unwrap().evidence.len(), 1);
}

#[tokio::test]
async fn a_token_is_asked_for_by_name_and_shown_to_the_registry_alone() {
    let repository = Repository::new();
    let image = repository.image.clone();
    let realm = std::sync::Arc::new(std::sync::OnceLock::new());
    let service = Service::start({
        let (repository, realm) = (repository.clone(), std::sync::Arc::clone(&realm));
        move |asked| {
            if asked.path.starts_with("/token?") {
                return match asked.authorization.as_deref() {
                    // reader:secret
                    Some("Basic cmVhZGVyOnNlY3JldA==") => Reply::good(b"{\"token\":\"t0ken\"}"),
                    _ => Reply::status(401),
                };
            }
            if asked.authorization.as_deref() == Some("Bearer t0ken") {
                return repository.reply(asked);
            }
            let realm: &String = realm.get().unwrap();
            Reply::challenge(&format!(
                "Bearer realm=\"{realm}\",service=\"a b\",scope=\"repository:other:pull,push\""
            ))
        }
    })
    .await;
    realm.set(format!("{}/token", service.url())).unwrap();
    let puller = Puller::new(&service, "credentials = \"credentials\"\n");
    let pulled = puller.pull(&image).await.unwrap();
    read(&pulled, &image).unwrap();
    let asked = service.asked();
    assert_eq!(asked[0].authorization, None, "nothing is shown unasked");
    let tokens: Vec<_> = asked
        .iter()
        .filter(|one| one.path.starts_with("/token"))
        .collect();
    assert_eq!(tokens.len(), 1);
    assert_eq!(
        tokens[0].path,
        "/token?scope=repository:app:pull&service=a%20b"
    );
    // Without credentials, or with a service that gives none, the image is not to be had.
    for more in ["", "credentials = \"credentials\"\n"] {
        if !more.is_empty() {
            service.answer(|_| Reply::challenge("Bearer realm=\"\""));
        }
        let refused = Puller::new(&service, more).refused(&image).await;
        assert!(
            ["REGISTRY-LOGIN", "REGISTRY-REALM"].contains(&refused.code.as_ref()),
            "{refused}"
        );
    }
}

#[tokio::test]
async fn a_password_is_shown_where_the_registry_asks_for_it() {
    let repository = Repository::new();
    let image = repository.image.clone();
    let service = Service::start({
        let repository = repository.clone();
        move |asked| match asked.authorization.as_deref() {
            Some("Basic cmVhZGVyOnNlY3JldA==") => repository.reply(asked),
            _ => Reply::challenge("Basic realm=\"x\""),
        }
    })
    .await;
    let known = Puller::new(&service, "credentials = \"credentials\"\n");
    known.pull(&image).await.unwrap();
    let refused = Puller::new(&service, "").refused(&image).await;
    assert_eq!(refused.code, "REGISTRY-LOGIN");
}

#[tokio::test]
async fn a_registry_is_known_by_the_authority_that_is_named() {
    let repository = Repository::new();
    let image = repository.image.clone();
    let vendor = Vendor::start().await;
    for (kind, map) in [
        ("manifests", &repository.manifests),
        ("blobs", &repository.blobs),
    ] {
        for (name, bytes) in map {
            vendor.put(&format!("/v2/app/{kind}/{name}"), Replied::good(bytes));
        }
    }
    let host = vendor.address.to_string();
    let registries = |ca: &str| {
        format!(
            "[[registry]]\nhost = \"{host}\"\nurl = \"{}\"\n{ca}",
            vendor.url()
        )
    };
    let puller = Puller::with(&host, registries("ca = \"ca.pem\"\n"));
    std::fs::write(puller.folder.path().join("ca.pem"), authority()).unwrap();
    let pulled = puller.pull(&image).await.unwrap();
    read(&pulled, &image).unwrap();
    // By those of the system it is nobody.
    let refused = Puller::with(&host, registries("")).refused(&image).await;
    assert!(
        ["REGISTRY-ANSWER", "REGISTRY-CONFIG"].contains(&refused.code.as_ref()),
        "{refused}"
    );
}
