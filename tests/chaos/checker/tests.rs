use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::transcript::{Clock, Transcript};

/// A run in which all is well, as its transcripts' events.
#[derive(Clone)]
struct Run {
    nemesis: Vec<(&'static str, Value)>,
    writer: Vec<(&'static str, Value)>,
    readers: [Vec<(&'static str, Value)>; 2],
    all: Vec<Value>,
    list: Value,
    log: Vec<Value>,
    epochs: Vec<Value>,
}

fn change(seq: u64, op: &str, old: &Value, new: &Value) -> Value {
    json!({"seq": seq, "op": op, "old": old, "new": new, "ends_commit": seq != 3})
}

fn doc(id: &str, content: &str) -> Value {
    json!({"id": id, "writer": 0, "content": content, "rank": 1})
}

fn write(op: &str, id: &str, content: &str, doc: &Value) -> Value {
    json!({"op": op, "id": id, "content": content, "entrance": 0, "began": 0, "doc": doc, "why": null})
}

fn snapshot(docs: &[Value], at: u64) -> Value {
    json!({"type": "snapshot", "payload": {"docs": docs, "total": docs.len(), "seq": at}})
}

fn insert(new: &Value, place: u64, from: u64, to: u64, total: u64) -> Value {
    json!({"type": "delta", "payload": {
        "changes": {"inserts": [new], "updates": [], "deletes": []}, "positions": {"inserts": [place], "updates": []},
        "from": from, "to": to, "seq": to, "total": total}})
}

fn gone(began: u64) -> Value {
    json!({"entrance": 0, "began": began, "why": "cut"})
}

fn sound() -> Run {
    let (a, b, c) = (doc("a", "w0-1"), doc("b", "w0-2"), doc("c", "w0-3"));
    let query = json!({"collection": "entries"});
    Run {
        nemesis: vec![
            ("fault", json!({"fault": "Freeze(Gateway, 1)"})),
            ("survived", json!({"took": 3_000, "entrances": [0]})),
            ("undone", Value::Null),
            ("healed", json!({"disturbed": 3})),
            ("recovered", json!({"took": 5_000})),
        ],
        writer: vec![
            ("acknowledged", write("create", "a", "w0-1", &a)),
            ("acknowledged", write("create", "b", "w0-2", &b)),
            ("acknowledged", write("create", "c", "w0-3", &c)),
            ("acknowledged", write("delete", "c", "w0-4", &Value::Null)),
        ],
        readers: [
            vec![
                ("query", query.clone()),
                ("connected", json!(0)),
                ("frame", snapshot(&[], 0)),
                ("frame", insert(&a, 0, 0, 1, 1)),
                ("frame", insert(&b, 1, 1, 4, 2)),
            ],
            vec![
                ("query", query),
                ("connected", json!(0)),
                ("frame", snapshot(std::slice::from_ref(&a), 1)),
                ("gone", gone(0)),
                ("connected", json!(0)),
                ("frame", snapshot(&[a.clone(), b.clone()], 4)),
            ],
        ],
        all: vec![a.clone(), b.clone()],
        list: json!({"docs": [a, b], "total": 2}),
        log: vec![
            change(1, "insert", &Value::Null, &a),
            change(2, "insert", &Value::Null, &b),
            change(3, "insert", &Value::Null, &c),
            change(4, "delete", &c, &Value::Null),
        ],
        epochs: vec![
            json!({"epoch": 1, "writer": "A", "changes": 2}),
            json!({"epoch": 2, "writer": "B", "changes": 1}),
            json!({"epoch": 3, "writer": "A", "changes": 1}),
        ],
    }
}

/// The problems of a run.
fn problems(run: &Run) -> String {
    let folder: TempDir = tempfile::tempdir().expect("a folder");
    let clock = Clock::start();
    let create = |name: &str| Transcript::create(folder.path(), name, &clock);
    let mut nemesis = create("nemesis");
    for (event, data) in &run.nemesis {
        nemesis.write(event, data.clone());
    }
    let mut writer = create("writer-0");
    for (event, data) in &run.writer {
        writer.write(event, data.clone());
    }
    for (number, events) in run.readers.iter().enumerate() {
        let mut reader = create(&format!("reader-{number}"));
        for (event, data) in events {
            reader.write(event, data.clone());
        }
    }
    let mut last = create("final");
    last.write("all", json!(run.all));
    last.write("list", json!({"query": run.readers[0][0].1, "list": run.list}));
    run.epochs
        .iter()
        .for_each(|epoch| last.write("epoch", epoch.clone()));
    run.log
        .iter()
        .for_each(|change| last.write("change", change.clone()));
    drop((nemesis, writer, last));
    check(folder.path()).problems.join("\n")
}

#[test]
fn a_sound_run_has_no_problems() {
    assert_eq!(problems(&sound()), "");
}

#[test]
fn an_unanswered_write_may_have_been_applied_or_not() {
    for open in [
        write("update", "b", "w0-9", &Value::Null),
        write("delete", "b", "w0-9", &Value::Null),
        write("create", "", "w0-9", &Value::Null),
    ] {
        let mut run = sound();
        run.writer.push(("unknown", open));
        assert_eq!(problems(&run), "");
    }
    for applied in ["unknown", "carried_out"] {
        let mut run = sound();
        run.writer
            .push((applied, write("update", "b", "w0-9", &Value::Null)));
        let (before, after) = (doc("b", "w0-2"), doc("b", "w0-9"));
        run.log.push(change(5, "update", &before, &after));
        run.epochs[2]["changes"] = json!(2);
        let step = json!({"type": "delta", "payload": {
            "changes": {"inserts": [], "updates": [&after], "deletes": []},
            "positions": {"inserts": [], "updates": [1]}, "from": 4, "to": 5, "seq": 5, "total": 2}});
        run.readers[0].push(("frame", step.clone()));
        run.readers[1].push(("frame", step));
        run.all[1] = after.clone();
        run.list["docs"][1] = after;
        assert_eq!(problems(&run), "");
    }
}

#[test]
fn every_kind_of_fault_in_the_server_is_found() {
    let check = |found: &str, break_it: &dyn Fn(&mut Run)| {
        let mut run = sound();
        break_it(&mut run);
        let problems = problems(&run);
        assert!(problems.contains(found), "{found} in: {problems}");
    };
    check("was acknowledged as", &|run| {
        run.all.pop();
    });
    check("was acknowledged as", &|run| run.all[1]["rank"] = json!(2));
    check("was acknowledged as deleted", &|run| {
        run.all.push(doc("c", "w0-3"))
    });
    check("w0-2 was applied twice", &|run| run.all.push(doc("d", "w0-2")));
    check("what nobody wrote", &|run| run.all.push(doc("d", "w7-7")));
    check("a sound write was refused", &|run| {
        run.writer
            .push(("refused", write("update", "b", "w0-9", &Value::Null)));
    });
    check("a step from 2 to 4 at 1", &|run| {
        run.readers[0][4].1["payload"]["from"] = json!(2);
    });
    check("is among the inserts", &|run| {
        run.readers[0][4].1 = insert(&run.all[0], 1, 1, 4, 2);
    });
    check("which is not there", &|run| {
        run.readers[0][4].1["payload"]["changes"]["deletes"] = json!(["z"]);
    });
    check("place 7 of 1", &|run| {
        run.readers[0][4].1 = insert(&run.all[1], 7, 1, 4, 2);
    });
    check("not marked as a reset", &|run| {
        run.readers[0].push(("frame", snapshot(&run.all, 5)));
    });
    check("hold different things of", &|run| {
        run.readers[1][5].1["payload"]["docs"] = json!([run.all[1], run.all[0]]);
    });
    check(
        "reader-0 shows {\"collection\":\"entries\"} at 4 otherwise than the log",
        &|run| {
            // Both clients are told the same, and it is wrong.
            run.log[0]["new"]["rank"] = json!(7);
        },
    );
    check("at 3, where no commit ends", &|run| {
        run.readers[0][4].1 = insert(&run.all[1], 1, 1, 3, 2);
    });
    check("the log has 4 where 3 is due", &|run| drop(run.log.remove(2)));
    check("a senseless change", &|run| run.log[1]["op"] = json!("delete"));
    check("ends otherwise than its log", &|run| drop(run.log.pop()));
    check("A and B both wrote in epoch 1", &|run| {
        run.epochs[1]["epoch"] = json!(1)
    });
    check("reader-1 ends with", &|run| {
        run.readers[1].truncate(3);
    });
    check("the database with", &|run| run.list["total"] = json!(3));
    check("was acknowledged as", &|run| {
        run.writer
            .push(("carried_out", write("update", "b", "w0-9", &Value::Null)));
    });
    check("was said to be carried out", &|run| {
        run.writer
            .push(("carried_out", write("create", "", "w0-9", &Value::Null)));
    });
    check("the log has w0-2 twice", &|run| {
        run.log[3] = change(4, "update", &run.all[1], &run.all[1]);
    });
    check("w0-3 was acknowledged, and is not in the log", &|run| {
        run.log[2]["new"]["content"] = json!("w0-8");
    });
    check("w0-4 was acknowledged, and is not in the log", &|run| {
        run.log[3] = change(4, "update", &run.all[1], &doc("b", "w0-8"));
    });
    check("the database counted 5 changes, and its log has 4", &|run| {
        run.epochs[2]["changes"] = json!(2);
    });
}

#[test]
fn errors_are_excused_by_faults_alone_and_not_for_long() {
    let check = |found: &str, break_it: &dyn Fn(&mut Run)| {
        let mut run = sound();
        break_it(&mut run);
        let problems = problems(&run);
        assert!(problems.contains(found), "{found} in: {problems}");
    };
    let late = |entrance: u64| {
        let mut late = write("create", "", "w0-9", &Value::Null);
        late["entrance"] = json!(entrance);
        late["began"] = json!(1_000_000);
        ("unknown", late)
    };
    check("an error that no fault excuses", &|run| run.writer.push(late(0)));
    check("an error that no fault excuses", &|run| {
        run.readers[1][3].1 = gone(1_000_000);
    });
    // As long as the fault goes on, those are excused that it does not spare.
    let mut goes_on = sound();
    goes_on.nemesis.truncate(2);
    goes_on.writer.push(late(1));
    assert_eq!(problems(&goes_on), "");
    goes_on.writer.push(late(0));
    assert!(problems(&goes_on).contains("an error that no fault excuses"));
    check("only after 5001 ms all were served again after Freeze", &|run| {
        run.nemesis[4].1["took"] = json!(5_001);
    });
    check(
        "only after 5001 ms clients were served in spite of Freeze",
        &|run| {
            run.nemesis[1].1["took"] = json!(5_001);
        },
    );
    check("only after 5001 ms writes were refused during Freeze", &|run| {
        run.nemesis[1] = ("refused", json!({"took": 5_001}));
    });
    check("a 503 without Retry-After", &|run| {
        let mut impolite = write("create", "", "w0-9", &Value::Null);
        impolite["impolite"] = json!(true);
        run.writer.push(("unknown", impolite));
    });
}
