#!/bin/sh
# Install the clients and frameworks of others in .integrations, from hash-checked lists, and run their tests.
# Nothing is built: source packages and install scripts are left out. Called by the Makefile.
#
# `comparison` as the only argument installs what `make bench BENCH_ARGS="--only dropin"` compares with instead.
set -eu

folder=$PWD/.integrations

# Only where the lists have changed since: a name, what depends on its files, and how to install it.
install_once() {
    name=$1
    files=$2
    shift 2
    # shellcheck disable=SC2086 # several names
    content=$(cat "$0" $files | cksum)
    [ "$(cat "$folder/$name/.installed" 2>/dev/null)" != "$content" ] || return 0
    rm -rf "${folder:?}/$name"
    mkdir -p "$folder/$name"
    "$@"
    printf '%s\n' "$content" >"$folder/$name/.installed"
}

install_installer() {
    .venv/bin/python -m venv "$folder/installer"
    "$folder/installer/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps \
        --require-hashes --only-binary :all: -r requirements/installer.txt
}

# pip takes minutes for the same: it checks one package after the other.
install_python() { # name of the environment, its list
    .venv/bin/python -m venv "$folder/$1"
    "$folder/installer/bin/uv" pip install --quiet --python "$folder/$1/bin/python" --no-deps \
        --require-hashes --only-binary :all: -r "$2"
}

install_node() {
    cp tests/integrations/package.json tests/integrations/package-lock.json "$folder/node"
    npm ci --prefix "$folder/node" --ignore-scripts --legacy-peer-deps --no-audit --no-fund --silent
}

# Tests that PYTEST_ARGS select may all be in the other folder: status 5 is no failure then.
run_selected() { # tests selected by arguments (0: none), a command
    selecting=$1
    shift
    status=0
    "$@" || status=$?
    [ "$status" -eq 0 ] || { [ "$status" -eq 5 ] && [ "$selecting" -gt 0 ]; }
}

install_once installer requirements/installer.txt install_installer
if [ "$*" = comparison ]; then
    install_once comparison requirements/comparison.txt install_python comparison requirements/comparison.txt
    exit
fi
install_once python requirements/integrations.txt install_python python requirements/integrations.txt
# The frameworks' pins are not those of the clients above.
install_once frameworks requirements/frameworks.txt install_python frameworks requirements/frameworks.txt
# The weights of the multilingual model.
install_once multilingual requirements/multilingual.txt install_python multilingual requirements/multilingual.txt
install_once node tests/integrations/package-lock.json install_node

LUMA_TEST_INTEGRATIONS=1 MEMORY_INTEGRATIONS=$folder \
    run_selected $# .venv/bin/python -m pytest -q tests/integrations "$@"
PYTHONPATH=src run_selected $# "$folder/frameworks/bin/python" -m pytest -q -c tests/frameworks/pytest.ini \
    --confcutdir=tests/frameworks tests/frameworks "$@"
