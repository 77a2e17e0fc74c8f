# The commands of this project; `make help` lists them.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: bench-bundle bench-client bench-demo bench-engine bench-fabric bench-facts bench-fanout bench-flood bench-gateway bench-groups bench-measure bench-planner bench-runtime bench-weights build check controller demo demo-clean docs format galaxy help lab-down lab-up lock oldest readmes release screens silicon test test-all update-release

export PATH := $(CURDIR)/.venv/bin:$(PATH)
TIER_WORDS = $(if $(LIST),--list) $(if $(ONLY),--only $(ONLY))

help: ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | awk -F '\t' '{printf "  make %-14s %s\n", $$1, $$2}'

controller: ## Install the Python environment of the controller in .venv, from the hash-pinned lock
	@tools/controller

oldest: ## Install a second environment in .venv-oldest, with the oldest ansible-core that is supported
	@tools/controller requirements/oldest.txt .venv-oldest

demo: ## Boot a host here and run site.yml on it, up to a served token
	@tools/demo

demo-clean: ## Remove what the demo made: hosts, mounts, namespaces, files (KEEP_CACHE=1 keeps downloads)
	@tools/demo clean

check: controller ## Run after every edit: format, lint, types, fast unit tests (ONLY=STEP,STEP; LIST=1 shows the steps)
	@python3 -B tools/tiers.py check $(TIER_WORDS)

test: ## Test each capability once, on real hosts too: under 30 minutes (needs root; ONLY=STEP,STEP; LIST=1)
	@python3 -B tools/tiers.py test $(TIER_WORDS)

test-all: ## Test everything, with faults, emulated guests and real-engine groups (needs root; ONLY=STEP,STEP; LIST=1)
	@python3 -B tools/tiers.py all $(TIER_WORDS)

silicon: controller ## Run the collection on this machine's NVIDIA GPU and compare plan and reality (needs root; SILICON="--site DIR")
	@python3 -B tests/silicon/run.py $(SILICON)

format: controller ## Rewrite the Python files in the project's format
	@ruff format . && ruff check --fix .

galaxy: ## Check the built archive as Galaxy does: importer, lint, documentation, sanity (minutes)
	@tools/galaxy

docs: ## Build the handbook as HTML into .work/handbook/html
	@tools/docs

release: controller ## Prepare a release: VERSION=0.9.0 RELEASE_KEY=FILE [REPOSITORY=https://...]; commits nothing
	@tools/release "$(VERSION)"

readmes: controller ## Write roles/*/README.md from the roles' argument_specs and defaults
	@python tools/role_readmes.py

screens: controller ## Write the pictures of docs/images: what plan.yml prints for the inventories of the README
	@python tools/screens.py

lock: controller ## Resolve requirements/*.in again into hash-pinned locks without URLs
	@tools/lock

update-release: controller ## Refresh flags, locks and data of one release: VERSION=0.5.23, and ARGS=--check
	@test -n "$(VERSION)" || { echo "STOPPED  say which release: make update-release VERSION=0.5.23" >&2; exit 2; }
	@python tools/update_release.py $(VERSION) $(ARGS)

build: controller ## Build the collection as an archive for `ansible-galaxy collection install`
	@ansible-galaxy collection build --force

bench-demo: ## Measure fresh clone to token (download caches warm) and a site.yml with nothing to do
	@tools/bench-demo

bench-fanout: controller ## Measure a fan-out over shaped links against one copy and rsync (needs root and rsync)
	@python tests/benchmarks/bench_fanout.py

bench-facts: controller ## Damage each capture of a GPU host ten thousand times: the truth or a named refusal
	@python tests/benchmarks/bench_facts.py

bench-planner: controller ## Measure the planner alone and plan.yml for 100 declared hosts
	@python tests/benchmarks/bench_planner.py

bench-runtime: controller ## Measure the real engine's environment beside cp -a and pip (30 GB of disk for a while)
	@python tests/benchmarks/bench_runtime.py $(FOLDER)

bench-weights: controller ## Measure reading and looking at weights, beside sha256sum
	@python tests/benchmarks/bench_weights.py

bench-engine: controller ## Measure the engine through its unit and by hand, the launcher, and a kill -9 (needs root)
	@python tests/benchmarks/bench_engine.py

bench-groups: controller ## Break a group of hosts with the real engine in every way and measure it (needs root; an hour)
	@python tests/benchmarks/bench_groups.py

bench-client: controller ## Measure the load client alone, against a server of known truth
	@python tests/benchmarks/bench_client.py

bench-measure: controller ## Measure our load client beside a second one and the server's counters, verify, and sampling (needs root)
	@python tests/benchmarks/bench_measure.py

bench-gateway: controller ## Measure the gateway beside the same server asked directly: tokens, keys, reload, upgrade
	@python tests/benchmarks/bench_gateway.py

bench-flood: controller ## Measure a client at the gateway while 8,000 hostile connections from 8 addresses are held
	@python tests/benchmarks/bench_gateway_flood.py

bench-bundle: controller ## Measure building and verifying a real bundle beside cp and sha256sum, and a delta
	@python tests/benchmarks/bench_bundle.py

bench-fabric: controller ## Measure the tournament of 8 and 2 hosts, slow links found, and a fabric stage with nothing to do (needs root)
	@python tests/benchmarks/bench_fabric.py

lab-up: controller ## Boot the hosts of inventories/lab
	@tools/lab -i inventories/lab up

lab-down: controller ## Remove the hosts of inventories/lab
	@tools/lab -i inventories/lab down

.DEFAULT:
	@echo "STOPPED  there is no 'make $@': 'make help' lists what there is" >&2; exit 2
