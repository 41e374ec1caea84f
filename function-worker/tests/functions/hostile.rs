//! Functions that try to get out. Whatever a wall keeps from them is tried from inside, with the server's own things
//! laid out where they would be found; where the machine does not grant a wall its test says so and ends.

mod limits;
mod protocol;

use std::fs;
use std::path::{Path, PathBuf};

use alyx_function_worker::{SandboxMode, Wall};
use serde_json::{Value, json};

use crate::sandbox::walled;
use crate::support::World;

/// Runs the Python that it is called with, and returns its `out`.
const PYTHON: &str = "
def handler(ctx):
    scope = {'ctx': ctx, 'out': None}
    exec(ctx.input['code'], scope)
    return scope['out']
";
/// Runs the JavaScript that it is called with, and returns what it returns.
const NODE: &str = "
import { createRequire } from 'node:module';
const require = createRequire('/');
export default async (ctx) => {
  const AsyncFunction = (async () => {}).constructor;
  return (await new AsyncFunction('require', 'ctx', ctx.input.code)(require, ctx)) ?? null;
};";
/// Reads what it is called with, and tells how that went.
const GO: &str = r#"package main

import (
	"os"
	"syscall"

	"github.com/watzon/alyx/pkg/runtime"
)

func Handler(ctx *runtime.Context) (any, error) {
	told := map[string]any{}
	paths, _ := ctx.Input["paths"].([]any)
	for _, path := range paths {
		_, err := os.ReadFile(path.(string))
		told[path.(string)] = err == nil
	}
	for name, call := range map[string]uintptr{"ptrace": 101, "unshare": 272, "mount": 165, "bpf": 321} {
		_, _, errno := syscall.RawSyscall(call, 0, 0, 0)
		told[name] = int(errno)
	}
	told["parent"] = os.Getppid()
	return told, nil
}
"#;

pub(crate) async fn missing(world: &World, wall: Wall) -> bool {
    let missing = world.worker.sandboxed().await.expect("auto refuses nothing");
    let missing = missing.expect("walls are wanted").contains(&wall);
    if missing {
        println!("this machine does not grant {wall:?}");
    }
    missing
}

pub(crate) async fn python(world: &World, code: &str) -> Value {
    world.value("python", json!({"code": code})).await
}

pub(crate) async fn node(world: &World, code: &str) -> Value {
    world.value("node", json!({"code": code})).await
}

pub(crate) fn world() -> World {
    let world = walled();
    serve(&world);
    world
}

fn serve(world: &World) {
    world.python("python", PYTHON);
    world.write("node", NODE);
}

/// What a server has lying about, readable by everybody, in a folder that functions' code is below, too.
fn plant(world: &World) -> Vec<PathBuf> {
    let secrets = ["alyx.yaml", "alyx.db", ".env", "code/other/secret.js"];
    let planted: Vec<PathBuf> = secrets.iter().map(|name| world.folder().join(name)).collect();
    for path in &planted {
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(path, "secret").expect("written");
    }
    planted
}

#[tokio::test(flavor = "multi_thread")]
async fn the_servers_files_are_not_there() {
    let world = world();
    world.go("go", GO);
    if missing(&world, Wall::Namespaces).await {
        return;
    }
    let mut paths = plant(&world);
    let _docker = std::os::unix::net::UnixListener::bind(world.folder().join("docker.sock")).expect("bound");
    paths.push(world.folder().join("docker.sock"));
    paths.extend(
        [
            "/etc/shadow",
            "/etc/hostname",
            "/root/.profile",
            "/root/.cargo",
            "/run",
            "/var",
            "/sys",
            "/bin/sh",
            "/proc/kcore",
        ]
        .map(PathBuf::from),
    );
    paths.push(std::env::current_exe().expect("known"));
    for path in &paths {
        let path = path.to_str().expect("text");
        let code = format!("import os\nout = os.access({path:?}, os.R_OK)");
        assert_eq!(python(&world, &code).await, false, "{path}");
        let code =
            format!("try {{ require('fs').accessSync({path:?}, 4); return true }} catch {{ return false }}");
        assert_eq!(node(&world, &code).await, false, "{path}");
    }
    let told = world.value("go", json!({"paths": &paths})).await;
    for path in &paths {
        assert_eq!(told[path.to_str().expect("text")], false, "{}", path.display());
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn links_and_working_folders_lead_nowhere() {
    let world = walled();
    let planted = plant(&world);
    world.write_as("python", "index.py", PYTHON, |function| {
        std::os::unix::fs::symlink(&planted[0], function.root.join("link")).expect("linked");
        std::os::unix::fs::symlink(world.folder(), function.root.join("node_modules")).expect("linked");
    });
    if missing(&world, Wall::Namespaces).await {
        return;
    }
    for path in [
        "'link'",
        "'node_modules/alyx.yaml'",
        "'../../alyx.yaml'",
        "'/proc/self/cwd/../../alyx.yaml'",
        "'/proc/self/root/' + os.getcwd() + '/../../alyx.yaml'",
        "'/proc/1/root/' + os.getcwd() + '/../../alyx.yaml'",
    ] {
        let told = python(&world, &format!("import os\nout = os.path.exists({path})")).await;
        assert_eq!(told, false, "{path}");
    }
    // A folder that was entered while it was inside does not lead out either.
    let code = "
import os
os.chdir('/')
try:
    os.chroot('/tmp')
    out = 'entered'
except OSError as error:
    out = error.errno";
    assert_eq!(python(&world, code).await, libc::ENOSYS);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_but_tmp_can_be_written_to() {
    let world = world();
    if missing(&world, Wall::Namespaces).await {
        return;
    }
    let runtime = world.folder().join("runtime");
    let code = format!(
        "
import os, sys
out = []
targets = [os.getcwd() + '/index.py', '/new', '/etc/passwd', '/dev/new', '/proc/sys/kernel/hostname']
for folder, _, files in os.walk({:?}):
    targets += [folder + '/' + file for file in files]
for target in targets:
    try:
        open(target, 'a').close()
        out.append(target)
    except OSError:
        pass
open('/tmp/new', 'w').close()
out += [name for name in os.listdir('/tmp') if not name.startswith('.')]",
        runtime.to_str().expect("text")
    );
    assert_eq!(python(&world, &code).await, json!(["new"]));
    let code = "try { require('fs').writeFileSync(process.argv[1], ''); return 'written' } catch (error) { return error.code }";
    assert_eq!(node(&world, code).await, "EROFS");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_else_is_there() {
    let world = world();
    world.go("go", GO);
    if missing(&world, Wall::Namespaces).await || missing(&world, Wall::Proc).await {
        return;
    }
    let (server, sibling) = (std::process::id(), sibling(&world).await);
    let code = format!(
        "
import os
pids = sorted(int(name) for name in os.listdir('/proc') if name.isdigit())
killed = []
for pid in [{server}, {sibling}]:
    try:
        os.kill(pid, 0)
        killed.append(pid)
    except OSError:
        pass
out = [pids == [os.getpid()], os.getppid(), killed, open('/proc/1/environ').read().count('CARGO')]"
    );
    assert_eq!(python(&world, &code).await, json!([true, 0, [], 0]));
    let code = format!(
        "try {{ process.kill({sibling}, 9); return 'killed' }} catch (error) {{ return error.code }}"
    );
    assert_eq!(node(&world, &code).await, "ESRCH");
    assert_eq!(world.value("go", json!({})).await["parent"], 0);
    // Everybody whom it may signal: itself alone. The others answer still.
    python(
        &world,
        "import os, signal\ntry:\n    os.kill(-1, signal.SIGKILL)\nexcept OSError:\n    pass",
    )
    .await;
    assert_eq!(node(&world, "return 1").await, 1);
    world.stop().await;
}

/// The processes whose command line holds that, as the machine numbers them.
fn processes(marker: &str) -> Vec<i32> {
    let all = fs::read_dir("/proc").expect("there").filter_map(Result::ok);
    all.filter_map(|entry| {
        let pid = entry.file_name().to_str()?.parse::<i32>().ok()?;
        let command = fs::read_to_string(entry.path().join("cmdline")).ok()?;
        command.contains(marker).then_some(pid)
    })
    .collect()
}

/// A process of the function `node` or one that waits to be one, as the machine knows it.
async fn sibling(world: &World) -> i32 {
    node(world, "return 1").await;
    let marker = format!("{}/runtime/node", world.folder().display());
    let found = processes(&marker).into_iter().next();
    found.expect("it runs")
}

#[tokio::test(flavor = "multi_thread")]
async fn system_calls_that_lead_out_are_not_there() {
    let world = world();
    world.go("go", GO);
    if missing(&world, Wall::Syscalls).await {
        return;
    }
    let calls = json!({
        "ptrace": libc::SYS_ptrace, "bpf": libc::SYS_bpf, "userfaultfd": libc::SYS_userfaultfd,
        "keyctl": libc::SYS_keyctl, "mount": libc::SYS_mount, "unshare": libc::SYS_unshare,
        "setns": libc::SYS_setns, "perf_event_open": libc::SYS_perf_event_open,
        "io_uring_setup": libc::SYS_io_uring_setup, "process_vm_readv": libc::SYS_process_vm_readv,
        "clone3": libc::SYS_clone3, "open_by_handle_at": libc::SYS_open_by_handle_at,
        "pivot_root": libc::SYS_pivot_root, "seccomp": libc::SYS_seccomp, "mknodat": libc::SYS_mknodat,
    });
    let code = format!(
        "
import ctypes, json, socket
libc = ctypes.CDLL(None, use_errno=True)
def tried(number, *arguments):
    ctypes.set_errno(0)
    libc.syscall(number, *arguments)
    return ctypes.get_errno()
out = {{name: tried(number, 0, 0, 0, 0, 0) for name, number in json.loads({:?}).items()}}
out['clone(NEWUSER)'] = tried({}, 0x10000000 | 17, 0, 0, 0, 0)
out['prctl(PDEATHSIG)'] = tried({}, 1, 0, 0, 0, 0)
for family in [17, 38, 40]:
    try:
        socket.socket(family, socket.SOCK_RAW if family == 17 else socket.SOCK_STREAM)
        out[f'socket({{family}})'] = 0
    except OSError as error:
        out[f'socket({{family}})'] = error.errno",
        calls.to_string(),
        libc::SYS_clone,
        libc::SYS_prctl,
    );
    let told = python(&world, &code).await;
    for (name, errno) in told.as_object().expect("an object") {
        assert_eq!(*errno, libc::ENOSYS, "{name}");
    }
    if cfg!(target_arch = "x86_64") {
        let told = world.value("go", json!({})).await;
        for name in ["ptrace", "unshare", "mount", "bpf"] {
            assert_eq!(told[name], libc::ENOSYS, "{name}");
        }
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn there_is_no_privilege_and_no_way_to_one() {
    let world = world();
    world.python("python", PYTHON);
    world.worker.sandboxed().await.expect("auto refuses nothing");
    let code = "
import os
told = dict(line.rstrip('\\n').split(':\\t', 1) for line in open('/proc/self/status') if ':\\t' in line)
out = {name: told[name] for name in ['CapInh', 'CapPrm', 'CapEff', 'CapBnd', 'CapAmb', 'NoNewPrivs']}
out['root'] = os.getuid() == 0 or os.geteuid() == 0
try:
    os.setuid(0)
    out['root'] = True
except OSError:
    pass";
    let none = "0000000000000000";
    let expected = json!({
        "CapInh": none, "CapPrm": none, "CapEff": none, "CapBnd": none, "CapAmb": none,
        "NoNewPrivs": "1", "root": false,
    });
    assert_eq!(python(&world, code).await, expected);
    if !missing(&world, Wall::Uid).await {
        // Inside it bears another number than outside.
        let status = fs::read_to_string(format!("/proc/{}/status", sibling(&world).await)).expect("it runs");
        let user = status
            .lines()
            .find(|line| line.starts_with("Uid:"))
            .expect("told");
        assert!(!user.split_whitespace().any(|id| id == "0"), "{user}");
        let groups = status
            .lines()
            .find_map(|line| line.strip_prefix("Groups:"))
            .expect("told");
        let own = fs::read_to_string("/proc/self/status")
            .expect("there")
            .contains("Uid:\t0\t");
        assert!(!own || groups.trim().is_empty(), "{groups}");
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_does_not_obey_is_ended_with_all_that_it_has_started() {
    let world = walled();
    world.write_as(
        "busy",
        "index.js",
        "export default () => { for (;;); }",
        |function| {
            function.timeout = std::time::Duration::from_millis(300);
        },
    );
    let error = world.refused("busy").await;
    assert_eq!(error.code(), "FUNCTION_TIMEOUT");
    let marker = format!("{}/runtime/node", world.folder().display());
    crate::support::eventually("the busy one to end", || {
        let busy = processes(&marker).into_iter().any(|pid| {
            // Time in its own code, in ticks of 10 ms: a warm one that waits has next to none.
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let ticks = stat
                .rsplit(')')
                .next()
                .and_then(|rest| rest.split(' ').nth(12)?.parse::<u64>().ok());
            ticks.is_some_and(|ticks| ticks > 25)
        });
        (!busy).then_some(())
    })
    .await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn strict_leads_to_no_network() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
    let port = listener.local_addr().expect("known").port();
    let world = World::with(|options| {
        options.sandbox.mode = SandboxMode::Strict;
        options.sandbox.launcher = PathBuf::from(env!("CARGO_BIN_EXE_alyx-sandbox-launcher"));
    });
    serve(&world);
    if let Err(error) = world.worker.sandboxed().await {
        assert!(error.to_string().contains("grants too little"), "{error}");
        assert!(error.to_string().contains("to have it:"), "{error}");
        println!("{error}");
        return;
    }
    for target in [
        "('169.254.169.254', 80)".to_owned(),
        format!("('127.0.0.1', {port})"),
    ] {
        let code = format!(
            "
import socket, errno
try:
    socket.create_connection({target}, timeout=5).close()
    out = 'connected'
except OSError as error:
    out = errno.errorcode.get(error.errno, str(error))"
        );
        assert_eq!(python(&world, &code).await, "ENETUNREACH", "{target}");
    }
    let code = format!(
        "try {{ await fetch('http://[::ffff:127.0.0.1]:{port}/'); return 'fetched' }} catch (error) {{ return error.cause.code }}"
    );
    assert_eq!(node(&world, &code).await, "ENETUNREACH");
    let code = "try { await require('dns').promises.lookup('metadata.google.internal'); return 'found' } catch (error) { return error.code }";
    assert_ne!(node(&world, code).await, "found");
    world.stop().await;
}

/// Whether a path is where only sandboxes put things.
fn is_left_over(path: &Path) -> bool {
    path.read_dir().is_ok_and(|mut entries| entries.next().is_some())
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_left_behind() {
    let world = world();
    node(&world, "require('fs').writeFileSync('/tmp/x', 'y')").await;
    python(&world, "open('/tmp/x', 'w').write('y')").await;
    let runtime = world.folder().join("runtime");
    world.worker.drain(crate::support::PLENTY).await;
    crate::support::eventually("processes to end", || {
        let running = fs::read_dir("/proc").ok()?.filter_map(Result::ok).any(|entry| {
            fs::read_to_string(entry.path().join("cmdline"))
                .is_ok_and(|command| command.contains(runtime.to_str().expect("text")))
        });
        (!running).then_some(())
    })
    .await;
    assert!(!is_left_over(&runtime.join("stage")), "mounts stay inside");
    assert!(!is_left_over(&runtime.join("scratch")), "scratch folders go");
    world.stop().await;
}

/// Starts sandboxes as on a machine that refuses mount namespaces; `None` where this machine has no means to act so.
fn refusing(folder: &Path) -> Option<PathBuf> {
    let script = folder.join("refusing");
    let launcher = env!("CARGO_BIN_EXE_alyx-sandbox-launcher");
    // The limit counts in that user namespace and all below it.
    let text = format!(
        "#!/bin/sh\nexec unshare --user --map-root-user bash -c 'echo 0 > /proc/sys/user/max_mnt_namespaces && exec -a \
         alyx-sandbox {launcher}'\n"
    );
    fs::write(&script, text).expect("written");
    fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("set");
    let tried = std::process::Command::new("unshare")
        .args([
            "--user",
            "--map-root-user",
            "bash",
            "-c",
            "echo 0 > /proc/sys/user/max_mnt_namespaces",
        ])
        .status();
    tried.is_ok_and(|status| status.success()).then_some(script)
}

#[tokio::test(flavor = "multi_thread")]
async fn where_namespaces_are_refused_landlock_keeps_functions_from_files() {
    let folder = tempfile::tempdir().expect("a folder");
    let Some(launcher) = refusing(folder.path()) else {
        println!("this machine cannot be told to refuse namespaces");
        return;
    };
    let world = World::with(|options| {
        options.sandbox.mode = SandboxMode::Auto;
        options.sandbox.launcher = launcher.clone();
    });
    serve(&world);
    world.go("go", GO);
    let missing = world
        .worker
        .sandboxed()
        .await
        .expect("auto refuses nothing")
        .expect("wanted");
    assert!(missing.contains(&Wall::Namespaces), "{missing:?}");
    if missing.contains(&Wall::Landlock) {
        println!("this machine has no Landlock");
        return;
    }
    let mut paths = plant(&world);
    paths.retain(|path| !path.ends_with("secret.js"));
    paths.extend(
        [
            format!("/proc/{}/environ", std::process::id()),
            "/etc/passwd".to_owned(),
        ]
        .map(PathBuf::from),
    );
    for path in &paths {
        let path = path.to_str().expect("text");
        let code = format!(
            "try:\n    open({path:?}).read()\n    out = 'read'\nexcept PermissionError:\n    out = 'refused'"
        );
        assert_eq!(python(&world, &code).await, "refused", "{path}");
        let code = format!(
            "try {{ require('fs').readFileSync({path:?}); return 'read' }} catch (error) {{ return error.code }}"
        );
        assert_eq!(node(&world, &code).await, "EACCES", "{path}");
    }
    let told = world.value("go", json!({"paths": &paths})).await;
    for path in &paths {
        assert_eq!(told[path.to_str().expect("text")], false, "{}", path.display());
    }
    let code = "
import os, tempfile
with tempfile.NamedTemporaryFile() as own:
    own.write(b'x')
out = []
for target in ['/tmp/alyx-hostile', os.getcwd() + '/index.py']:
    try:
        open(target, 'a').close()
        out.append(target)
    except PermissionError:
        pass";
    assert_eq!(python(&world, code).await, json!([]));
    let strict = World::with(|options| {
        options.sandbox.mode = SandboxMode::Strict;
        options.sandbox.launcher = launcher;
    });
    let error = strict.worker.sandboxed().await.expect_err("strict refuses");
    assert_eq!(error.code(), "SANDBOX_UNAVAILABLE");
    for words in ["grants too little", "mount, pid, ipc", "user.max_user_namespaces"] {
        assert!(error.to_string().contains(words), "{error}");
    }
    strict.python("python", PYTHON);
    assert_eq!(strict.refused("python").await.code(), "FUNCTION_UNAVAILABLE");
    strict.stop().await;
    world.stop().await;
}
