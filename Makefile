# `make` alone lists everything. Every target does its own set-up.
SHELL := /bin/bash
NODE := node_modules/.bin/node
.DEFAULT_GOAL := help
.PHONY: help setup demo lab test test-all test-kernel lint fix image release bench clean

help: ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## install and build what everything else needs (a no-op when nothing is to do)
	@tools/setup.sh

demo: setup ## four nodes; traffic between pods in clear, then encrypted, looked at on the wire
	@$(NODE) tools/demo/main.ts

lab: setup ## a four-node cluster and a shell with kubectl, cilium, pellicle; `bin/pellicle lab down` removes it
	@bin/pellicle lab up && { bin/pellicle lab shell || true; }

test: setup ## all tests; SUITES=unit,contract,engine,interop,scenarios picks some
	@$(NODE) tools/test/main.ts $(SUITES)

test-all: setup ## the same with those that `make test` skips as slow
	@PELLICLE_SLOW_TESTS=1 $(NODE) tools/test/main.ts $(SUITES)

test-kernel: setup ## the kernel datapath on Debian's kernels, in an emulated machine; KERNELS=6.12,6.1 picks some
	@$(NODE) tools/kernel/main.ts $(KERNELS)

lint: setup ## types, lint, format, import boundaries, unused code, generated files up to date
	@tools/lint.sh

fix: setup ## format, sort imports, bring generated files up to date
	@PATH="$(CURDIR)/node_modules/.bin:$$PATH" biome check --write .
	@cd engine && cargo fmt
	@for f in tools/update-*.ts; do $(NODE) $$f || exit 1; done

image: setup ## the container image as an OCI archive in build/images/
	@$(NODE) tools/image/main.ts

release: setup ## `pellicle wireguard` without Node, for Debian, Ubuntu, Alpine …, in build/release/
	@$(NODE) tools/release/main.ts

bench: setup ## throughput, handshakes and losses beside the peers, in the same run; BENCH=--quick: in four minutes
	@$(NODE) bench/main.ts $(BENCH)

clean: ## remove what was built in this folder (not the cache of Kubernetes programs)
	@rm -rf build node_modules engine/target
