#!/usr/bin/env bash
# Checks who imports whom: the Python contracts of pyproject.toml, and that what has a pool open and what knows keys stay apart.
set -euo pipefail
cd "$(dirname "$0")/.."

# import-linter sees .py files only. It reads a copy in which the stub of each compiled module stands for it.
check_python() {
    local copy module
    copy=$(mktemp -d)
    # shellcheck disable=SC2064 # expanded now: the variable is local
    trap "rm -rf '$copy'" EXIT
    cp -R python/plinius "$copy/"
    for module in _core _pm; do
        cp "$copy/plinius/$module.pyi" "$copy/plinius/$module.py"
    done
    PYTHONPATH=$copy .venv/bin/lint-imports --no-logo --no-cache
}

# Development and build dependencies count too: a test that needs both belongs to the crate that composes them.
check_crates_apart() {
    local tree
    tree=$(cargo tree --locked --offline --package "$1" --edges normal,build,dev --prefix none)
    if grep -q "^$2 " <<<"$tree"; then
        echo "the crate $1 depends on $2: what has a pool open and what knows keys stay apart" >&2
        return 1
    fi
}

check_python
check_crates_apart plinius-pm plinius-seal
check_crates_apart plinius-py-pm plinius-seal
check_crates_apart plinius-seal plinius-pm
check_crates_apart plinius-py plinius-pm
