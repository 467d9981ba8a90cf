# Only relative paths: make cannot hold a path with a space in it.
# Every command runs in .venv, which is made on first use; `make help` lists them.

.DEFAULT_GOAL := help
.PHONY: help setup demo up unit test test-all coverage faults lint format generate docs bench lock wheel clean

# Settable: make setup PYTHON=python3.12 · make demo FILE="my conversation.json" · make test PYTEST_ARGS="-k ingest"
PYTHON ?=
FILE ?=
PYTEST_ARGS ?=
BENCH_ARGS ?=
UP_ARGS ?=
UV ?= uv

ENVIRONMENT := .venv/.requirements-installed
READY := .venv/.project-installed

help: ## list these commands
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)$$/make \1|\2/p' Makefile | \
		while IFS='|' read -r command does; do printf '  %-12s %s\n' "$$command" "$$does"; done

setup: $(READY) ## make .venv with the pinned packages (also done on first use of any command)

demo: $(READY) ## start everything, ingest a conversation, ask questions (FILE=… for your own)
	@.venv/bin/luma-memory demo $(if $(FILE),"$(FILE)")

up: $(READY) ## run database, API and worker until Ctrl-C (UP_ARGS="--port 9000")
	@.venv/bin/luma-memory up $(UP_ARGS)

test: $(READY) ## all that CI runs: format, lint, wording, types, import contracts, tests (PYTEST_ARGS=…)
	@sh tools/check.sh packages format lint wording types contracts tests -- $(PYTEST_ARGS)

unit: $(READY) ## the tests without servers, in seconds while you write
	@.venv/bin/python -m pytest -q -n auto tests/unit $(PYTEST_ARGS)

test-all: $(READY) ## as test, on the oldest supported PostgreSQL as well
	@sh tools/check.sh packages format lint types contracts all-tests -- $(PYTEST_ARGS)

coverage: $(READY) ## run the tests with coverage: a table, and pages in build/coverage (PYTEST_ARGS=…)
	@.venv/bin/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not slow" \
		--cov --cov-report=term:skip-covered --cov-report=html $(PYTEST_ARGS)

faults: $(READY) ## the long tests: kills, outages and floods
	@.venv/bin/python -m pytest -m slow $(PYTEST_ARGS)

lint: $(READY) ## the checks that read code and do not run it
	@sh tools/check.sh format lint wording types contracts

format: $(READY) ## put the code into form, mend what can be mended, generate the synchronous client
	@.venv/bin/python tools/synchronous_client.py
	@.venv/bin/python -m ruff format .
	@.venv/bin/python -m ruff check --fix .

generate: $(READY) ## write the files that are made of the code: settings' documentation, .env.example, the SQL file
	@.venv/bin/python -m tools.generate

docs: $(READY) ## build the documentation's site, warnings are errors: build/site
	@NO_MKDOCS_2_WARNING=1 .venv/bin/python -m mkdocs build --strict --quiet

bench: $(READY) ## measure against this machine's own limits
	@.venv/bin/python -m benchmarks $(BENCH_ARGS)

lock: ## pin requirements/*.txt again from pyproject.toml and requirements/*.in (needs uv; LOCK_ARGS=--upgrade)
	@command -v "$(UV)" >/dev/null || { echo 'luma-memory: make lock needs uv: pip install uv' >&2; exit 1; }
	@$(UV) pip compile $(LOCK_FLAGS) -o requirements/runtime.txt \
		pyproject.toml requirements/runtime.in >/dev/null
	@$(UV) pip compile $(LOCK_FLAGS) --extra dev -c requirements/runtime.txt -o requirements/dev.txt \
		pyproject.toml requirements/runtime.in requirements/dev.in >/dev/null
	@$(UV) pip compile $(LOCK_FLAGS) -c requirements/dev.txt -o requirements/build.txt \
		requirements/build.in >/dev/null

wheel: $(READY) ## build dist/*.whl, to be installed beside requirements/runtime.txt
	@.venv/bin/python -m hatchling build -t wheel

clean: ## remove .venv and every cache (data is kept)
	@rm -rf .venv dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

# One list for every Python and system (--universal), with hashes and without a download address.
LOCK_ARGS ?=
LOCK_FLAGS = --universal --python-version 3.11 --generate-hashes --only-binary :all: $(LOCK_ARGS)

$(ENVIRONMENT): requirements/dev.txt tools/setup.sh
	@PYTHON="$(PYTHON)" sh tools/setup.sh requirements/dev.txt
	@touch $@

# The project itself: no dependencies, and built by the hatchling that is pinned in the list above.
$(READY): $(ENVIRONMENT) pyproject.toml
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-index --no-build-isolation --editable .
	@touch $@
