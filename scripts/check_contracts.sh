#!/usr/bin/env bash
# Checks who imports whom: the Python contracts of pyproject.toml, and that the crates pm and seal do not meet.
set -euo pipefail
cd "$(dirname "$0")/.."

# import-linter sees .py files only, and the core is compiled. It reads a copy in which the core's stub stands for it.
check_python() {
    local copy
    copy=$(mktemp -d)
    # shellcheck disable=SC2064 # expanded now: the variable is local
    trap "rm -rf '$copy'" EXIT
    cp -R python/plinius "$copy/"
    cp "$copy/plinius/_core.pyi" "$copy/plinius/_core.py"
    PYTHONPATH=$copy .venv/bin/lint-imports --no-logo --no-cache
}

# Development and build dependencies count too: a test that needs both belongs to the crate that composes them.
check_crates_apart() {
    local tree
    tree=$(cargo tree --locked --offline --package "$1" --edges normal,build,dev --prefix none)
    if grep -q "^$2 " <<<"$tree"; then
        echo "the crate $1 depends on $2: only the mirror's crate may know both" >&2
        return 1
    fi
}

check_python
check_crates_apart plinius-pm plinius-seal
check_crates_apart plinius-seal plinius-pm
