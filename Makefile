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
