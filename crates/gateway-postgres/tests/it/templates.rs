//! Instances of a template: they come in under their own names and use what their template may, by its role.

use crate::client::Client;
use crate::world::{World, estate, skipped};

const TEMPLATE: &str = "pools/{machine.pool}/jobs/{workload.unit}";

#[tokio::test(flavor = "multi_thread")]
async fn instances_log_in_as_the_role_of_their_template() {
    if skipped("instances_log_in_as_the_role_of_their_template") {
        return;
    }
    let world = World::start().await;
    let mut files = estate();
    files.insert(
        "identities/jobs.toml",
        format!("[[identity]]\npath = \"{TEMPLATE}\"\nkind = \"job\"\nowner = \"platform\"\n"),
    );
    files.insert(
        "policies/jobs.cedar",
        format!(
            "@id(\"jobs read orders\") permit (principal == Identity::\"{TEMPLATE}\", \
             action == Action::\"select\", resource == Table::\"shop/public/orders\");\n"
        ),
    );
    world.apply(&files).await;
    let mut clients = Vec::new();
    for unit in ["nightly", "hourly"] {
        let job = world.plane.issue(&format!("pools/demo/jobs/{unit}"));
        let mut client = Client::connect(&world, &job).await;
        client.simple("SELECT note FROM orders").await.unwrap();
        let (code, _) = client.simple("SELECT * FROM cards").await.unwrap_err();
        assert_eq!(code, "42501");
        clients.push(client);
    }
    let role = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE usename = 'trilith/{TEMPLATE}@pg-1/shop'"
    );
    assert_eq!(world.postgres.execute("shop", &role).unwrap(), "2");
    // Each under its own name.
    for unit in ["nightly", "hourly"] {
        let id = format!("spiffe://example.org/pools/demo/jobs/{unit}");
        assert!(!world.recorded(&id).await.is_empty(), "{id}");
    }
    // Without the template they are nobody, and what is open is cut.
    world.apply(&estate()).await;
    for client in &mut clients {
        assert!(client.simple("SELECT note FROM orders").await.is_err());
    }
}
