//! What handlers' signatures say: bodies, queries and answers as schemas.
//!
//! Requests are described as they are read, and answers as they are written: a field with a default may be
//! left out of the one and is always in the other. So there are two generators, and [`names`](super::names)
//! brings together what is the same in both.

use std::cell::RefCell;
use std::marker::PhantomData;

use aide::generate::{GenContext, in_context};
use aide::openapi::{MediaType, Operation, RequestBody, Response, SchemaObject, StatusCode};
use aide::operation::{
    OperationInput, OperationOutput, ParamLocation, add_parameters, parameters_from_schema,
    set_body,
};
use aide::transform::TransformOperation;
use samara_renter::progress::ProgressEvent;
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value};

use super::{ANSWERS, ASKS};
use crate::access::Actor;
use crate::api::error::{ApiError, PROBLEM, Problem};
use crate::api::extract::{Json, Path, Query};
use crate::api::stream::NDJSON;

thread_local! {
    /// Describes requests. That of answers is aide's own.
    static ASKED: RefCell<SchemaGenerator> = RefCell::new(asks());
}

fn settings(path: &str) -> SchemaSettings {
    // The dialect of OpenAPI 3.1 is JSON Schema 2020-12.
    let path = path.trim_start_matches('#').trim_end_matches('/').to_owned();
    SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = path.into();
        settings.meta_schema = None;
    })
}

fn asks() -> SchemaGenerator {
    settings(ASKS).for_deserialize().into_generator()
}

/// Begins a document on this thread: what was described before is forgotten.
pub fn begin() {
    in_context(|context| context.schema = settings(ANSWERS).for_serialize().into_generator());
    ASKED.replace(asks());
}

/// The schemas that requests refer to.
pub fn requests() -> Map<String, Value> {
    ASKED.with_borrow_mut(|generator| generator.take_definitions(true))
}

fn content(kind: &str, schema: Schema) -> impl Iterator<Item = (String, MediaType)> {
    let schema = SchemaObject { json_schema: schema, external_docs: None, example: None };
    std::iter::once((kind.to_owned(), MediaType { schema: Some(schema), ..MediaType::default() }))
}

fn body(kind: &str, schema: Schema) -> RequestBody {
    RequestBody {
        content: content(kind, schema).collect(),
        required: true,
        ..RequestBody::default()
    }
}

fn response(said: &str, kind: &str, schema: Schema) -> Response {
    Response {
        description: said.to_owned(),
        content: content(kind, schema).collect(),
        ..Response::default()
    }
}

impl<T: JsonSchema> OperationInput for Json<T> {
    fn operation_input(context: &mut GenContext, operation: &mut Operation) {
        let schema = ASKED.with_borrow_mut(|generator| generator.subschema_for::<T>());
        set_body(context, operation, body("application/json", schema));
    }
}

impl<T: JsonSchema> OperationInput for Query<T> {
    fn operation_input(context: &mut GenContext, operation: &mut Operation) {
        let schema = ASKED.with_borrow_mut(|generator| T::json_schema(generator));
        let parameters = parameters_from_schema(context, schema, ParamLocation::Query);
        add_parameters(context, operation, parameters);
    }
}

/// Its parameters are those that the route's path names.
impl<T> OperationInput for Path<T> {}

impl OperationInput for Actor {}

impl<T: JsonSchema> OperationOutput for Json<T> {
    type Inner = T;

    fn operation_response(context: &mut GenContext, _: &mut Operation) -> Option<Response> {
        let schema = context.schema.subschema_for::<T>();
        Some(response("What was asked for.", "application/json", schema))
    }

    fn inferred_responses(
        context: &mut GenContext,
        operation: &mut Operation,
    ) -> Vec<(Option<StatusCode>, Response)> {
        let answer = Self::operation_response(context, operation);
        answer.into_iter().map(|answer| (Some(StatusCode::Code(200)), answer)).collect()
    }
}

impl OperationOutput for ApiError {
    type Inner = Problem;

    fn operation_response(context: &mut GenContext, _: &mut Operation) -> Option<Response> {
        let schema = context.schema.subschema_for::<Problem>();
        Some(response("A problem of RFC 9457.", PROBLEM, schema))
    }

    fn inferred_responses(
        context: &mut GenContext,
        operation: &mut Operation,
    ) -> Vec<(Option<StatusCode>, Response)> {
        let problem = Self::operation_response(context, operation);
        problem.into_iter().map(|problem| (None, problem)).collect()
    }
}

/// A stream of lines that ends with a `T`, for handlers that answer with one.
pub struct Lines<T>(PhantomData<T>);

impl<T: JsonSchema> OperationOutput for Lines<T> {
    type Inner = T;

    fn operation_response(context: &mut GenContext, _: &mut Operation) -> Option<Response> {
        let line = |kind: &str, schema: Schema| {
            let kind = json_schema!({
                "type": "object",
                "properties": { "message_type": { "const": kind } },
                "required": ["message_type"],
            });
            json_schema!({ "allOf": [kind, schema] })
        };
        let schemas = &mut context.schema;
        let lines = [
            line("progress", schemas.subschema_for::<ProgressEvent>()),
            line("result", schemas.subschema_for::<T>()),
            line("error", schemas.subschema_for::<ApiError>()),
        ];
        let said = "Lines of JSON, each as described: any number of `progress`, then one `result` or `error`.";
        Some(response(said, NDJSON, json_schema!({ "oneOf": lines })))
    }
}

/// Bytes as they are: of a file, or of a whole request.
pub struct Octets;

impl OperationInput for Octets {
    fn operation_input(context: &mut GenContext, operation: &mut Operation) {
        set_body(context, operation, body("application/octet-stream", json_schema!({})));
    }
}

impl OperationOutput for Octets {
    type Inner = ();

    fn operation_response(_: &mut GenContext, _: &mut Operation) -> Option<Response> {
        Some(response(
            "The bytes, or those of the range.",
            "application/octet-stream",
            json_schema!({}),
        ))
    }
}

/// Text of a kind of its own.
pub struct Text<const EVENTS: bool>;

impl<const EVENTS: bool> OperationOutput for Text<EVENTS> {
    type Inner = String;

    fn operation_response(_: &mut GenContext, _: &mut Operation) -> Option<Response> {
        let (said, kind) = if EVENTS {
            ("Server-sent events.", "text/event-stream")
        } else {
            ("Metrics as OpenMetrics has them.", "application/openmetrics-text")
        };
        Some(response(said, kind, json_schema!({ "type": "string" })))
    }
}

/// What a route does, where its handler's signature says all else.
pub fn says(
    summary: &'static str,
) -> impl FnOnce(TransformOperation<'_>) -> TransformOperation<'_> {
    move |operation| operation.summary(summary)
}

/// What a route does, and what it answers with, where its handler gives a whole response.
pub fn answers<const STATUS: u16, T: OperationOutput>(
    summary: &'static str,
) -> impl FnOnce(TransformOperation<'_>) -> TransformOperation<'_> {
    move |operation| operation.summary(summary).response::<STATUS, T>()
}
