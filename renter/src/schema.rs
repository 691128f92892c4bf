//! How the texts of `protocol`'s types are described in the document of the HTTP API.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

/// An amount of money.
pub struct Coins;

impl JsonSchema for Coins {
    fn schema_name() -> Cow<'static, str> {
        "Amount".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "An amount in coins, with at most 18 decimals and, in answers, the unit.",
            "pattern": "^ *[0-9]*(\\.[0-9]{0,18})?( *SAM)? *$",
            "examples": ["2.5", "2.5 SAM"],
        })
    }
}
