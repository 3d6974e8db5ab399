#!/usr/bin/env bash
# Prints, as shell assignments, where the software TPM swtpm and the TPM software stack's headers and libraries are, and
# fetches them first where this machine does not have them:
#
#     eval "$(scripts/fetch_swtpm.sh [FOLDER])"        (default: .cache/swtpm in this checkout)
#
# They come from Debian's packages: downloaded, unpacked into FOLDER, not installed. Root is not needed and nothing
# of the system changes. PYTHON=... names the interpreter whose C headers are wanted too (to build tpm2-pytss).
set -euo pipefail
cd "$(dirname "$0")/.."

say() { echo "fetch_swtpm: $*" >&2; }

die() {
    say "$*"
    exit 1
}

# apt-get that reads and writes its lists and cache in a folder of ours, so that neither root nor the system's lists
# are needed. The system's hooks are cleared: they are meant for root.
private_apt() { # PROGRAM STATE ARGUMENTS...
    local program=$1 state=$2
    shift 2
    mkdir -p "$state/lists/partial" "$state/cache/archives/partial"
    printf '%s\n' '#clear APT::Update;' '#clear DPkg;' >"$state/apt.conf"
    "$program" -qq -c "$state/apt.conf" -o Dir::State::Lists="$state/lists" -o Dir::Cache="$state/cache" \
        -o APT::Sandbox::User= -o Acquire::Retries=2 "$@"
}

python_lacks_headers() {
    ! "${PYTHON:-python3}" -c 'import os, sysconfig; os.stat(sysconfig.get_path("include") + "/Python.h")' 2>/dev/null
}

# Prints the packages: what libtss2-dev names by other names in other releases is read from its dependencies. Of its
# transports (TCTI) two are of use here; FAPI and the policy library would bring more packages, and nothing uses them.
packages() { # STATE
    local unused='fapi|policy|tcti-(cmd|i2c|mssim|pcap|spi|spidev|libtpms)'
    echo swtpm swtpm-libs libtss2-dev
    private_apt apt-cache "$1" depends libtss2-dev |
        sed -nE 's/^ *Depends: (libtss2-[^ ]*)$/\1/p' | grep -vE "^libtss2-($unused)"
    private_apt apt-cache "$1" depends swtpm | sed -nE 's/^ *Depends: (libtpms[^ ]*)$/\1/p'
    command -v pkg-config >/dev/null || echo pkgconf-bin libpkgconf3
    if python_lacks_headers; then
        "${PYTHON:-python3}" -c 'import sys; print("libpython3.%d-dev" % sys.version_info[1])'
    fi
}

fetch() { # FOLDER
    { command -v apt-get && command -v dpkg-deb; } >/dev/null || die "no swtpm here, and this is no Debian system to fetch it for"
    local work archive names
    mkdir -p "$(dirname "$1")"
    # Beside FOLDER, so that the last step only renames: an interrupted run leaves no half folder.
    work=$(realpath "$(mktemp -d "$1.XXXXXX")")
    # shellcheck disable=SC2064 # expanded now: the variable is local
    trap "rm -rf '$work'" EXIT
    say "fetching Debian's packages of swtpm and tpm2-tss (2 MB, and Debian's list of packages)"
    # Another source of this machine's may fail; what matters is whether the packages can be downloaded.
    private_apt apt-get "$work/apt" update >"$work/log" 2>&1 || true
    mapfile -t names < <(packages "$work/apt" | tr ' ' '\n' | sort -u)
    (cd "$work" && private_apt apt-get "$work/apt" download "${names[@]}") >>"$work/log" 2>&1 ||
        die "cannot download ${names[*]} ($(grep -m1 '^E:' "$work/log"))"
    for archive in "$work"/*.deb; do
        dpkg-deb -x "$archive" "$work/unpacked" || die "cannot unpack $archive"
    done
    # One folder for all libraries, whatever Debian calls the architecture, and pkg-config's files with it.
    mv "$work"/unpacked/usr/lib/*-linux-gnu*/swtpm/*.so* "$work"/unpacked/usr/lib/*-linux-gnu*/
    ln -sfn "$(cd "$work/unpacked/usr/lib" && echo *-linux-gnu*)" "$work/unpacked/usr/lib/here"
    rm -f "$work"/unpacked/usr/lib/here/pkgconfig/tss2-{fapi,policy}.pc
    [ ! -e "$work/unpacked/usr/bin/pkgconf" ] || ln -sfn pkgconf "$work/unpacked/usr/bin/pkg-config"
    rm -rf "$1" && mv "$work/unpacked" "$1"
}

assignments() { # FOLDER
    local lib=$1/usr/lib/here include
    "$1/usr/bin/swtpm" --version >/dev/null 2>&1 || LD_LIBRARY_PATH=$lib "$1/usr/bin/swtpm" --version >/dev/null ||
        die "$1/usr/bin/swtpm does not run; delete $1 to fetch it anew"
    printf 'export PATH="$PATH":%q\n' "$1/usr/bin"
    printf 'export TPM_LIBRARIES=%q LD_LIBRARY_PATH=%q\n' "$lib" "$lib"
    printf 'export PKG_CONFIG_SYSROOT_DIR=%q PKG_CONFIG_PATH=%q\n' "$1" "$lib/pkgconfig"
    for include in "$1"/usr/include/python3.* "$1"/usr/include; do
        [ ! -d "$include" ] || printf 'export CPATH=%q${CPATH:+:$CPATH}\n' "$include"
    done
}

has_system() {
    command -v swtpm >/dev/null && pkg-config --exists tss2-esys tss2-mu tss2-rc tss2-tctildr && ! python_lacks_headers
} 2>/dev/null

# Nothing to set where both are installed already.
if ! has_system; then
    folder=$(realpath -m "${1:-.cache/swtpm}")
    [ -x "$folder/usr/bin/swtpm" ] || fetch "$folder"
    assignments "$folder"
fi
