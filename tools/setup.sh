#!/bin/sh
# Make .venv afresh from the hash-checked list, by Python's own tools. Called by `make setup`.
#
# The environment is rebuilt and not updated: an update would keep packages that left the list.
# Nothing is built here: --only-binary keeps out source packages, whose build would fetch unlisted tools.
set -eu

requirements=${1:?usage: tools/setup.sh REQUIREMENTS_FILE}

fail() {
    printf 'luma-memory: %s\n' "$1" >&2
    exit 1
}

# A name on PATH may be a version manager's shim for a Python it does not have, so each one is run.
is_recent() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }
has_venv() { "$1" -c 'import ensurepip, venv' 2>/dev/null; }

# A Python that was asked for is used, or named in the error; it is never replaced by another one.
if [ -n "${PYTHON:-}" ]; then
    set -- "$PYTHON"
else
    set -- python3.13 python3.12 python3.11 python3.14 python3
fi

recent=
python=
for candidate; do
    is_recent "$candidate" || continue
    recent=$candidate
    has_venv "$candidate" || continue
    python=$candidate
    break
done

if [ -z "$recent" ]; then
    [ -z "${PYTHON:-}" ] || fail "PYTHON=$PYTHON is not a Python 3.11 or newer that can be started."
    fail "No Python 3.11 or newer found; install one, or name it: make setup PYTHON=/path/to/python3."
fi
if [ -z "$python" ]; then
    version=$("$recent" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    fail "$recent has no venv module; on Debian or Ubuntu: apt install python$version-venv (or python3-venv)."
fi

quiet=--quiet
if [ -t 1 ]; then quiet=; fi
printf 'Making .venv with %s, about 100 packages of %s ...\n' "$("$python" -V 2>&1)" "$requirements"

"$python" -m venv --clear .venv
# shellcheck disable=SC2086 # an empty $quiet is no argument
.venv/bin/python -m pip install $quiet --disable-pip-version-check \
    --require-hashes --no-deps --only-binary :all: -r "$requirements"
