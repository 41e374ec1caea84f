//! What one function takes, others still have.

use alyx_function_worker::Wall;
use serde_json::json;

use super::{missing, node, python, world};

#[tokio::test(flavor = "multi_thread")]
async fn a_fork_bomb_is_bounded() {
    let world = world();
    if missing(&world, Wall::User).await && missing(&world, Wall::Processes).await {
        return;
    }
    let code = "
import os, time
children = []
out = 'unbounded'
while len(children) < 1000:
    try:
        child = os.fork()
    except OSError:
        out = len(children)
        break
    if child == 0:
        time.sleep(60)
        os._exit(0)
    children.append(child)
for child in children:
    os.kill(child, 9)
    os.waitpid(child, 0)";
    let made = python(&world, code).await;
    let made = made.as_u64().unwrap_or_else(|| panic!("{made}"));
    assert!((8..=128).contains(&made), "{made} processes");
    assert_eq!(node(&world, "return 1").await, 1);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_is_bounded_for_all_processes_together() {
    let world = world();
    if missing(&world, Wall::Memory).await {
        return;
    }
    let code = "
import os, time
children = []
for _ in range(6):
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(ours)
        held = bytearray(80 << 20)
        for at in range(0, len(held), 4096):
            held[at] = 1
        os.write(theirs, b'x')
        time.sleep(60)
        os._exit(0)
    os.close(theirs)
    children.append((child, ours))
out = sum(len(os.read(ours, 1)) for _, ours in children)
for child, _ in children:
    os.kill(child, 9)
    os.waitpid(child, 0)";
    // The kernel ends some of them, or all and their parent with them.
    match world.call("python", json!({"code": code})).await {
        Err(error) => assert_eq!(error.code(), "FUNCTION_CRASHED", "{error}"),
        Ok(completion) => {
            let held = crate::support::returned(&completion);
            assert!(
                held.as_u64().is_some_and(|held| held < 6),
                "{held} hold 80 MiB each"
            );
        }
    }
    assert_eq!(node(&world, "return 1").await, 1);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_tmp_is_the_functions_own() {
    let world = world();
    if missing(&world, Wall::Namespaces).await {
        return;
    }
    let code = "
import errno
out = 'unbounded'
chunk = b'x' * (1 << 20)
for file in range(2):
    try:
        with open(f'/tmp/full{file}', 'wb') as full:
            for _ in range(48):
                full.write(chunk)
    except OSError as error:
        out = errno.errorcode[error.errno]";
    assert_eq!(python(&world, code).await, "ENOSPC");
    assert_eq!(
        node(
            &world,
            "return require('fs').readdirSync('/tmp').filter((name) => !name.startsWith('.')).length"
        )
        .await,
        0
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn descriptors_do_not_leak_in_and_run_out_alone() {
    let world = world();
    world.worker.sandboxed().await.expect("auto refuses nothing");
    let code = "
import os
out = []
for name in os.listdir('/proc/self/fd'):
    try:
        target = os.readlink('/proc/self/fd/' + name)
    except OSError:
        continue
    if not target.startswith(('pipe:', 'anon_inode:', '/dev/null', '/dev/urandom', '/proc/')):
        out.append(target.split(':')[0])";
    assert_eq!(
        python(&world, code).await,
        json!(["socket"]),
        "its own socket and nothing else"
    );
    let code = "
import os
held = []
out = 'unbounded'
try:
    for _ in range(5000):
        held.append(os.open('/dev/null', os.O_RDONLY))
except OSError as error:
    out = len(held)
for fd in held:
    os.close(fd)";
    let held = python(&world, code).await;
    assert!(held.as_u64().is_some_and(|held| held < 1024), "{held}");
    assert_eq!(node(&world, "return 1").await, 1);
    world.stop().await;
}
