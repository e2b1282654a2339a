# Commands of the repository; `make help` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
ROOT := $(CURDIR)
VENV := $(ROOT)/.venv
PYTHON ?= python3.11
export PATH := $(VENV)/bin:$(PATH)
export ANSIBLE_CONFIG := $(ROOT)/ansible.cfg
export ANSIBLE_COLLECTIONS_PATH := $(ROOT)/collections
TOOLS := $(VENV)/.installed

.PHONY: help
help:  ## List the commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  \1\t/' | expand -t 16

.PHONY: tools
tools: $(TOOLS)  ## Install the tools: system packages, .venv from requirements/dev.txt, collection link

$(TOOLS): requirements/dev.txt gateway_agent/pyproject.toml scripts/install-tools
	@scripts/install-tools "$(PYTHON)" "$(VENV)"
	@touch $@

.PHONY: bundle
bundle: $(TOOLS)  ## Make build/bundle: all that a site installs, with checksums
	@ansible-playbook playbooks/bundle.yml

.PHONY: bundle-verify
bundle-verify: $(TOOLS)  ## Check every file of the bundle against its manifest
	@ansible-playbook playbooks/bundle.yml --tags verify

.PHONY: examples
examples: $(TOOLS)  ## Build the example applications into build/examples and check them as a gateway would
	@scripts/build-examples build/examples --check

.PHONY: demo
demo: $(TOOLS)  ## Bring up a whole site on this machine and deploy the examples
	@scripts/demo

.PHONY: down
down: $(TOOLS)  ## Remove the lab's hosts and the demo's site data, and nothing else
	@ansible-playbook playbooks/reset.yml

.PHONY: test
test: $(TOOLS)  ## Run every test; ends with "N passed, N failed"
	@scripts/run-suites all

.PHONY: test-fast
test-fast: $(TOOLS)  ## Run lint and unit tests
	@scripts/run-suites fast

.PHONY: bench
bench: $(TOOLS)  ## Measure the firmware, the bridges, the runtime and the site; writes build/bench/*.json
	@scripts/run-suites bench

.PHONY: soak
soak: $(TOOLS)  ## Run the long tests: 30 minutes of each fuzzer, a power cut at every flash operation, peers, 100 boards, 100 vehicles, 100 kills on the demo's site
	@scripts/run-suites soak

.PHONY: format
format: $(TOOLS)  ## Format the Python sources
	@ruff check --fix . && ruff format .
