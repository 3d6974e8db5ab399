#!/usr/bin/env bash
# Fuzzes the pool file: fuzz.sh SECONDS, divided among the targets of fuzz/, one after the other.
#
# It fails at the first crash, hang (an input that takes more than 10 seconds) or excess of memory (see bounded.rs; 512 MiB
# for the whole process), and leaves the input in fuzz/artifacts. What it has learned stays in fuzz/corpus for the next time.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly version=0.13.2
readonly root=.cache/fuzz
readonly logs=fuzz/artifacts

die() {
    printf 'fuzz: %s\n' "$*" >&2
    exit 1
}

install_tool() {
    command -v cargo >/dev/null || die "cargo not found: install Rust from https://rustup.rs"
    command -v c++ >/dev/null || die "no C++ compiler, in which libFuzzer is written: sudo apt install g++"
    if [ "$("$root/bin/cargo-fuzz" --version 2>/dev/null)" != "cargo-fuzz $version" ]; then
        echo "fuzz: building cargo-fuzz $version (once)"
        cargo install --quiet --locked --root "$root" --version "$version" cargo-fuzz
    fi
}

cargo_fuzz() { # COMMAND ARGUMENTS...
    # Sanitizers need a nightly compiler. Coverage does not, and what they would find in safe code panics anyway.
    "$root/bin/cargo-fuzz" fuzz "$1" --sanitizer none "${@:2}"
}

max_bytes_of() { # TARGET
    case $1 in
    # 8 edits of 12 bytes behind 2 bytes.
    edits | tampering) echo 98 ;;
    # A little longer than the longest seed.
    *) echo 98304 ;;
    esac
}

stat_of() { # NAME LOG
    sed -n "s/^stat::$1: *//p" "$2"
}

fuzz() { # TARGET SECONDS
    local log=$logs/$1.log
    if ! cargo_fuzz run "$1" -- "-max_total_time=$2" "-max_len=$(max_bytes_of "$1")" -len_control=0 \
        -timeout=10 -rss_limit_mb=512 -print_final_stats=1 >"$log" 2>&1; then
        tail -n 60 "$log" >&2
        die "$1 failed: see $log; the commands above want PATH=$PWD/$root/bin:\$PATH"
    fi
    printf '%-10s %10s inputs in %5s s, longest %s s, memory %s MiB: no crash, no hang\n' "$1" \
        "$(stat_of number_of_executed_units "$log")" "$2" \
        "$(stat_of slowest_unit_time_sec "$log")" "$(stat_of peak_rss_mb "$log")"
}

install_tool
# cargo-fuzz has no --locked: what is fetched here is what the lock file names, and nothing else can be had later.
cargo fetch --quiet --locked --manifest-path fuzz/Cargo.toml
export CARGO_NET_OFFLINE=true
cargo run --quiet --manifest-path fuzz/Cargo.toml --example seeds fuzz/corpus
cargo_fuzz build
mapfile -t targets < <("$root/bin/cargo-fuzz" fuzz list)
mkdir -p "$logs"
for target in "${targets[@]}"; do
    fuzz "$target" $(($1 / ${#targets[@]}))
done
