//! A plan as the server tells it: its head, then what its lists hold. Put together here, or printed a line an item as
//! they come.

use crate::arguments::PartArguments;
use crate::{Failure, admin, output};
use proto::v1;
use proto::v1::admin_client::AdminClient;
use serde_json::{Value, json};
use tonic::Code;
use tonic::transport::Channel;

/// The plan, or the part of it that `part` asks for. With `--lines` each item is printed and not kept.
pub(crate) async fn asked(
    admin: &mut AdminClient<Channel>,
    plan: v1::EstateRequest,
    part: &PartArguments,
) -> Result<Value, Failure> {
    let request = v1::EstatePlanPartsRequest {
        plan: Some(plan.clone()),
        limit: part.limit.unwrap_or_default(),
        after: part.after.clone().unwrap_or_default(),
    };
    let whole = part.limit.is_none() && part.after.is_none() && !part.lines;
    let mut stream = match admin.estate_plan_parts(request).await {
        Ok(stream) => stream.into_inner(),
        // A server of an earlier version has one message for all of it.
        Err(status) if status.code() == Code::Unimplemented && whole => {
            let answer = admin.estate_plan(plan).await;
            return admin::document(answer.map_err(|status| admin::refusal(&status))?);
        }
        Err(status) => return Err(admin::refusal(&status)),
    };
    let mut told = Told::default();
    while let Some(message) = stream
        .message()
        .await
        .map_err(|status| admin::refusal(&status))?
    {
        let message = serde_json::from_str(&message.json);
        let message = message.map_err(|error| unusable(&format!("it is not JSON: {error}")))?;
        for line in told.take(message, part.lines)? {
            output::json(&line);
        }
    }
    told.whole()
}

/// What has come so far.
#[derive(Default)]
struct Told {
    plan: Option<Value>,
    ended: bool,
}

impl Told {
    /// The lines that are printed of it, if it is printed in lines.
    fn take(&mut self, mut message: Value, lines: bool) -> Result<Vec<Value>, Failure> {
        if let Some(head) = message.get_mut("head") {
            let head = head.take();
            let line = lines.then(|| json!({ "plan": head }));
            self.plan = Some(head);
            return Ok(line.into_iter().collect());
        }
        let plan = self
            .plan
            .as_mut()
            .ok_or_else(|| unusable("it has no beginning"))?;
        if let Some(end) = message.get("end") {
            self.ended = true;
            let next = end.get("next").filter(|next| !next.is_null());
            let first = plan.pointer("/part/from").and_then(Value::as_u64) == Some(0);
            if let Value::Object(fields) = plan {
                match next {
                    Some(next) => drop(fields.insert("next".to_owned(), next.clone())),
                    // All of it is here.
                    None if first => drop(fields.remove("part")),
                    None => {}
                }
            }
            return Ok(if lines { vec![message] } else { Vec::new() });
        }
        let at = message.get("at").and_then(Value::as_str).map(str::to_owned);
        let items = message.get_mut("items").map(Value::take);
        let (Some(at), Some(Value::Array(items))) = (at, items) else {
            return Err(unusable("a part of it is neither a list nor the end"));
        };
        if lines {
            let line = |item: Value| json!({ "at": at, "item": item });
            return Ok(items.into_iter().map(line).collect());
        }
        let Some(Value::Array(list)) = plan.pointer_mut(&at) else {
            return Err(unusable(&format!("it has no list {at}")));
        };
        list.extend(items);
        Ok(Vec::new())
    }

    /// INVARIANT: what was cut short is no plan: something that it would have said is missing.
    fn whole(self) -> Result<Value, Failure> {
        match self.plan {
            Some(plan) if self.ended => Ok(plan),
            _ => Err(unusable("it ends before its end")),
        }
    }
}

fn unusable(what: &str) -> Failure {
    admin::unusable(what.to_owned()).into()
}

/// How many items of how many stand in this part, and how to go on; nothing of a whole plan.
pub(crate) fn left_out(plan: &Value) -> Option<String> {
    let number = |name: &str| plan.pointer(name).and_then(Value::as_u64);
    let (from, until, of) = (
        number("/part/from")?,
        number("/part/until")?,
        number("/part/of")?,
    );
    let begin = if until > from { from + 1 } else { from };
    let here = format!("items {begin} to {until} of {of} of the plan's lists");
    Some(match plan.get("next").and_then(Value::as_str) {
        Some(next) => format!("{here}; more with --after {next}"),
        None => format!("{here}; there are no more"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(from: u64, next: &Value) -> [Value; 4] {
        [
            json!({"head": {
                "applicable": false, "tests": [], "diff": {"widened": []},
                "part": {"from": from, "until": from + 3, "of": 9, "lists": {"/tests": 7}, "failed_tests": 2},
            }}),
            json!({"at": "/tests", "items": [1, 2]}),
            json!({"at": "/diff/widened", "items": ["x"]}),
            json!({"end": {"shown": 3, "of": 9, "next": next}}),
        ]
    }

    fn told(messages: &[Value], lines: bool) -> (Result<Value, Failure>, Vec<Value>) {
        let mut told = Told::default();
        let mut printed = Vec::new();
        for message in messages {
            match told.take(message.clone(), lines) {
                Ok(lines) => printed.extend(lines),
                Err(failure) => return (Err(failure), printed),
            }
        }
        (told.whole(), printed)
    }

    #[test]
    fn parts_are_put_back_where_they_were() {
        let (whole, printed) = told(&messages(0, &Value::Null), false);
        assert_eq!(
            whole.unwrap(),
            json!({"applicable": false, "tests": [1, 2], "diff": {"widened": ["x"]}})
        );
        assert!(printed.is_empty());
        let (cut, _) = told(&messages(0, &"ab.1".into()), false);
        let cut = cut.unwrap();
        assert_eq!(cut["next"], "ab.1");
        assert_eq!(
            left_out(&cut).unwrap(),
            "items 1 to 3 of 9 of the plan's lists; more with --after ab.1"
        );
        let (last, _) = told(&messages(6, &Value::Null), false);
        assert_eq!(
            left_out(&last.unwrap()).unwrap(),
            "items 7 to 9 of 9 of the plan's lists; there are no more"
        );
    }

    #[test]
    fn lines_are_the_head_each_item_and_the_end() {
        let (_, printed) = told(&messages(0, &Value::Null), true);
        assert!(printed[0]["plan"]["part"].is_object());
        assert_eq!(printed[1], json!({"at": "/tests", "item": 1}));
        assert_eq!(printed[3], json!({"at": "/diff/widened", "item": "x"}));
        assert_eq!(printed[4]["end"]["of"], 9);
    }

    #[test]
    fn what_is_cut_short_or_fits_nowhere_is_no_plan() {
        let all = messages(0, &Value::Null);
        assert!(told(&all[..3], false).0.is_err(), "no end");
        assert!(told(&all[1..], false).0.is_err(), "no beginning");
        let strange = [
            all[0].clone(),
            json!({"at": "/applicable", "items": [1]}),
            all[3].clone(),
        ];
        assert!(told(&strange, false).0.is_err(), "no list");
    }
}
