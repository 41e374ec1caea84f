# make run    build the release binary and start the chat demo on http://localhost:8090
# make test   install what the tests need and run all of them, with five minutes of faults
# make chaos  an hour of faults, most of it against a cluster (ALYX_CHAOS_SECONDS, ALYX_CHAOS_SEED)
# make bench  print our figures beside PocketBase's, measured in the same run

.PHONY: build run test lint tools rust browser deploy faults chaos bench clean

# Go for the tests, where the machine has none.
export PATH := $(PATH):$(CURDIR)/.cache/go/bin

build:
	cargo build --release --workspace
	mkdir -p build && cp target/release/alyx build/alyx

run: build
	cd examples/chat && ../../build/alyx dev

test: tools lint rust browser faults deploy

lint:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --quiet -- -D warnings
	cargo clippy --workspace --test chaos --quiet -- -D warnings
	cargo xtask layers

tools:
	./scripts/install-test-tools.sh

# The end-to-end tests run the binary that the first line builds.
rust: tools
	cargo build --workspace --quiet
	cargo test --workspace

browser: tools
	cargo build --workspace --quiet
	node --test tests/browser/

# The Helm chart, and the images and compose files on a Docker engine of the test's own.
deploy: tools
	cargo build --workspace --quiet
	./tests/deploy/helm.sh
	ALYX_BIN=target/debug/alyx ./tests/deploy/compose.sh

CHAOS = cargo test --workspace --test chaos -- --nocapture

# Under a fresh seed, which is printed first; ALYX_CHAOS_SEED repeats a run's faults.
faults: tools
	cargo build --workspace --quiet
	$(CHAOS) checker:: strain::
	ALYX_CHAOS_SECONDS=60 $(CHAOS) embedded::
	ALYX_CHAOS_SECONDS=240 $(CHAOS) cluster::

# ALYX_CHAOS_SECONDS is the time of both forms together.
chaos: tools
	cargo build --workspace --quiet
	ALYX_CHAOS_SECONDS=$$(( $${ALYX_CHAOS_SECONDS:-3600} / 6 )) $(CHAOS) embedded::
	ALYX_CHAOS_SECONDS=$$(( $${ALYX_CHAOS_SECONDS:-3600} * 5 / 6 )) $(CHAOS) cluster::

bench: build tools
	./scripts/install-bench-tools.sh
	cargo run --release --quiet --package alyx-benches

clean:
	cargo clean
	rm -rf build .cache tests/browser/node_modules
