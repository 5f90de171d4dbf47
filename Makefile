# The few commands of this repository. All of them run as root: test hosts are network namespaces.

CARGO ?= cargo
FUNCTIONS = -p function-hello -p function-echo --target wasm32-wasip2 --release

.PHONY: help setup functions trixie demo miri test check bench

help: ## this list
	@grep -E '^[a-z]+:.*##' Makefile | sed 's/:.*## /\t/' | expand -t 12

setup: ## install Debian packages, the wasm target and the test runner; quick when all is there
	@tools/setup.sh

functions: ## the two example functions, as WebAssembly components
	$(CARGO) build --locked $(FUNCTIONS)

trixie: setup ## Debian 13's tshark, which reads BIER, in target/trixie; a minute, once
	@tools/trixie.sh

demo: setup functions ## cold and warm functions, names of others, a burst; writes target/demo/summary.json
	$(CARGO) build --locked --release --bin millrace -p millrace
	$(CARGO) run --locked --release -p millrace-hw-tests --bin demo

miri: setup ## BIER's crate, interpreted: what it and what it calls do with memory is checked step by step
	@MIRIFLAGS="-Zmiri-disable-isolation -Zmiri-tree-borrows" PROPTEST_CASES=2 \
		rustup run nightly cargo miri nextest run --locked -p millrace-bier

test: setup functions trixie miri ## everything, from pure functions to network namespaces
	$(CARGO) test --locked --workspace --doc
	fuzz/run.sh
	$(CARGO) nextest run --locked --workspace

check: ## format, clippy, documentation, dependency directions; no warning passes
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --workspace --no-deps --document-private-items
	$(CARGO) test --locked --workspace --test directions

bench: setup ## nodes and tables against testpmd, the appliance against its peers; writes target/bench/report.json
	$(CARGO) build --locked --release --bin millrace -p millrace
	$(CARGO) run --locked --release -p millrace-hw-tests --bin bench
