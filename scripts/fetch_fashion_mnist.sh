#!/usr/bin/env bash
# Prints the folder that holds Fashion-MNIST's four IDX files, and fetches them first where they are missing.
#
#     scripts/fetch_fashion_mnist.sh [FOLDER]        (default: .cache/fashion-mnist in this checkout)
#
# They come from Debian's package dataset-fashion-mnist: the installed one, or else a downloaded one that is unpacked
# into FOLDER. Root is not needed. The content of every file is checked against the digests below.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly package=dataset-fashion-mnist
readonly inside=usr/share/datasets/fashion-mnist

# SHA-256 of the files' content, not of the gzip frames around it, which another build of the package may change.
readonly digests='
c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888  train-images-idx3-ubyte
bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9  train-labels-idx1-ubyte
5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b  t10k-images-idx3-ubyte
0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34  t10k-labels-idx1-ubyte'

die() {
    echo "fetch_fashion_mnist: $1; or name a folder of IDX files: make demo DEMO_DATA=FOLDER" >&2
    exit 1
}

is_complete() { # FOLDER
    local digest name actual
    while read -r digest name; do
        [ -n "$name" ] || continue
        [ -f "$1/$name.gz" ] || return 1
        actual=$(gzip -dc "$1/$name.gz" 2>/dev/null | sha256sum) || return 1
        [ "${actual%% *}" = "$digest" ] || return 1
    done <<<"$digests"
}

# apt-get that reads and writes its lists and cache in a folder of ours, so that neither root nor the system's lists
# are needed. The system's hooks are cleared: they are meant for root.
private_apt_get() { # STATE ARGUMENTS...
    local state=$1
    shift
    mkdir -p "$state/lists/partial" "$state/cache/archives/partial"
    printf '%s\n' '#clear APT::Update;' '#clear DPkg;' >"$state/apt.conf"
    apt-get -qq -c "$state/apt.conf" -o Dir::State::Lists="$state/lists" -o Dir::Cache="$state/cache" \
        -o APT::Sandbox::User= -o Acquire::Retries=2 "$@"
}

download_package() { # FOLDER; writes the .deb into it
    # The sandbox user of apt cannot write into a folder of ours; what is downloaded is checked all the same.
    (cd "$1" && apt-get -qq -o APT::Sandbox::User= download "$package") >"$1/log" 2>&1 && return
    private_apt_get "$1/apt" update >"$1/log" 2>&1 || return 1
    (cd "$1" && private_apt_get "$1/apt" download "$package") >>"$1/log" 2>&1
}

fetch() { # FOLDER
    command -v apt-get dpkg-deb >/dev/null || die "$package is not installed and this is no Debian system"
    local work
    mkdir -p "$(dirname "$1")"
    # Beside FOLDER, so that the last step only renames: an interrupted run leaves no half file.
    work=$(realpath "$(mktemp -d "$1.XXXXXX")")
    # shellcheck disable=SC2064 # expanded now: the variable is local
    trap "rm -rf '$work'" EXIT
    echo "fetching Debian's package $package (31 MB)" >&2
    download_package "$work" || die "cannot download $package ($(grep -m1 '^E:' "$work/log" || tail -n 1 "$work/log"))"
    dpkg-deb -x "$work/$package"_*.deb "$work/unpacked" || die "cannot unpack $package"
    is_complete "$work/unpacked/$inside" || die "$package does not hold the files that were expected"
    mkdir -p "$1"
    mv -f "$work/unpacked/$inside"/*.gz "$1/"
}

folder=${1:-.cache/fashion-mnist}
if is_complete "$folder"; then
    echo "$folder"
elif is_complete "/$inside"; then
    echo "/$inside"
else
    fetch "$folder"
    echo "$folder"
fi
