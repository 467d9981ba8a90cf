#!/usr/bin/env bash
# Fail if a tracked file contains an absolute path of a developer's machine, a package address or a likely secret.
# A line with "guard: allow" is skipped.
set -euo pipefail

readonly HOME_PATH='(^|[^A-Za-z0-9._~/-])/(root|home|Users|work)/[A-Za-z0-9._-]'
readonly PACKAGE_ADDRESS='(--(extra-)?index-url|--find-links|--trusted-host|^[[:space:]]*(extra-)?index-url[[:space:]]*=)'
readonly SECRETS=(
    'sk-[A-Za-z0-9_-]{24,}'
    '(pk|sk)-lf-[0-9a-f]{8}-[0-9a-f]{4}-'
    'sb_secret_[A-Za-z0-9_-]{16,}'
    'AKIA[0-9A-Z]{16}'
    'gh[pousr]_[A-Za-z0-9]{36}'
    'xox[abprs]-[0-9A-Za-z-]{10,}'
    'eyJ[A-Za-z0-9_-]{16,}\.eyJ[A-Za-z0-9_-]{16,}\.'
    '-----BEGIN [A-Z ]*PRIVATE KEY-----'
)

# A checkout may belong to another user than the one who checks it, as in containers.
tracked() { git -c safe.directory='*' "$@"; }

found=0
look_for() { # WHAT PATTERN [PATHSPEC...]
    local what=$1 pattern=$2 hits status=0
    shift 2
    hits=$(tracked grep -nIE -e "$pattern" -- "$@" ':!tools/guard.sh') || status=$?
    [[ $status -le 1 ]] || exit "$status" # 1 is "nothing found"; more is "could not look"
    hits=$(grep -v 'guard: allow' <<<"$hits" || true)
    if [[ -n $hits ]]; then
        printf '%s:\n%s\n' "$what" "$hits"
        found=1
    fi
}

look_for 'An address in a requirements file' '://' requirements
look_for 'A package address' "$PACKAGE_ADDRESS" .
look_for 'A path of one machine' "$HOME_PATH" .
for secret in "${SECRETS[@]}"; do look_for 'Something like a secret' "$secret" .; done

if [[ $found -eq 0 ]]; then echo 'guard: no machine path, package address or secret in tracked files'; fi
exit "$found"
