#!/bin/sh
# Install hash-checked lists in .venv, by Python's own tools, and the project itself. Called by the Makefile.
#
# LAYER is runtime, project, dev, docs or multilingual; a layer is added to what is there. If it was installed before and its list has
# changed since, .venv is rebuilt and not updated: an update would keep packages that left the list.
# Nothing is built here: --only-binary keeps out source packages, whose build would fetch unlisted tools.
set -eu

layer=${1:?usage: tools/setup.sh LAYER [REQUIREMENTS_FILE...]}
shift
lists=$*

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
pip() { .venv/bin/python -m pip "$@" --disable-pip-version-check; }

# A list that git wrote anew with the same content is no reason to install it again.
stamp=.venv/.installed-$layer
# shellcheck disable=SC2086 # several names
content=$(cat "$0" $lists | cksum)
if [ "$layer" != project ] && [ "$(cat "$stamp" 2>/dev/null)" = "$content" ]; then
    touch "$stamp"
    exit 0
fi
if [ "$layer" != project ] && { [ -e "$stamp" ] || [ ! -x .venv/bin/python ]; }; then
    "$python" -m venv --clear .venv
    # The other layers stand on the runtime.
    if [ "$layer" != runtime ]; then
        sh "$0" runtime requirements/runtime.txt requirements/build.txt
        sh "$0" project
    fi
fi
for list in $lists; do
    printf 'Installing %s packages of %s with %s ...\n' \
        "$(grep -c '==' "$list")" "$list" "$(.venv/bin/python -V 2>&1)"
    # shellcheck disable=SC2086 # an empty $quiet is no argument
    pip install $quiet --require-hashes --no-deps --only-binary :all: -r "$list"
done
# No dependencies, and built by the hatchling that is pinned in requirements/build.txt.
if [ "$layer" = project ]; then
    pip install --quiet --no-deps --no-index --no-build-isolation --editable .
fi
printf '%s\n' "$content" >"$stamp"
