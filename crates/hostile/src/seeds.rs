//! Reads recorded evidence. Without it there are fewer seeds, and nothing that hardware signed to compare with.

use crypto::base64;
use facts::Timestamp;
use std::fs;

pub(crate) const BOOTS: [&str; 6] = [
    "direct-kernel-no-secureboot",
    "fsverity-ima-ngv2",
    "shim-grub-debian-signed-ms-keys",
    "uki-612-ipe-secureboot",
    "uki-own-keys-secureboot",
    "uki-signed-but-tampered-cmdline",
];

/// A file of the evidence, if it is at hand.
pub(crate) fn file(name: &str) -> Option<Vec<u8>> {
    fs::read(testkit::evidence()?.join(name)).ok()
}

pub(crate) fn text(name: &str) -> Option<String> {
    String::from_utf8(file(name)?).ok()
}

/// Those of `names` that are at hand.
pub(crate) fn files(names: &[&str]) -> Vec<Vec<u8>> {
    names.iter().filter_map(|name| file(name)).collect()
}

/// The files of a folder of the evidence whose names end so, in the order of their names.
pub(crate) fn folder(name: &str, ending: &str) -> Vec<Vec<u8>> {
    let listed = testkit::evidence().and_then(|all| fs::read_dir(all.join(name)).ok());
    let mut paths: Vec<_> = listed
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.to_string_lossy().ends_with(ending))
        .collect();
    paths.sort();
    paths
        .into_iter()
        .filter_map(|path| fs::read(path).ok())
        .collect()
}

/// The file `name` of each recorded boot.
pub(crate) fn of_boots(name: &str) -> Vec<Vec<u8>> {
    BOOTS
        .iter()
        .filter_map(|boot| file(&format!("lab/{boot}/{name}")))
        .collect()
}

pub(crate) fn json(name: &str) -> Option<serde_json::Value> {
    serde_json::from_slice(&file(name)?).ok()
}

/// A string of a committed vector file, `docs/vectors/NAME`, each at any depth under a key of `keys`.
pub(crate) fn vectors(name: &str, keys: &[&str]) -> Vec<String> {
    let path = testkit::workspace().join("docs/vectors").join(name);
    let text = fs::read(&path).expect("the vectors are committed");
    let mut found = Vec::new();
    collect(
        &serde_json::from_slice(&text).expect("JSON"),
        keys,
        &mut found,
    );
    assert!(!found.is_empty(), "{name} has none of {keys:?}");
    found
}

fn collect(value: &serde_json::Value, keys: &[&str], found: &mut Vec<String>) {
    match value {
        serde_json::Value::Object(members) => {
            for (key, value) in members {
                match value.as_str() {
                    Some(text) if keys.contains(&key.as_str()) => found.push(text.to_owned()),
                    _ => collect(value, keys, found),
                }
            }
        }
        serde_json::Value::Array(items) => {
            for item in items {
                collect(item, keys, found);
            }
        }
        _ => {}
    }
}

/// Either alphabet, padded or not.
pub(crate) fn base64_of(text: &str) -> Option<Vec<u8>> {
    let url = text.trim().replace('+', "-").replace('/', "_");
    base64::decode_url(url.trim_end_matches('=')).ok()
}

/// When evidence counts whose time is not looked at more closely.
pub(crate) const fn at(secs: u64) -> Timestamp {
    Timestamp::from_secs(secs)
}
