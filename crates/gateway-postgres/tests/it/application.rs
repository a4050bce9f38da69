//! What records have of the name that a client gives its application.

use crate::world::{World, skipped};
use gateway_postgres::ApplicationName;

const NAME: &str = "Ada Lovelace at home";

/// The `application` of the session that psql began under [`NAME`], where the gateway records names so.
async fn recorded(how: ApplicationName) -> (String, Option<Vec<u8>>) {
    let world = World::start_with(&[], |config| config.application_name = how).await;
    let payments = world.plane.issue("payments/api");
    let told = format!("application_name='{NAME}'");
    let output = world
        .program("psql", &payments, &["-XAt", "-d", &told], "SELECT 1")
        .await;
    assert!(output.status.success(), "{output:?}");
    let starts = world.recorded(r#""type":"session-start""#).await;
    let start: serde_json::Value = serde_json::from_str(&starts[0]).unwrap();
    let application = start["body"]["application"].as_str().unwrap().to_owned();
    let key = world.config.gateway.data_dir.join("application-name.key");
    let key = std::fs::read(key).ok();
    // Wherever else the name may have come to stand.
    let named = world.records("Lovelace").len();
    assert_eq!(named > 0, how == ApplicationName::Recorded, "{how:?}");
    world.stop().await;
    (application, key)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_persons_name_stands_in_no_record_where_names_are_hashed_or_dropped() {
    if skipped("a_persons_name_stands_in_no_record_where_names_are_hashed_or_dropped") {
        return;
    }
    let (application, key) = recorded(ApplicationName::Recorded).await;
    assert_eq!((application.as_str(), key), (NAME, None));
    let (application, key) = recorded(ApplicationName::Dropped).await;
    assert_eq!((application.as_str(), key), ("", None));
    let (application, key) = recorded(ApplicationName::Hashed).await;
    let hash = crypto::hex::encode(&crypto::hmac_sha256(&key.unwrap(), NAME.as_bytes()));
    assert_eq!(
        application,
        format!("hmac-sha256:{}", hash.get(..32).unwrap())
    );
}
