//! Functions behind walls: what they need works, and starting them stays cheap.

use std::path::PathBuf;
use std::time::Instant;

use alyx_function_worker::SandboxMode;
use serde_json::json;

use crate::support::{World, lines};

/// A world whose functions run behind all walls that this machine grants.
pub(crate) fn walled() -> World {
    World::with(|options| {
        options.sandbox.mode = SandboxMode::Auto;
        options.sandbox.launcher = PathBuf::from(env!("CARGO_BIN_EXE_alyx-sandbox-launcher"));
    })
}

const NODE: &str = "
import { writeFileSync, readFileSync } from 'node:fs';
export default async (ctx) => {
  ctx.log.info('hello');
  console.log('raw');
  writeFileSync('/tmp/note', 'kept');
  const made = await ctx.db.messages.create({ content: 'x' });
  return { id: made.id, note: readFileSync('/tmp/note', 'utf8'), host: (await import('node:os')).hostname(), uid: process.getuid() };
};";

const PYTHON: &str = "
import os, tempfile, json, ssl, sqlite3, ctypes

def handler(ctx):
    ctx.log.info('hello')
    with open('/tmp/note', 'w') as note:
        note.write('kept')
    made = ctx.db.messages.create(content='x')
    return {'id': made['id'], 'note': open('/tmp/note').read(), 'host': os.uname().nodename, 'uid': os.getuid()}
";

const GO: &str = r#"package main

import (
	"os"

	"github.com/watzon/alyx/pkg/runtime"
)

func Handler(ctx *runtime.Context) (any, error) {
	ctx.Log.Info("hello")
	if err := os.WriteFile("/tmp/note", []byte("kept"), 0o600); err != nil {
		return nil, err
	}
	made, err := ctx.DB.Collection("messages").Create(runtime.Doc{"content": "x"})
	if err != nil {
		return nil, err
	}
	note, err := os.ReadFile("/tmp/note")
	if err != nil {
		return nil, err
	}
	host, _ := os.Hostname()
	return map[string]any{"id": made["id"], "note": string(note), "host": host, "uid": os.Getuid()}, nil
}
"#;

#[tokio::test(flavor = "multi_thread")]
async fn functions_find_what_they_need_behind_walls() {
    for language in ["node", "python", "go"] {
        let world = walled();
        match language {
            "node" => world.write("f", NODE),
            "python" => world.python("f", PYTHON),
            _ => world.go("f", GO),
        }
        let completion = world.call("f", json!({})).await.expect(language);
        assert!(
            lines(&completion.logs).contains(&("info", "hello")),
            "{language}: {:?}",
            completion.logs
        );
        let value = crate::support::returned(&completion);
        let expected = json!({"id": "doc-1", "note": "kept", "host": "function", "uid": 65534});
        assert_eq!(value, expected, "{language}");
        world.stop().await;
    }
}

/// Printed, never asserted: what walls cost on this machine, from the start of a process to its first answer.
#[tokio::test(flavor = "multi_thread")]
async fn walls_are_measured() {
    const ROUNDS: u32 = 9;
    for (language, source) in [("python", PYTHON), ("node", NODE), ("go", GO)] {
        for mode in [SandboxMode::Off, SandboxMode::Auto] {
            let world = World::with(|options| {
                options.sandbox.mode = mode;
                options.sandbox.launcher = PathBuf::from(env!("CARGO_BIN_EXE_alyx-sandbox-launcher"));
                for pool in [&mut options.node, &mut options.python, &mut options.go] {
                    pool.min_warm = 0;
                    pool.max_instances = 20;
                }
            });
            let file = match language {
                "node" => "index.js",
                "python" => "index.py",
                _ => "main.go",
            };
            let mut took = Vec::new();
            for round in 0..=ROUNDS {
                let name = format!("f{round}");
                world.write_as(&name, file, source, |_| {});
                // The first one also looks for the interpreter, and compiles.
                let started = Instant::now();
                world.call(&name, json!({})).await.expect(language);
                if round > 0 {
                    took.push(started.elapsed());
                }
            }
            took.sort();
            println!(
                "{language} {mode:?}: cold call p50 {:?}, max {:?}",
                took[took.len() / 2],
                took[took.len() - 1]
            );
            world.stop().await;
        }
    }
}
