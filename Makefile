# Two commands: `make run` and `make test`. The rest is for people who work on Groundswell.

.PHONY: run test soak bench bench-proxy conformance fresh dist test-tools clean

run: ## build an optimised binary and serve ./gs_data on 127.0.0.1:8090
	@scripts/check-needs run
	@[ -x target/release/groundswell ] || echo 'Building the server: some minutes the first time.'
	@cargo build --release --quiet --locked -p groundswell || cargo build --release --locked -p groundswell
	@exec target/release/groundswell serve

test: ## install what the tests need, then run all of them
	@scripts/test

test-tools: ## install what the tests need
	@scripts/install-test-tools

conformance: ## the contract, compared with the real PocketBase
	@scripts/install-test-tools
	@cargo build --locked -p groundswell
	@cargo run --quiet --locked -p conformance --

bench: ## speed beside the real PocketBase; results go to bench/results
	@scripts/install-test-tools
	@cargo build --release --locked -p groundswell -p bench
	@target/release/bench $(BENCH)

bench-proxy: ## the gateway beside NGINX, HAProxy, Envoy and Traefik, and what its parts cost; results go to bench/results
	@scripts/install-bench-tools
	@cargo build --release --locked -p groundswell -p bench --bins --example in_process
	@target/release/bench --proxy $(BENCH)
	@target/release/bench --edge $(BENCH)

soak: ## the long runs: cargo deny, more random cases, more crash rounds
	@scripts/soak

fresh: ## the newcomer's path on a fresh Debian 12 (root on Debian)
	@scripts/fresh

dist: ## a stripped binary, its checksum and its SBOM in dist/
	@scripts/dist

clean: ## remove what was built and installed here
	@rm -rf target dist .tools tests/sdk/node_modules tests/browser/node_modules examples/*/node_modules examples/nextjs/.next
