//! The simulated database: three collections that refer to each other, every commit with the state that it left, and
//! queries as left joins and look-ups by hand.

use std::collections::BTreeMap;
use std::sync::Arc;

use alyx_core::{Row, Seq, Value};
use alyx_query::{CompareOp, Elsewhere, Exists, Filter, Query, Reach, Scope, Through, parse_query_json};
use alyx_schema::Schema;
use serde_json::{Value as Json, json};

use crate::group::Heard;
use crate::record::Record;
use crate::window::Change;

const SCHEMA: &str = "
collections:
  teams:
    fields:
      id: {type: int, primary: true, default: auto}
      code: {type: string, nullable: true, unique: true}
      size: {type: int, nullable: true}
  people:
    fields:
      id: {type: int, primary: true, default: auto}
      name: {type: string, nullable: true}
      team: {type: string, nullable: true, references: teams.code}
      boss: {type: int, nullable: true, references: people.id}
  tasks:
    fields:
      id: {type: int, primary: true, default: auto}
      author: {type: int, nullable: true, references: people.id}
      rank: {type: int, nullable: true}
";

const TABLES: [&str; 3] = ["teams", "people", "tasks"];
const ROWS: [usize; 3] = [3, 5, 9];

/// SplitMix64 (Steele, Lea, Flood 2014): small, and good enough to pick test cases.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound.max(1) as u64).expect("bounds are small")
    }

    pub(super) fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    fn int(&mut self, bound: usize) -> i64 {
        i64::try_from(self.below(bound)).expect("bounds are small")
    }

    fn number(&mut self, bound: usize) -> Value {
        if self.chance(15) {
            Value::Null
        } else {
            Value::Int(self.int(bound))
        }
    }

    fn text(&mut self, texts: &[&str]) -> Value {
        if self.chance(15) {
            Value::Null
        } else {
            Value::from(texts[self.below(texts.len())])
        }
    }
}

type Table = BTreeMap<i64, Row>;

struct Commit {
    position: Seq,
    changes: Vec<Heard>,
    tables: [Table; 3],
}

pub(super) struct Database {
    schema: Schema,
    commits: Vec<Commit>,
    /// Of 100 changes, those that are of tasks.
    of_tasks: usize,
}

impl Database {
    pub(super) fn new(random: &mut Random) -> Self {
        let schema = alyx_schema::parse(SCHEMA, "schema.yaml")
            .expect("the schema is right")
            .schema;
        let start = Commit {
            position: Seq(10),
            changes: Vec::new(),
            tables: Default::default(),
        };
        let mut database = Self {
            schema,
            commits: vec![start],
            of_tasks: [40, 75, 95][random.below(3)],
        };
        for _ in 0..8 {
            database.commit(random);
        }
        let last = database.commits.pop().expect("there are some");
        database.commits = vec![last];
        database
    }

    pub(super) fn head(&self) -> usize {
        self.commits.len() - 1
    }

    pub(super) fn position(&self, commit: usize) -> Seq {
        self.commits[commit].position
    }

    pub(super) fn at(&self, position: Seq) -> Option<usize> {
        self.commits
            .binary_search_by_key(&position, |commit| commit.position)
            .ok()
    }

    pub(super) fn changes(&self, commit: usize) -> Vec<Heard> {
        self.commits[commit].changes.clone()
    }

    /// One to three random changes. References need not lead anywhere.
    pub(super) fn commit(&mut self, random: &mut Random) {
        let last = &self.commits[self.head()];
        let (mut tables, mut seq) = (last.tables.clone(), last.position);
        let mut changes = Vec::new();
        for _ in 0..1 + random.below(3) {
            let table = if random.chance(self.of_tasks) {
                2
            } else {
                random.below(2)
            };
            let id = random.int(ROWS[table]);
            let old = tables[table].get(&id).cloned();
            let new = match &old {
                Some(_) if random.chance(25) => None,
                Some(row) => Some(Self::altered(random, table, row)),
                None => Some(Self::row(random, table, id)),
            };
            // Codes are unique.
            let taken = |row: &Row| {
                let mut others = tables[0].iter().filter(|(other, _)| **other != id);
                table == 0 && !row[1].is_null() && others.any(|(_, other)| other[1] == row[1])
            };
            if new.as_ref().is_some_and(taken) {
                continue;
            }
            match &new {
                Some(row) => tables[table].insert(id, row.clone()),
                None => tables[table].remove(&id),
            };
            seq = Seq(seq.0 + 1);
            let record = |row: Row| Arc::new(Record::new(row));
            changes.push(Heard {
                collection: Arc::from(TABLES[table]),
                change: Change {
                    seq,
                    old: old.map(record),
                    new: new.map(record),
                },
            });
        }
        if !changes.is_empty() {
            self.commits.push(Commit {
                position: seq,
                changes,
                tables,
            });
        }
    }

    fn row(random: &mut Random, table: usize, id: i64) -> Row {
        let id = Value::Int(id);
        match table {
            0 => vec![id, random.text(&["x", "y"]), random.number(4)],
            1 => vec![
                id,
                random.text(&["a", "b"]),
                random.text(&["x", "y", "z"]),
                random.number(6),
            ],
            _ => vec![id, random.number(6), random.number(4)],
        }
    }

    fn altered(random: &mut Random, table: usize, row: &Row) -> Row {
        let fresh = Self::row(random, table, row[0].as_int().expect("a key"));
        let field = 1 + random.below(row.len() - 1);
        let mut row = row.clone();
        row[field] = fresh[field].clone();
        row
    }

    /// A query over tasks or people.
    pub(super) fn query(&self, random: &mut Random) -> Query {
        let people = random.chance(30);
        let filter = if people {
            self.person(random, 2)
        } else {
            self.task(random, 2)
        };
        let sort = match (people, random.below(3)) {
            (_, 0) => json!([]),
            (true, _) => json!(["-name"]),
            (false, 1) => json!(["rank"]),
            (false, _) => json!(["-rank"]),
        };
        let limit = 1 + random.below(5);
        let offset = if random.chance(70) { 0 } else { random.below(3) };
        let query = json!({"filter": filter, "sort": sort, "limit": limit, "offset": offset});
        let query = self.parse(if people { "people" } else { "tasks" }, &query);
        if random.chance(50) {
            return query;
        }
        // As access rules add to what was asked for.
        let rule = self.rule(random, people);
        let parts = vec![query.filter.clone(), rule];
        let filter = if random.chance(50) {
            Filter::And(parts)
        } else {
            Filter::Or(parts)
        };
        Query { filter, ..query }
    }

    /// What no caller can ask, but a rule: whether there are documents, and what one says that no reference leads to.
    fn rule(&self, random: &mut Random, people: bool) -> Filter {
        // The row's field and the field of the other document: of teams or of people, by keys and by others.
        let (field, table, target) = match (people, random.below(4)) {
            (_, 0) => (None, "teams", 0),
            (true, 1) => (Some(2), "teams", 1),
            (true, _) => (Some(0), "tasks", 1),
            (false, 1) => (Some(1), "people", 3),
            (false, 2) => (Some(2), "teams", 2),
            (false, _) => (Some(1), "people", 0),
        };
        let collection = self.schema.collection(table).expect("it is declared").clone();
        let compare = |field: usize, op: CompareOp, value: i64| Filter::Compare {
            field,
            op,
            value: Value::Int(value),
        };
        let of_other = match table {
            "teams" => compare(2, [CompareOp::Gte, CompareOp::Eq][random.below(2)], random.int(4)),
            "tasks" => compare(2, CompareOp::Ne, random.int(4)),
            _ if random.chance(50) => Filter::Not(Box::new(Filter::IsNull { field: 2 })),
            _ => {
                self.parse("people", &json!({"filter": {"team.size": {"$gte": 1}}}))
                    .filter
            }
        };
        let found = if !people && random.chance(20) {
            Filter::Through(Box::new(Through {
                field: 2,
                collection: self.schema.collection("teams").expect("it is declared").clone(),
                target: 0,
                filter: compare(2, CompareOp::Lt, random.int(4)),
            }))
        } else {
            Filter::Exists(Box::new(Exists {
                field,
                collection,
                target,
                filter: of_other,
            }))
        };
        match random.below(3) {
            0 => Filter::Not(Box::new(found)),
            1 => Filter::Untrue(Box::new(found)),
            _ => found,
        }
    }

    /// One query that looks into other documents.
    pub(super) fn across(&self) -> Query {
        self.parse("tasks", &json!({"filter": {"author.team": "x"}}))
    }

    fn parse(&self, collection: &str, query: &Json) -> Query {
        let collection = self.schema.collection(collection).expect("it is declared");
        let scope = Scope::new(&self.schema, collection, Reach::Caller);
        parse_query_json(scope, query).expect("the query is right")
    }

    fn task(&self, random: &mut Random, depth: usize) -> Json {
        self.filter(random, depth, "author", |random| match random.below(2) {
            0 => json!({"rank": {"$gte": random.below(4)}}),
            _ => json!({"rank": random.below(4)}),
        })
    }

    fn person(&self, random: &mut Random, depth: usize) -> Json {
        self.filter(random, depth, "boss", |random| match random.below(2) {
            0 => json!({"name": "a"}),
            _ => json!({"team": {"$ne": "x"}}),
        })
    }

    /// A filter that looks into the document that `refers` leads to, wherever else it looks.
    fn filter(&self, random: &mut Random, depth: usize, refers: &str, own: fn(&mut Random) -> Json) -> Json {
        let across = |random: &mut Random| {
            let (path, value) = match random.below(7) {
                0 => ("team", json!("x")),
                1 => ("name", json!(null)),
                2 => ("name", json!({"$in": ["a", "b"]})),
                3 => ("team.size", json!({"$gte": random.below(4)})),
                4 => ("team.size", json!(random.below(4))),
                5 => ("boss.team", json!({"$ne": "y"})),
                _ => ("boss.team.size", json!({"$lt": 3})),
            };
            json!({ format!("{refers}.{path}"): value })
        };
        if depth == 0 {
            return if random.chance(50) {
                across(random)
            } else {
                own(random)
            };
        }
        let inner = |random: &mut Random| self.filter(random, depth - 1, refers, own);
        match random.below(5) {
            0 => json!({"$and": [across(random), inner(random)]}),
            1 => json!({"$or": [across(random), inner(random)]}),
            2 => json!({"$not": {"$and": [across(random), inner(random)]}}),
            _ => across(random),
        }
    }

    /// All rows of the result in order, and how many there are.
    pub(super) fn result(&self, query: &Query, commit: usize) -> (Vec<Row>, u64) {
        let table = self.table(&query.collection.name, commit).values();
        let mut rows: Vec<Row> = table
            .filter(|row| self.passes(&query.filter, row, commit) == Some(true))
            .cloned()
            .collect();
        rows.sort_by(|a, b| query.compare(a, b));
        let total = rows.len() as u64;
        (rows, total)
    }

    /// Whether the part holds for that value of its field.
    pub(super) fn holds(&self, part: Elsewhere<'_>, value: &Value, commit: usize) -> bool {
        match part {
            Elsewhere::Referred(through) => self.referred(through, value, commit) == Some(true),
            Elsewhere::Exists(exists) => self.found(exists, exists.field.map(|_| value), commit),
        }
    }

    /// Whether there is such a document, with that value where one is asked for.
    fn found(&self, exists: &Exists, value: Option<&Value>, commit: usize) -> bool {
        let mut table = self.table(&exists.collection.name, commit).values();
        table.any(|row| {
            value.is_none_or(|value| !value.is_null() && row[exists.target] == *value)
                && self.passes(&exists.filter, row, commit) == Some(true)
        })
    }

    fn table(&self, name: &str, commit: usize) -> &Table {
        let place = TABLES
            .iter()
            .position(|table| *table == name)
            .expect("there are three");
        &self.commits[commit].tables[place]
    }

    fn referred(&self, through: &Through, value: &Value, commit: usize) -> Option<bool> {
        let mut table = self.table(&through.collection.name, commit).values();
        let found = table.find(|row| !value.is_null() && row[through.target] == *value);
        let nothing = vec![Value::Null; through.collection.fields.len()];
        self.passes(&through.filter, found.unwrap_or(&nothing), commit)
    }

    /// The filter with every reference looked up.
    fn passes(&self, filter: &Filter, row: &Row, commit: usize) -> Option<bool> {
        self.looked_up(filter, row, commit).eval(row)
    }

    fn looked_up(&self, filter: &Filter, row: &Row, commit: usize) -> Filter {
        let all = |parts: &[Filter]| {
            parts
                .iter()
                .map(|part| self.looked_up(part, row, commit))
                .collect()
        };
        match filter {
            Filter::And(parts) => Filter::And(all(parts)),
            Filter::Or(parts) => Filter::Or(all(parts)),
            Filter::Not(inner) => Filter::Not(Box::new(self.looked_up(inner, row, commit))),
            Filter::Untrue(inner) => Filter::Untrue(Box::new(self.looked_up(inner, row, commit))),
            Filter::Exists(exists) => {
                let found = self.found(exists, exists.field.map(|field| &row[field]), commit);
                if found { Filter::TRUE } else { Filter::FALSE }
            }
            Filter::Through(through) => match self.referred(through, &row[through.field], commit) {
                Some(true) => Filter::TRUE,
                Some(false) => Filter::FALSE,
                // Unknown, as any comparison with a field that is not there.
                None => Filter::Compare {
                    field: usize::MAX,
                    op: CompareOp::Eq,
                    value: Value::Int(0),
                },
            },
            leaf => leaf.clone(),
        }
    }
}
