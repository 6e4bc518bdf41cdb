# The README's two commands, and what a contributor needs. `make help` lists them.
PYTHON ?= python3
TORCH  ?= torch==2.13.0
# Where PyTorch comes from; for a CPU build on Linux: TORCH_INDEX=--index-url=https://download.pytorch.org/whl/cpu
TORCH_INDEX ?=
UV     ?= uv
BIN    := .venv/bin
PIP    := $(BIN)/python -m pip install --disable-pip-version-check
LOCKED := --no-deps --require-hashes
# One bar where there is a screen, silence where there is none, and pip's own words when it fails.
BAR     = | awk -v total="$$(grep -c '^[a-z].*==' $(1))" -v tty="$$([ -t 1 ] && echo 1)" -f requirements/progress.awk
# Most tests wait for processes they started, so more run at once than there are cores; the tests of a file stay together.
WORKERS ?= 3
SHELL  := bash
# The engine image is tried with the real LMDeploy where `make test-lmdeploy` has installed it.
LMDEPLOY_PYTHON = $(if $(wildcard .venv-lmdeploy/ready.stamp),$(CURDIR)/.venv-lmdeploy/bin/python)

.PHONY: up test test-lmdeploy test-xtuner test-containers check docs lock clean help
.DEFAULT_GOAL := help

up: .venv/run.stamp ## from a fresh clone: environment, workspaces, engines, gateway :8000, page :7860; Ctrl-C stops everything
	@exec $(BIN)/hanlin up $(ARGS)

test: .venv/test.stamp check ## from a fresh clone: environment, style, types, all tests that need no GPU
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile $(ARGS)

test-lmdeploy: .venv/test.stamp .venv-lmdeploy/ready.stamp ## the tests against the real LMDeploy, without a GPU
	HANLIN_LMDEPLOY_PYTHON=$(CURDIR)/.venv-lmdeploy/bin/python \
	  LD_LIBRARY_PATH=$(CURDIR)/.venv-lmdeploy/libcuda/usr/lib/x86_64-linux-gnu/nvidia/current \
	  $(BIN)/python -m pytest -m lmdeploy $(ARGS)

test-xtuner: .venv/test.stamp .venv-xtuner/ready.stamp ## the tests against the real XTuner 0.2.0, without a GPU
	HANLIN_XTUNER_PYTHON=$(CURDIR)/.venv-xtuner/bin/python $(BIN)/python -m pytest -m xtuner $(ARGS)

test-containers: .venv/test.stamp ## the images and docker-compose.yml, on a running Docker engine or one it starts
	HANLIN_CONTAINERS=1 HANLIN_LMDEPLOY_PYTHON=$(LMDEPLOY_PYTHON) \
	  tests/containers/engine.sh $(BIN)/python -m pytest tests/containers $(ARGS)

check: .venv/test.stamp ## style, types, import rules, generated files
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m assistants --check
	$(BIN)/python -m convert.verify.document --check

docs: .venv/test.stamp ## regenerate assistants/schema.json and the table of docs/verify.md
	$(BIN)/python -m assistants --write
	$(BIN)/python -m convert.verify.document --write

lock: ## update the locked versions after a change in pyproject.toml (needs uv)
	$(UV) pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate \
	  --overrides requirements/no-torch.txt --no-emit-package torch pyproject.toml --extra modelscope -o requirements/run.txt
	$(UV) pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate \
	  --overrides requirements/no-torch.txt --no-emit-package torch pyproject.toml --group lint --group test \
	  -c requirements/run.txt -o requirements/test.txt
	$(UV) pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate \
	  requirements/build.in -o requirements/build.txt
	$(UV) pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate \
	  --overrides requirements/no-torch.txt --no-emit-package torch --no-emit-package torchvision \
	  requirements/xtuner.in -o requirements/xtuner.txt

clean: ## remove the environments and the workspaces
	rm -rf .venv .venv-lmdeploy .venv-xtuner workspaces

help:
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Hanlin needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) -V 2>&1). Try: make PYTHON=python3.12 up"; exit 1; }
	@$(PYTHON) -m venv .venv || \
	  { rm -rf .venv; echo "Python cannot create environments here. On Debian or Ubuntu: sudo apt install python3-venv"; exit 1; }

.venv/run.stamp: requirements/run.txt pyproject.toml | .venv/bin/python
	@echo "Installing the environment (once, about a minute) …"
	@set -o pipefail; $(PIP) $(LOCKED) -r requirements/run.txt $(call BAR,requirements/run.txt)
	@$(PIP) --quiet --no-deps --editable .
	@touch $@

.venv/test.stamp: .venv/run.stamp requirements/test.txt
	@echo "Installing the test environment (once, a few minutes) …"
	@$(BIN)/python -c 'import torch' 2>/dev/null || $(PIP) --quiet $(TORCH_INDEX) $(TORCH)
	@set -o pipefail; $(PIP) $(LOCKED) -r requirements/test.txt $(call BAR,requirements/test.txt)
	@touch $@

.venv-lmdeploy/ready.stamp: requirements/lmdeploy.sh requirements/lmdeploy.txt requirements/lmdeploy-needs.txt
	@echo "Installing the real LMDeploy (once, 3 GB) …"
	@TORCH_INDEX="$(TORCH_INDEX)" TORCH="$(TORCH)" requirements/lmdeploy.sh .venv-lmdeploy
	@touch $@

.venv-xtuner/ready.stamp: requirements/xtuner.sh requirements/xtuner.txt
	@echo "Installing the real XTuner (once, 2 GB) …"
	@TORCH_INDEX="$(TORCH_INDEX)" TORCH="$(TORCH)" requirements/xtuner.sh .venv-xtuner
	@touch $@
