#!/bin/sh
# Install the clients and frameworks of others in .integrations, from hash-checked lists, and run their tests.
# Nothing is built: source packages and install scripts are left out. Called by the Makefile.
set -eu

folder=$PWD/.integrations

install_python() { # name of the environment, its list
    .venv/bin/python -m venv "$folder/$1"
    "$folder/$1/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --no-compile \
        --require-hashes --only-binary :all: -r "$2"
}

# Tests that PYTEST_ARGS select may all be in the other folder: status 5 is no failure then.
run_selected() { # tests selected by arguments (0: none), a command
    selecting=$1
    shift
    status=0
    "$@" || status=$?
    [ "$status" -eq 0 ] || { [ "$status" -eq 5 ] && [ "$selecting" -gt 0 ]; }
}

lists="requirements/integrations.txt requirements/frameworks.txt tests/integrations/package-lock.json"
# shellcheck disable=SC2086 # several names
content=$(cat "$0" $lists | cksum)
if [ "$(cat "$folder/.installed" 2>/dev/null)" != "$content" ]; then
    rm -rf "$folder"
    mkdir -p "$folder/node"
    install_python python requirements/integrations.txt
    # The frameworks' pins are not those of the clients above.
    install_python frameworks requirements/frameworks.txt
    cp tests/integrations/package.json tests/integrations/package-lock.json "$folder/node"
    npm ci --prefix "$folder/node" --ignore-scripts --legacy-peer-deps --no-audit --no-fund --silent
    printf '%s\n' "$content" >"$folder/.installed"
fi

LUMA_TEST_INTEGRATIONS=1 MEMORY_INTEGRATIONS=$folder \
    run_selected $# .venv/bin/python -m pytest -q tests/integrations "$@"
PYTHONPATH=src run_selected $# "$folder/frameworks/bin/python" -m pytest -q -c tests/frameworks/pytest.ini \
    --confcutdir=tests/frameworks tests/frameworks "$@"
