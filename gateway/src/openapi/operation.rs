//! Operations whose reply is of one kind.

use serde_json::{Map, Value as Json, json};

use super::document::{Operations, failures, json_body, json_reply};

/// One of ours. Who may use it is said by the route table (see [`super::access`]).
pub(super) struct Operation<'a> {
    pub(super) id: &'a str,
    pub(super) summary: &'a str,
    pub(super) body: Option<Json>,
    /// Status, description and schema.
    pub(super) reply: (u16, &'a str, Option<Json>),
    pub(super) errors: &'a [u16],
}

impl Operation<'_> {
    pub(super) fn describe(self, tag: &str, operations: &mut Operations) -> Json {
        let mut described = operations.fixed(self.id, tag, self.summary);
        if let Some(body) = self.body {
            described["requestBody"] = json_body(&body, true);
        }
        let (status, description, schema) = self.reply;
        let reply = schema.map_or_else(
            || json!({"description": description}),
            |schema| json_reply(description, &schema),
        );
        let mut replies = Map::from_iter([(status.to_string(), reply)]);
        replies.extend(failures(self.errors));
        described["responses"] = Json::Object(replies);
        described
    }
}
