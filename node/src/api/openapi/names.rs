//! One list of schemas out of two: that of requests and that of answers.
//!
//! A schema that both have alike is one. Where they differ, the request's gets a name of its own.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::{ANSWERS, ASKS};

/// The end of the name of a request's schema that differs from the answer's.
const ASKED: &str = "Asked";

/// Puts the schemas of requests beside those of answers, and leads references there.
pub fn join(document: &mut Value, requests: Map<String, Value>) {
    let answers = &document["components"]["schemas"];
    let differing = differing(&requests, answers);
    let place = |name: &str| {
        let end = if differing.contains(name) { ASKED } else { "" };
        format!("{name}{end}")
    };
    let mut schemas = Map::new();
    for (name, mut schema) in requests.clone() {
        redirect(&mut schema, &place);
        schemas.insert(place(&name), schema);
    }
    redirect(document, &place);
    if let Some(all) = document["components"]["schemas"].as_object_mut() {
        all.extend(schemas);
    }
}

/// Names that stand for something else in requests than in answers: themselves, or by what they refer to.
fn differing(requests: &Map<String, Value>, answers: &Value) -> BTreeSet<String> {
    let both = requests.iter().filter_map(|(name, schema)| {
        let mut as_answer = schema.clone();
        redirect(&mut as_answer, &|name| name.to_owned());
        answers.get(name).map(|answer| (name, as_answer.to_string(), as_answer != *answer))
    });
    let both: Vec<_> = both.collect();
    let itself = both.iter().filter(|(_, _, differs)| *differs);
    let mut differing: BTreeSet<String> = itself.map(|(name, _, _)| (*name).clone()).collect();
    loop {
        let before = differing.len();
        for (name, text, _) in &both {
            if differing.iter().any(|other| text.contains(&format!("\"{ANSWERS}{other}\""))) {
                differing.insert((*name).clone());
            }
        }
        if differing.len() == before {
            return differing;
        }
    }
}

/// Leads all references to requests' schemas to where those are.
fn redirect(value: &mut Value, place: &dyn Fn(&str) -> String) {
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                let to = value.as_str().filter(|_| name == "$ref");
                let to = to.and_then(|to| to.strip_prefix(ASKS)).map(place);
                match to {
                    Some(to) => *value = Value::String(format!("{ANSWERS}{to}")),
                    None => redirect(value, place),
                }
            }
        }
        Value::Array(values) => values.iter_mut().for_each(|value| redirect(value, place)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_alike_is_one_and_what_differs_has_two_names() {
        let to = |place: &str, name: &str| json!({ "$ref": format!("{place}{name}") });
        let mut document = json!({
            "paths": [to(ASKS, "Outer"), to(ANSWERS, "Outer"), to(ASKS, "Same"), to(ASKS, "Own")],
            "components": { "schemas": {
                "Outer": { "items": to(ANSWERS, "Inner") }, "Inner": { "required": ["a"] },
                "Same": { "type": "string" },
            } },
        });
        let requests = json!({
            "Outer": { "items": to(ASKS, "Inner") }, "Inner": {}, "Same": { "type": "string" },
            "Own": { "type": "null" },
        });
        join(&mut document, requests.as_object().unwrap().clone());
        let expected = json!({
            "paths": [to(ANSWERS, "OuterAsked"), to(ANSWERS, "Outer"), to(ANSWERS, "Same"), to(ANSWERS, "Own")],
            "components": { "schemas": {
                "Outer": { "items": to(ANSWERS, "Inner") }, "Inner": { "required": ["a"] },
                "OuterAsked": { "items": to(ANSWERS, "InnerAsked") }, "InnerAsked": {},
                "Same": { "type": "string" }, "Own": { "type": "null" },
            } },
        });
        assert_eq!(document, expected);
    }
}
