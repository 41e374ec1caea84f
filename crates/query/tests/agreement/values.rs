//! Random values, json texts and conditions, with the edges on which two implementations differ first.

use alyx_core::Value;
use alyx_query::{CompareOp, JsonNeedle, JsonPath, PathTest};
use alyx_schema::FieldType;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use std::sync::Arc;

/// Stored text holds no NUL: the product refuses it, and the driver would cut it off when it reads it back.
pub(crate) fn stored() -> impl Strategy<Value = String> {
    text().prop_map(|text| text.replace('\0', ""))
}

pub(crate) fn text() -> impl Strategy<Value = String> {
    let pieces = [
        "a",
        "A",
        "b",
        "ab",
        "%",
        "_",
        "ä",
        "Ä",
        "\u{1F600}",
        "\u{FFFE}",
        "\u{FFFD}",
        "\0",
        "z",
        "Z",
        "[",
        "'",
    ];
    prop_oneof![
        9 => vec(select(pieces.to_vec()), 0..6).prop_map(|pieces| pieces.concat()),
        1 => any::<String>(),
    ]
}

pub(crate) fn pattern() -> impl Strategy<Value = String> {
    let pieces = ["a", "A", "b", "%", "%", "_", "ä", "\u{1F600}", "\u{FFFD}", "\0"];
    vec(select(pieces.to_vec()), 0..7).prop_map(|pieces| pieces.concat())
}

pub(crate) fn int() -> impl Strategy<Value = i64> {
    let edges = [
        0,
        1,
        -1,
        2,
        i64::MAX,
        i64::MAX - 1,
        i64::MIN,
        1 << 53,
        (1 << 53) + 1,
        -(1 << 53) - 1,
    ];
    prop_oneof![3 => select(edges.to_vec()), 1 => -5..5_i64]
}

pub(crate) fn float() -> impl Strategy<Value = f64> {
    let edges = [
        0.0,
        -0.0,
        1.0,
        1.5,
        0.1,
        0.3,
        0.1 + 0.2,
        1e308,
        -1e308,
        5e-324,
        9_007_199_254_740_992.0,
        9_007_199_254_740_994.0,
        9_223_372_036_854_775_808.0,
        f64::INFINITY,
        f64::NEG_INFINITY,
    ];
    prop_oneof![3 => select(edges.to_vec()), 1 => any::<f64>().prop_filter("never stored", |float| !float.is_nan())]
}

/// Values in JSON, apart by white space.
const SCALARS: &str = r#"
    "a" "ab" "\u0061" "\ud83d\ude00" "\ud800" "a\u0000b" "a\\b" "" true false null [1] ["a"] {"a":1}
    1 1.0 1.50 15e-1 -0 0.0 0e5 1e-400 1e400 100 1e2 0.1 1e308 5e-324 4e-324 9007199254740993 9223372036854775807
    -9223372036854775808 9223372036854775808 0.30000000000000004 0.30000000000000002
"#;

/// What is no JSON, or only nearly.
const BROKEN: &[&str] = &[
    "",
    "a",
    "[1",
    "[1]]",
    "[01]",
    "[+1]",
    "[.5]",
    "[1.]",
    "{a:1}",
    "['a']",
    "[1,]",
    "{\"a\":1,}",
    "nul",
    "-",
    "--1",
    "[\"\\x41\"]",
    "[\"\\q\"]",
    "[\"a\tb\"]",
    "\"a\tb\"",
    "{\"a\tb\":1,\"a\":1}",
    "[NaN]",
    "[Infinity]",
    " [1] ",
    "\u{a0}[1]",
    "\u{feff}[1]",
    "[\u{c}1]",
    "/**/[1]",
    "[1]//",
    "{\"a\":1,\"a\":2}",
    "{\"\\u0061\":1}",
    "[0x1]",
];

pub(crate) fn scalar() -> impl Strategy<Value = &'static str> {
    select(SCALARS.split_whitespace().collect::<Vec<_>>())
}

pub(crate) fn nested() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => scalar().prop_map(str::to_owned),
        1 => number(),
        1 => (scalar(), scalar()).prop_map(|(a, b)| format!("[ {a},{b}]")),
        1 => (scalar(), scalar()).prop_map(|(a, b)| format!("{{\"a\":{a},\"b\":{b}}}")),
    ]
}

/// JSON as the product stores it, and what only raw SQL can store.
pub(crate) fn json() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => vec(scalar(), 0..4).prop_map(|items| format!("[{}]", items.join(","))),
        2 => vec((select(&["a", "b", "ab", "\\u0061", "\\ud800", ""][..]), scalar()), 0..3).prop_map(|members| {
            let members: Vec<_> = members.iter().map(|(key, value)| format!("\"{key}\":{value}")).collect();
            format!("{{{}}}", members.join(","))
        }),
        3 => vec((select(&["a", "b", "ab", "\\u00e4", "ä", "0"][..]), nested()), 0..4).prop_map(|members| {
            let members: Vec<_> = members.iter().map(|(key, value)| format!("\"{key}\" : {value}")).collect();
            format!(" {{{}}}", members.join(" , "))
        }),
        2 => scalar().prop_map(str::to_owned),
        2 => select(BROKEN).prop_map(str::to_owned),
        1 => any::<f64>().prop_filter("no JSON", |float| float.is_finite()).prop_map(|float| format!("[{float:?}]")),
        1 => vec(select(&["[", "]", "{", "}", ",", ":", "\"", "a", "1", "\\", "u0061", " ", "\n", "e", ".", "-"][..]), 0..8)
            .prop_map(|pieces| pieces.concat()),
    ]
}

pub(crate) fn json_path() -> impl Strategy<Value = JsonPath> {
    let step = select(&["a", "b", "ab", "0", "1", "ä"][..]);
    vec(step, 1..3).prop_map(|steps| JsonPath::parse(&steps.join(".")).expect("a sound path"))
}

/// Numbers as a caller's JSON spells them: what serde writes.
pub(crate) fn number() -> impl Strategy<Value = String> {
    let spelled = [
        "0",
        "1",
        "1.5",
        "100",
        "0.1",
        "9007199254740993",
        "9007199254740992",
        "9223372036854775807",
        "9223372036854775806",
        "-9223372036854775808",
        "9223372036854775808",
        "0.30000000000000004",
        "0.3",
        "1e+308",
        "1.7976931348623157e308",
        "5e-324",
        "1e-300",
        "0.01",
    ];
    prop_oneof![
        4 => select(spelled.to_vec()).prop_map(str::to_owned),
        1 => any::<f64>().prop_filter("no JSON", |float| float.is_finite()).prop_map(|float| format!("{float:?}")),
        1 => int().prop_map(|int| int.to_string()),
    ]
}

pub(crate) fn path_test() -> impl Strategy<Value = PathTest> {
    let ops = select(vec![
        CompareOp::Eq,
        CompareOp::Ne,
        CompareOp::Gt,
        CompareOp::Gte,
        CompareOp::Lt,
        CompareOp::Lte,
    ]);
    let words = || select(&["", "a", "ab", "b", "\u{1F600}", "a\\b", "z", "1", "true"][..]);
    prop_oneof![
        1 => Just(PathTest::Exists),
        1 => any::<bool>().prop_map(PathTest::Bool),
        4 => (ops.clone(), number()).prop_map(|(op, number)| PathTest::Number { op, number: number.into() }),
        3 => (ops, words()).prop_map(|(op, text)| PathTest::Text { op, text: text.into() }),
        1 => vec(words(), 1..4).prop_map(|mut texts| {
            texts.sort_unstable();
            texts.dedup();
            PathTest::TextIn(texts.into_iter().map(Arc::from).collect())
        }),
        1 => pattern().prop_map(|pattern| PathTest::Like(pattern.into())),
        1 => select(&["a", "b", "ab", "\u{1F600}"][..]).prop_map(|end| PathTest::EndsWith(end.into())),
        2 => needle().prop_map(PathTest::Contains),
        2 => needle().prop_map(PathTest::Holds),
    ]
}

pub(crate) fn needle() -> impl Strategy<Value = JsonNeedle> {
    let texts = ["a", "b", "ab", "", "a\0b", "\u{1F600}", "\\", "1", "true"];
    let numbers = [
        "0",
        "1",
        "1.5",
        "100",
        "0.1",
        "9007199254740993",
        "9007199254740992",
        "9223372036854775807",
        "-9223372036854775808",
        "9223372036854775808",
        "0.30000000000000004",
        "1e308",
        "5e-324",
        "0.01",
    ];
    prop_oneof![
        3 => select(texts.to_vec()).prop_map(|text| JsonNeedle::Text(text.into())),
        4 => select(numbers.to_vec()).prop_map(|number| JsonNeedle::Number(number.into())),
        1 => any::<f64>().prop_filter("no JSON", |float| float.is_finite()).prop_map(|float| JsonNeedle::Number(format!("{float:?}").into())),
        1 => any::<bool>().prop_map(JsonNeedle::Bool),
    ]
}

/// Values of the field of type select.
pub(crate) const CHOICES: &[&str] = &[
    "a",
    "A",
    "ab",
    "b",
    "1",
    "true",
    "null",
    ",",
    "a\"b",
    "a\\b",
    "ä",
    "\u{1F600}",
];

/// A value of the field's storage class.
pub(crate) fn value(kind: FieldType) -> BoxedStrategy<Value> {
    match kind {
        FieldType::Int => int().prop_map(Value::Int).boxed(),
        FieldType::Bool => any::<bool>().prop_map(Value::from).boxed(),
        FieldType::Float => float().prop_map(Value::Float).boxed(),
        FieldType::Json => json().prop_map(Value::from).boxed(),
        FieldType::Blob => blob().boxed(),
        FieldType::Uuid
        | FieldType::String
        | FieldType::Text
        | FieldType::Timestamp
        | FieldType::Email
        | FieldType::Url
        | FieldType::Date
        | FieldType::RichText
        | FieldType::File
        | FieldType::Id => stored().prop_map(Value::from).boxed(),
        FieldType::Select => selection().prop_map(Value::from).boxed(),
    }
}

/// One value as it is, several as an array, and what only raw SQL can store.
pub(crate) fn selection() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => select(CHOICES).prop_map(str::to_owned),
        4 => vec(select(CHOICES), 0..4)
            .prop_map(|chosen| serde_json::Value::from(chosen).to_string()),
        1 => stored(),
        1 => json(),
    ]
}

pub(crate) fn blob() -> impl Strategy<Value = Value> {
    let bytes = [
        0x00, b'a', b'A', b'b', 0x80, 0xBF, 0xC3, 0xA4, 0xC0, 0xE0, 0xED, 0xA0, 0xF0, 0x9F, 0xFF,
    ];
    vec(select(bytes.to_vec()), 0..6).prop_map(|bytes| Value::Blob(bytes.into()))
}
