#!/bin/sh
# Install the clients and frameworks of others in .integrations, from hash-checked lists, and run their tests.
# Nothing is built: source packages and install scripts are left out. Called by the Makefile.
set -eu

folder=$PWD/.integrations
lists="requirements/integrations.txt tests/integrations/package-lock.json"
# shellcheck disable=SC2086 # several names
content=$(cat "$0" $lists | cksum)
if [ "$(cat "$folder/.installed" 2>/dev/null)" != "$content" ]; then
    rm -rf "$folder"
    mkdir -p "$folder/node"
    .venv/bin/python -m venv "$folder/python"
    "$folder/python/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes \
        --only-binary :all: -r requirements/integrations.txt
    cp tests/integrations/package.json tests/integrations/package-lock.json "$folder/node"
    npm ci --prefix "$folder/node" --ignore-scripts --legacy-peer-deps --no-audit --no-fund --silent
    printf '%s\n' "$content" >"$folder/.installed"
fi
LUMA_TEST_INTEGRATIONS=1 MEMORY_INTEGRATIONS=$folder exec .venv/bin/python -m pytest -q tests/integrations "$@"
