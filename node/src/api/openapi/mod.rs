//! The document of the API as OpenAPI 3.1 has it, made from the code.
//!
//! A route is documented where it is made: `.api_route(PATH, get_with(HANDLER, says(SUMMARY)))` in its file
//! below `routes`. Bodies, queries and answers are those of the handler's signature; a handler that gives a
//! whole [`Response`](axum::response::Response) names its answer with [`answers`]. Descriptions are the doc
//! comments of types and fields. What all routes have alike is added here: names, path parameters, roles,
//! keys. A plain `.route` works too, and is missing from the document: a test says so.

mod infer;
mod names;
#[cfg(test)]
mod tests;

use std::sync::LazyLock;

use aide::openapi::{Info, OpenApi};
use axum::http::Method;
use serde_json::{Map, Value, json};

use super::error::PROBLEM;
use super::{idempotency, roles, server};

pub use infer::{Lines, Octets, Text, answers, says};

/// Where references to schemas of answers lead.
const ANSWERS: &str = "#/components/schemas/";
/// Where those to schemas of requests do until they are joined to the others.
const ASKS: &str = "#/components/requests/";

/// The document as it is served.
pub static TEXT: LazyLock<String> = LazyLock::new(|| format!("{:#}\n", document()));

/// The document.
fn document() -> Value {
    infer::begin();
    let server::Documented { node, people, downloads } = server::documented();
    let info = Info {
        title: "Samara".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        description: Some(
            "The local HTTP API of a node. docs/api.md tells what the routes mean.".to_owned(),
        ),
        ..Info::default()
    };
    let mut api = OpenApi { info, ..OpenApi::default() };
    let _ = node.finish_api(&mut api);
    let _ = people.finish_api(&mut api);
    let _ = downloads.finish_api(&mut api);
    // Nothing in it but texts as names.
    let mut document = serde_json::to_value(api).unwrap_or_default();
    names::join(&mut document, infer::requests());
    document["paths"] = paths(document["paths"].take());
    let token = json!({ "type": "http", "scheme": "bearer" });
    document["components"]["securitySchemes"] = json!({ "token": token });
    document
}

/// Adds to all operations what the routes' tables know.
fn paths(routes: Value) -> Value {
    let Value::Object(routes) = routes else { return routes };
    let mut paths = Map::new();
    for (pattern, mut item) in routes {
        for (method, operation) in item.as_object_mut().into_iter().flatten() {
            if let Some(operation) = operation.as_object_mut() {
                complete(&pattern, method, operation);
            }
        }
        paths.insert(pattern.replace("{*", "{"), item);
    }
    Value::Object(paths)
}

fn complete(pattern: &str, method: &str, operation: &mut Map<String, Value>) {
    // What has no version is the node's, whatever becomes of the API.
    let path = pattern.strip_prefix("/v1").map_or(format!("/node{pattern}"), str::to_owned);
    let words = path.split(['/', '-', '{', '*', '}', '.']).filter(|word| !word.is_empty());
    let id: Vec<&str> = std::iter::once(method).chain(words).collect();
    operation.insert("operationId".to_owned(), json!(id.join("_")));
    let group = path.split('/').nth(1).unwrap_or_default();
    operation.insert("tags".to_owned(), json!([group]));
    let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap_or_default();
    let security = match roles::least(&method, Some(pattern)) {
        None => json!([]),
        Some(role) => {
            operation.insert("x-role".to_owned(), json!(role.name()));
            json!([{ "token": [] }])
        }
    };
    operation.insert("security".to_owned(), security);
    // Whoever is refused before the handler is told so in the same way.
    if let Some(Value::Object(responses)) = operation.get_mut("responses") {
        responses.entry("default").or_insert_with(|| {
            let schema = json!({ "$ref": format!("{ANSWERS}Problem") });
            json!({ "description": "A problem of RFC 9457.", "content": { PROBLEM: { "schema": schema } } })
        });
    }
    let mut parameters: Vec<Value> = pattern
        .split('{')
        .skip(1)
        .filter_map(|rest| rest.split('}').next())
        .map(|name| {
            let name = name.trim_start_matches('*');
            json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } })
        })
        .collect();
    if idempotency::takes(&method, Some(pattern)) {
        parameters.push(json!({
            "name": idempotency::KEY.as_str(), "in": "header", "required": false,
            "description": "The same key with the same request is carried out once.",
            "schema": { "type": "string", "minLength": 1, "maxLength": 128 },
        }));
    }
    if let Some(Value::Array(queries)) = operation.remove("parameters") {
        parameters.extend(queries.into_iter().map(|mut query| {
            let schema = query["schema"].as_object_mut();
            // What may be left out of a query cannot be null in it.
            if let Some(schema) =
                schema.filter(|schema| schema.get("default") == Some(&Value::Null))
            {
                schema.remove("default");
            }
            query
        }));
    }
    if !parameters.is_empty() {
        operation.insert("parameters".to_owned(), Value::Array(parameters));
    }
}
