//! JSON claims as a protobuf `Struct`, for `ValidateJWTSVID`.

use prost_types::value::Kind;
use prost_types::{ListValue, Struct, Value};
use serde_json::{Map, Value as Json};

/// `aud` is always a list, as other implementations answer (RFC 7519, section 4.1.3 allows both).
pub(crate) fn structure(mut claims: Map<String, Json>) -> Struct {
    if let Some(audience) = claims.get_mut("aud")
        && audience.is_string()
    {
        *audience = Json::Array(vec![audience.take()]);
    }
    fields(claims)
}

fn fields(object: Map<String, Json>) -> Struct {
    Struct {
        fields: object
            .into_iter()
            .map(|(name, json)| (name, value(json)))
            .collect(),
    }
}

/// Depth is bounded by the JSON parser's.
fn value(json: Json) -> Value {
    let kind = match json {
        Json::Null => Kind::NullValue(0),
        Json::Bool(value) => Kind::BoolValue(value),
        // A `Struct` has doubles only; integers beyond 2^53 lose their last digits there.
        Json::Number(value) => Kind::NumberValue(value.as_f64().unwrap_or(f64::NAN)),
        Json::String(value) => Kind::StringValue(value),
        Json::Array(values) => Kind::ListValue(ListValue {
            values: values.into_iter().map(value).collect(),
        }),
        Json::Object(object) => Kind::StructValue(fields(object)),
    };
    Value { kind: Some(kind) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn audience_becomes_a_list() {
        for text in [r#"{"aud":"a"}"#, r#"{"aud":["a"]}"#] {
            let claims = structure(serde_json::from_str(text).unwrap());
            let Some(Kind::ListValue(list)) = &claims.fields["aud"].kind else {
                panic!("{claims:?}");
            };
            assert_eq!(list.values, [value(Json::String("a".to_owned()))]);
        }
    }
}
