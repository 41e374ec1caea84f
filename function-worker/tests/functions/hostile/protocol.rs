//! Functions that speak to the server in the runtime's place, over the runtime's own socket.

use serde_json::{Value, json};

use super::{node, python, world};
use crate::support::{World, eventually};

/// Finds the socket, and makes frames.
const FRAMES: &str = "
import json, os, struct
socket = next(int(name) for name in os.listdir('/proc/self/fd')
              if os.path.exists('/proc/self/fd/' + name) and os.readlink('/proc/self/fd/' + name).startswith('socket'))
def send(kind, stream, meta=b'', body=b''):
    frame = struct.pack('<BQI', kind, stream, len(meta)) + meta + body
    os.write(socket, struct.pack('<I', len(frame)) + frame)
";
const LOAD: u8 = 2;
const HELLO: u8 = 1;
const READY: u8 = 3;
const RESULT: u8 = 5;
const CALL: u8 = 7;
const LOG: u8 = 9;

async fn forged(world: &World, code: &str) -> alyx_core::Result<alyx_service::function::Completion> {
    world
        .call("python", json!({"code": format!("{FRAMES}{code}")}))
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_the_server_says_costs_a_function_its_process() {
    let world = world();
    for kind in [HELLO, LOAD, READY] {
        let code = format!(
            "send({kind}, 0, b'{{\"name\": \"other\", \"root\": \"/\", \"entrypoint\": \"x\"}}')\nimport time\ntime.sleep(60)"
        );
        let error = forged(&world, &code).await.expect_err("its process is gone");
        assert_eq!(error.code(), "FUNCTION_CRASHED");
        assert!(error.to_string().contains("it sent a frame of type"), "{error}");
    }
    assert_eq!(node(&world, "return 1").await, 1);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_of_others_cannot_be_answered() {
    let world = world();
    let other = {
        let call = world.call(
            "node",
            json!({"code": "await ctx.db.gate.get('x'); return 'own'"}),
        );
        let forging = async {
            eventually("the other call", || {
                (world.data.waiting.load(std::sync::atomic::Ordering::SeqCst) >= 1).then_some(())
            })
            .await;
            let code = format!(
                "
for stream in range(0, 200):
    if stream != ctx_stream():
        send({RESULT}, stream, b'', b'\"forged\"')
        send({LOG}, stream, b'', json.dumps({{'level': 'info', 'message': 'forged', 'timestamp': 't'}}).encode())
out = 'done'"
            );
            // Its own stream it may answer as it likes.
            let code = format!("def ctx_stream():\n    return 1\n{code}");
            forged(&world, &code).await.expect("it goes on")
        };
        let (other, _) = tokio::join!(call, async {
            forging.await;
            world.data.open_gate(1).await;
        });
        other.expect("answered")
    };
    assert_eq!(crate::support::returned(&other), "own");
    assert!(other.logs.is_empty(), "{:?}", other.logs);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_has_ended_reaches_no_data() {
    let world = world();
    let code = "
import threading, time
def later():
    time.sleep(0.05)
    for stream in [0, 1]:
        send(7, stream, json.dumps({'id': 1 << 30, 'op': 'create', 'collection': 'messages'}).encode(), b'{\"data\": {\"content\": \"forged\"}}')
threading.Thread(target=later).start()
out = 'returned'";
    assert_eq!(CALL, 7);
    forged(&world, code).await.expect("it returns");
    // The thread has sent all of it once the function is idle and answers again.
    let listed = "import threading\nfor one in threading.enumerate():\n    if one is not threading.current_thread() and not one.daemon and one is not threading.main_thread():\n        one.join()\nout = ctx.db.messages.list()['total']";
    assert_eq!(python(&world, listed).await, 0);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn log_lines_are_the_callers_own_and_of_known_levels() {
    let world = world();
    let code = format!(
        "
line = {{'level': 'fatal\\n2026 ERROR alyx: forged', 'message': 'm', 'timestamp': 't', 'function': 'other', 'request_id': 'r'}}
send({LOG}, 1, b'', json.dumps(line).encode())
send({LOG}, 1, b'', b'not a line')
out = 1"
    );
    let completion = forged(&world, &code).await.expect("it returns");
    let told: Vec<Value> = completion
        .logs
        .iter()
        .map(|line| json!([line.level, line.message]))
        .collect();
    assert_eq!(told, [json!(["info", "m"])]);
    world.stop().await;
}
