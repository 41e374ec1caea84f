//! What is sent: one batch of steps with conditions, written as JSON straight into the body.

use alyx_core::Value;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::failure::Failure;

/// When a step is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::remote) enum When {
    /// In any case.
    Always,
    /// While a transaction is open. A statement that ends it early must not let the ones after it commit by
    /// themselves.
    Open,
    /// While a transaction is open, where this step worked.
    Worked(usize),
    /// While a transaction is open, where the first step worked and the second did not. A step that was not run
    /// did not work.
    Undone(usize, usize),
}

/// A batch in the making.
#[derive(Debug)]
pub(in crate::remote) struct Batch {
    steps: Vec<u8>,
    count: usize,
}

const OPEN: &str = r#"{"type":"not","cond":{"type":"is_autocommit"}}"#;

impl Batch {
    pub(in crate::remote) fn new() -> Self {
        Self {
            steps: Vec::with_capacity(4096),
            count: 0,
        }
    }

    /// Adds a statement whose rows are wanted, and returns the step's number.
    pub(in crate::remote) fn rows(
        &mut self,
        when: When,
        sql: &str,
        params: &[Value],
    ) -> Result<usize, Failure> {
        self.step(when, sql, params, true)
    }

    /// Adds a statement of which only success is wanted, and returns the step's number.
    pub(in crate::remote) fn run(
        &mut self,
        when: When,
        sql: &str,
        params: &[Value],
    ) -> Result<usize, Failure> {
        self.step(when, sql, params, false)
    }

    fn step(&mut self, when: When, sql: &str, params: &[Value], rows: bool) -> Result<usize, Failure> {
        let start = self.steps.len();
        if self.count > 0 {
            self.steps.push(b',');
        }
        self.steps.push(b'{');
        self.condition(when);
        self.put(r#""stmt":{"sql":"#);
        self.string(sql);
        if !rows {
            self.put(r#","want_rows":false"#);
        }
        if !params.is_empty() {
            self.put(r#","args":["#);
            for (index, value) in params.iter().enumerate() {
                if index > 0 {
                    self.steps.push(b',');
                }
                if let Err(failure) = self.value(index, value) {
                    self.steps.truncate(start);
                    return Err(failure);
                }
            }
            self.steps.push(b']');
        }
        self.put("}}");
        self.count += 1;
        Ok(self.count - 1)
    }

    fn condition(&mut self, when: When) {
        match when {
            When::Always => return,
            When::Open => self.put(&format!(r#""condition":{OPEN}"#)),
            When::Worked(step) => self.put(&format!(
                r#""condition":{{"type":"and","conds":[{{"type":"ok","step":{step}}},{OPEN}]}}"#
            )),
            When::Undone(worked, failed) => self.put(&format!(
                r#""condition":{{"type":"and","conds":[{{"type":"ok","step":{worked}}},{{"type":"not","cond":{{"type":"ok","step":{failed}}}}},{OPEN}]}}"#
            )),
        }
        self.steps.push(b',');
    }

    fn value(&mut self, index: usize, value: &Value) -> Result<(), Failure> {
        match value {
            Value::Null => self.put(r#"{"type":"null"}"#),
            Value::Int(int) => self.put(&format!(r#"{{"type":"integer","value":"{int}"}}"#)),
            Value::Float(float) if !float.is_finite() => {
                return Err(Failure::Driver(format!(
                    "parameter {} is infinite, which the server's protocol cannot carry",
                    index + 1
                )));
            }
            Value::Float(float) => self.put(&format!(r#"{{"type":"float","value":{float:e}}}"#)),
            Value::Text(text) if text.as_bytes().contains(&0) => return Err(Failure::NulInText(index + 1)),
            Value::Text(text) => {
                self.put(r#"{"type":"text","value":"#);
                self.string(text);
                self.steps.push(b'}');
            }
            Value::Blob(blob) => {
                self.put(r#"{"type":"blob","base64":""#);
                self.put(&STANDARD.encode(blob));
                self.put(r#""}"#);
            }
        }
        Ok(())
    }

    fn string(&mut self, text: &str) {
        serde_json::to_writer(&mut self.steps, text).expect("a string into a vector cannot fail");
    }

    fn put(&mut self, text: &str) {
        self.steps.extend_from_slice(text.as_bytes());
    }

    /// The body of a call that runs the batch on the stream of this baton, or on a new one.
    pub(in crate::remote) fn body(&self, baton: Option<&str>) -> Vec<u8> {
        let mut body = Vec::with_capacity(self.steps.len() + 256);
        body.extend_from_slice(br#"{"baton":"#);
        serde_json::to_writer(&mut body, &baton).expect("a string into a vector cannot fail");
        body.extend_from_slice(br#","requests":[{"type":"batch","batch":{"steps":["#);
        body.extend_from_slice(&self.steps);
        body.extend_from_slice(b"]}}]}");
        body
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_the_protocols_json() {
        let mut batch = Batch::new();
        batch
            .run(When::Always, "BEGIN IMMEDIATE", &[])
            .expect("no values");
        let values = [
            Value::Null,
            Value::Int(i64::MIN),
            Value::Float(-0.5),
            Value::text("ä\"\u{1}"),
            Value::Blob([0_u8, 255].as_slice().into()),
        ];
        assert_eq!(
            batch.rows(When::Worked(0), "SELECT ?1", &values).expect("values"),
            1
        );
        batch.run(When::Undone(0, 1), "ROLLBACK", &[]).expect("no values");
        let body: serde_json::Value = serde_json::from_slice(&batch.body(Some("b"))).expect("JSON");
        assert_eq!(body["baton"], "b");
        let steps = &body["requests"][0]["batch"]["steps"];
        assert_eq!(steps[0]["stmt"]["want_rows"], false);
        assert_eq!(steps[1]["condition"]["conds"][0]["step"], 0);
        let expected = serde_json::json!([
            {"type": "null"},
            {"type": "integer", "value": "-9223372036854775808"},
            {"type": "float", "value": -0.5},
            {"type": "text", "value": "ä\"\u{1}"},
            {"type": "blob", "base64": "AP8="},
        ]);
        assert_eq!(steps[1]["stmt"]["args"], expected);
        assert_eq!(steps[2]["condition"]["conds"][1]["cond"]["step"], 1);
    }

    #[test]
    fn what_the_protocol_cannot_carry_is_refused_and_leaves_no_trace() {
        let mut batch = Batch::new();
        assert!(batch.run(When::Open, "SELECT ?1", &["a\0b".into()]).is_err());
        assert!(
            batch
                .run(When::Open, "SELECT ?1", &[Value::Float(f64::INFINITY)])
                .is_err()
        );
        assert_eq!(batch.run(When::Open, "SELECT 1", &[]).expect("fine"), 0);
        serde_json::from_slice::<serde_json::Value>(&batch.body(None)).expect("JSON");
    }
}
