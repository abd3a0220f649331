# The same commands here and in CI. Needs Python 3.11 or newer, and make.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
ARGS ?=
JOBS ?= 2

.DEFAULT_GOAL := help
.PHONY: help install serve servers test soak check bench docs lock clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.venv/run.stamp: requirements/run.lock pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(PIP) install --require-hashes -r requirements/run.lock
	$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

.venv/dev.stamp: .venv/run.stamp requirements/dev.lock requirements/oldpip.lock
	$(PIP) install --require-hashes -r requirements/dev.lock
	$(PIP) install --require-hashes --upgrade --target .venv/oldpip -r requirements/oldpip.lock
	@touch $@

install: .venv/run.stamp  ## a .venv with the hash-locked requirements and .venv/bin/entrepot

serve: install  ## an index at http://127.0.0.1:8080/ (ARGS="--port 9000 ./dist" adds flags and folders)
	$(BIN)/entrepot serve $(ARGS)

servers:  ## system packages that tests with real servers need, by apt (none yet)
	@echo "no system packages are needed yet"

# A file's tests run in one process and in their order: they share servers.
test: .venv/dev.stamp  ## every test but the long rounds, in JOBS=2 processes; real pip, uv, twine and poetry included
	$(BIN)/python -m pytest -m "not soak" -n $(JOBS) --dist loadfile --no-loadscope-reorder $(ARGS)

soak: .venv/dev.stamp  ## the long rounds: 200 crashes and more
	$(BIN)/python -m pytest -m soak $(ARGS)

check: .venv/dev.stamp  ## ruff, mypy strict, the layers, the size budgets
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	PYTHONPATH=src $(BIN)/lint-imports
	$(BIN)/python tools/budgets.py

bench: .venv/dev.stamp  ## entrepot, nginx, pypiserver and devpi side by side; rewrites docs/benchmarks.md
	$(BIN)/python -m bench $(ARGS)

docs: .venv/dev.stamp  ## the command reference written anew from the commands themselves
	$(BIN)/python tools/write_cli_reference.py

lock: .venv/dev.stamp  ## resolve the requirements anew (needs an index; the locks name none)
	cd requirements && ../$(BIN)/uv pip compile --quiet --upgrade --generate-hashes --no-emit-index-url --no-emit-find-links --python-version 3.11 --custom-compile-command "make lock" ../pyproject.toml run.in -o run.lock
	cd requirements && ../$(BIN)/uv pip compile --quiet --upgrade --generate-hashes --no-emit-index-url --no-emit-find-links --python-version 3.11 --custom-compile-command "make lock" -c run.lock ../pyproject.toml run.in dev.in -o dev.lock
	cd requirements && ../$(BIN)/uv pip compile --quiet --upgrade --generate-hashes --no-emit-index-url --no-emit-find-links --python-version 3.11 --custom-compile-command "make lock" oldpip.in -o oldpip.lock

clean:  ## remove what make made, never a package
	rm -rf .venv .mypy_cache .ruff_cache .hypothesis bench/.work
