//! The routes that an OpenAPI document describes, in JSON: OpenAPI 3 and Swagger 2. Not what they take or give.

use crate::found::Api;
use facts::Finding;
use serde_json::{Map, Value};
use std::collections::BTreeSet;

/// Bytes of a document that is read.
pub const MAX_DOCUMENT: usize = 16 * 1024 * 1024;
const MOST_ROUTES: usize = 20_000;
/// OpenAPI 3.2 has `query` as well, and others by `additionalOperations`.
const METHODS: [&str; 9] = [
    "get", "put", "post", "delete", "options", "head", "patch", "trace", "query",
];

/// What `document` describes, as the API `name`. `base` is what stands before each path; without it, what the
/// document's servers agree on.
///
/// # Errors
/// `SYNC-OPENAPI` and `SYNC-OPENAPI-BASE`.
pub fn routes(document: &[u8], name: &str, base: Option<&str>) -> Result<Api, Finding> {
    if document.len() > MAX_DOCUMENT {
        return Err(refused(format!("it has more than {MAX_DOCUMENT} bytes")));
    }
    let document: Value = serde_json::from_slice(document).map_err(|error| {
        refused(format!("it is no JSON: {error}"))
            .next("write it as JSON first, as with `yq -o json openapi.yaml > openapi.json`")
    })?;
    let version = ["openapi", "swagger"].map(|key| document.get(key).and_then(Value::as_str));
    match version {
        [Some(version), _] if version.starts_with("3.") => {}
        [_, Some("2.0")] => {}
        _ => return Err(refused("it does not say openapi 3 or swagger 2.0")),
    }
    let base = match base {
        Some(base) => base.to_owned(),
        None => base_of(&document)?,
    };
    let base = base.trim_end_matches('/');
    if !base.is_empty() && !base.starts_with('/') {
        return Err(base_refused(base));
    }
    let mut routes = BTreeSet::new();
    let empty = Map::new();
    let paths = document.get("paths").and_then(Value::as_object);
    for (path, item) in paths.unwrap_or(&empty) {
        // Extensions stand among the paths.
        if path.starts_with("x-") {
            continue;
        }
        if !path.starts_with('/') {
            return Err(refused(format!(
                "the path {path:?} does not begin with a slash"
            )));
        }
        let item = resolved(&document, item)
            .ok_or_else(|| refused(format!("what {path:?} refers to is not in the document")))?;
        for method in methods(item)? {
            routes.insert((method, format!("{base}{path}")));
            if routes.len() > MOST_ROUTES {
                return Err(refused(format!("it has more than {MOST_ROUTES} routes")));
            }
        }
    }
    Ok(Api {
        name: name.to_owned(),
        routes,
    })
}

fn methods(item: &Map<String, Value>) -> Result<Vec<String>, Finding> {
    let mut methods: Vec<String> = METHODS
        .into_iter()
        .filter(|method| item.contains_key(*method))
        .map(str::to_uppercase)
        .collect();
    let others = item.get("additionalOperations").and_then(Value::as_object);
    for method in others.into_iter().flat_map(Map::keys) {
        let is_method = !method.is_empty()
            && method
                .bytes()
                .all(|byte| byte.is_ascii_uppercase() || byte == b'-');
        if !is_method {
            return Err(refused(format!(
                "{method:?} is no method that an estate can name"
            )));
        }
        methods.push(method.clone());
    }
    Ok(methods)
}

/// A path item, or the one in the same document that it refers to. One step: more would be a riddle.
fn resolved<'a>(document: &'a Value, item: &'a Value) -> Option<&'a Map<String, Value>> {
    let Some(reference) = item.get("$ref") else {
        return item.as_object();
    };
    let pointer = reference.as_str()?.strip_prefix('#')?;
    let found = document.pointer(pointer)?.as_object()?;
    (!found.contains_key("$ref")).then_some(found)
}

/// What stands before each path: `basePath`, or the path on which all `servers` agree.
fn base_of(document: &Value) -> Result<String, Finding> {
    if let Some(base) = document.get("basePath").and_then(Value::as_str) {
        return Ok(base.to_owned());
    }
    let servers = document.get("servers").and_then(Value::as_array);
    let mut bases = BTreeSet::new();
    for server in servers.into_iter().flatten() {
        let url = server.get("url").and_then(Value::as_str).unwrap_or("/");
        bases.insert(path_of(url).trim_end_matches('/'));
    }
    let mut bases = bases.into_iter();
    let first = bases.next().unwrap_or_default();
    if bases.next().is_some() || first.contains(['{', '?', '#']) {
        return Err(base_refused(first));
    }
    Ok(first.to_owned())
}

/// The path of a URL, which may be relative.
fn path_of(url: &str) -> &str {
    let Some((_, rest)) = url.split_once("://") else {
        return url;
    };
    rest.find('/')
        .and_then(|slash| rest.get(slash..))
        .unwrap_or_default()
}

fn refused(observed: impl Into<String>) -> Finding {
    Finding::new(
        "SYNC-OPENAPI",
        "the document describes no API that can be read",
    )
    .expected("an OpenAPI 3 or Swagger 2.0 document, in JSON")
    .observed(observed)
    .next("correct the document, and try again")
}

fn base_refused(observed: &str) -> Finding {
    Finding::new(
        "SYNC-OPENAPI-BASE",
        "it is not clear what stands before the paths of this API",
    )
    .expected("one path that begins with a slash")
    .observed(format!("{observed:?}, among others or with variables"))
    .next("say it with --base, as --base /v1, or --base / for none")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(document: &str, base: Option<&str>) -> String {
        let api = routes(document.as_bytes(), "billing", base).unwrap();
        let routes: Vec<String> = api
            .routes
            .iter()
            .map(|(method, path)| format!("{method} {path}"))
            .collect();
        routes.join(", ")
    }

    fn code(document: &str) -> String {
        let refused = routes(document.as_bytes(), "billing", None).unwrap_err();
        assert!(refused.next.is_some());
        refused.code.into_owned()
    }

    #[test]
    fn routes_have_the_base_of_the_servers_before_them() {
        let document = r##"{"openapi":"3.1.0","servers":[{"url":"https://a.example/v1/"},{"url":"/v1"}],
            "paths":{"x-note":1,"/":{"get":{}},"/invoices/{id}":{"parameters":[],"get":{},"delete":{}},
            "/shared":{"$ref":"#/components/pathItems/shared"}},
            "components":{"pathItems":{"shared":{"post":{},"additionalOperations":{"COPY":{}}}}}}"##;
        assert_eq!(
            listed(document, None),
            "COPY /v1/shared, DELETE /v1/invoices/{id}, GET /v1/, GET /v1/invoices/{id}, POST /v1/shared"
        );
        assert!(listed(document, Some("/")).starts_with("COPY /shared,"));
        let old = r#"{"swagger":"2.0","basePath":"/api","paths":{"/x":{"put":{}}}}"#;
        assert_eq!(listed(old, None), "PUT /api/x");
    }

    #[test]
    fn what_is_no_description_is_refused() {
        for (document, expected) in [
            ("openapi: 3.0.0", "SYNC-OPENAPI"),
            ("{}", "SYNC-OPENAPI"),
            (r#"{"openapi":"4.0"}"#, "SYNC-OPENAPI"),
            (r#"{"openapi":"3.0.0","paths":{"x":{}}}"#, "SYNC-OPENAPI"),
            (
                r##"{"openapi":"3.0.0","paths":{"/x":{"$ref":"#/paths/~1x"}}}"##,
                "SYNC-OPENAPI",
            ),
            (
                r#"{"openapi":"3.0.0","paths":{"/x":{"$ref":"other.json"}}}"#,
                "SYNC-OPENAPI",
            ),
            (
                r#"{"openapi":"3.2.0","paths":{"/x":{"additionalOperations":{"a/b":{}}}}}"#,
                "SYNC-OPENAPI",
            ),
            (
                r#"{"openapi":"3.0.0","servers":[{"url":"/a"},{"url":"/b"}],"paths":{}}"#,
                "SYNC-OPENAPI-BASE",
            ),
            (
                r#"{"openapi":"3.0.0","servers":[{"url":"https://x/{stage}"}],"paths":{}}"#,
                "SYNC-OPENAPI-BASE",
            ),
        ] {
            assert_eq!(code(document), expected, "{document}");
        }
    }
}
