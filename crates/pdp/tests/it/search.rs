//! Searches page by page: all of it, and nothing else.

use crate::world::World;
use pdp::authzen::{SEARCH_RESOURCE, SEARCH_SUBJECT};
use serde_json::{Value, json};

fn tables(limit: Option<u64>, token: Option<&str>) -> Value {
    let mut page = serde_json::Map::new();
    page.extend(limit.map(|limit| ("limit".to_owned(), json!(limit))));
    page.extend(token.map(|token| ("token".to_owned(), json!(token))));
    json!({
        "subject": {"type": "identity", "id": "bob"},
        "action": {"name": "select"},
        "resource": {"type": "table"},
        "page": page,
    })
}

fn ids(answer: &Value) -> Vec<String> {
    let results = answer["results"].as_array().unwrap();
    results
        .iter()
        .map(|result| result["id"].as_str().unwrap().to_owned())
        .collect()
}

/// Bob's tables: what the world has, and as many more as a folder can have without a thought.
async fn many() -> (World, Vec<String>) {
    let world = World::start().await;
    let mut files = crate::world::estate();
    let mut resources =
        String::from("[[database]]\nname = \"big\"\n[[database.schema]]\nname = \"public\"\n");
    for number in 0..25 {
        resources.push_str(&format!(
            "[[database.schema.table]]\nname = \"t{number:02}\"\nclassification = \"public\"\n"
        ));
    }
    files.insert("resources/big.toml", resources);
    files.insert(
        "policies/big.cedar",
        "@id(\"bob reads even\")\npermit (principal == Identity::\"bob\", action == Action::\"select\", resource in Database::\"big\")\nwhen { resource.classification == \"public\" };\n",
    );
    let mut estates = world.core.following().estate_changed();
    let index = world.plane.apply(&files);
    let waited = estates.wait_for(|current| *current >= index);
    tokio::time::timeout(crate::world::PATIENCE, waited)
        .await
        .unwrap()
        .unwrap();
    let all = ["app/public/record-1", "app/public/record-2"].map(str::to_owned);
    let more = (0..25).map(|number| format!("big/public/t{number:02}"));
    (world, all.into_iter().chain(more).collect())
}

/// All pages, the first with `limit`, and how many there were.
async fn walk(world: &World, limit: Option<u64>) -> (Vec<String>, usize) {
    let (mut all, mut pages, mut token) = (Vec::new(), 0, None::<String>);
    loop {
        let limit = if token.is_none() { limit } else { None };
        let (status, answer) = world
            .post(SEARCH_RESOURCE, &tables(limit, token.as_deref()))
            .await;
        assert_eq!(status, 200, "{answer}");
        assert_eq!(answer["page"]["count"], ids(&answer).len());
        all.extend(ids(&answer));
        pages += 1;
        let next = answer["page"]["next_token"].as_str().unwrap();
        if next.is_empty() {
            return (all, pages);
        }
        token = Some(next.to_owned());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_any_size_come_to_the_same() {
    let (world, expected) = many().await;
    for (limit, pages) in [
        (None, 1),
        (Some(1), 27),
        (Some(4), 7),
        (Some(27), 1),
        (Some(1 << 40), 1),
    ] {
        assert_eq!(
            walk(&world, limit).await,
            (expected.clone(), pages),
            "{limit:?}"
        );
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_tried_yet_is_on_a_later_page() {
    let (world, expected) = many().await;
    world.stop().await;
    let world = World::configured(|config| config.listen.max_tries = 1).await;
    // Two tables, of which alice reads the first: the second is tried for the next page.
    let mut body = tables(None, None);
    body["subject"]["id"] = json!("alice");
    let (_, first) = world.post(SEARCH_RESOURCE, &body).await;
    assert_eq!(ids(&first), ["app/public/record-1"]);
    body["page"]["token"] = first["page"]["next_token"].clone();
    let (_, second) = world.post(SEARCH_RESOURCE, &body).await;
    assert_eq!(
        (ids(&second).len(), second["page"]["next_token"].as_str()),
        (0, Some(""))
    );
    assert_eq!(expected.len(), 27);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_goes_with_its_own_search() {
    let world = World::start().await;
    let (_, first) = world.post(SEARCH_RESOURCE, &tables(Some(1), None)).await;
    let token = first["page"]["next_token"].as_str().unwrap();
    let good = tables(Some(1), Some(token));
    assert_eq!(world.post(SEARCH_RESOURCE, &good).await.0, 200);
    let mut other_subject = good.clone();
    other_subject["subject"]["id"] = json!("alice");
    let mut other_action = good.clone();
    other_action["action"]["name"] = json!("insert");
    let mut other_context = good.clone();
    other_context["context"] = json!({"a": 1});
    let truncated = token.get(1..).unwrap();
    for body in [
        other_subject,
        other_action,
        other_context,
        tables(Some(2), Some(token)),
        tables(None, Some(truncated)),
        tables(None, Some("bm90IG91cnM")),
        tables(None, Some(&"A".repeat(20_000))),
    ] {
        let (status, answer) = world.post(SEARCH_RESOURCE, &body).await;
        assert_eq!(status, 400, "{body}");
        assert!(
            answer.as_str().unwrap().starts_with("PDP-PAGE-TOKEN"),
            "{answer}"
        );
    }
    // Of another kind of search.
    let body = json!({
        "subject": {"type": "identity"}, "action": {"name": "select"},
        "resource": {"type": "table", "id": "app/public/record-1"}, "page": {"token": token},
    });
    assert_eq!(world.post(SEARCH_SUBJECT, &body).await.0, 400);
    world.stop().await;
}
