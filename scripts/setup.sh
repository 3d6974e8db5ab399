#!/usr/bin/env bash
# Makes .venv ready: the pinned packages, PyTorch, the compiled modules. `make` runs it before everything else. With the
# word `frameworks` it installs the other frameworks' packages too, for `make test-frameworks`.
#
# Each of its steps keeps a stamp in .venv with a digest of what the step was made from, so that it does nothing
# while that is unchanged. Digests and not file times: a checkout changes times, and a deleted file has none. A stamp is
# removed before its step begins and written when all of it is done, so that a failed or interrupted step runs again.
#
# PYTHON=... chooses the interpreter (CPython 3.11 or newer).
set -euo pipefail
cd "$(dirname "$0")/.."

readonly venv=.venv
readonly venv_python=$venv/bin/python
readonly environment_stamp=$venv/.plinius-environment
readonly core_stamp=$venv/.plinius-core
readonly tpm_stamp=$venv/.plinius-tpm
readonly frameworks_stamp=$venv/.plinius-frameworks
readonly cpu_index=https://download.pytorch.org/whl/cpu
torch_version=$(sed -n 's/^torch==//p' constraints.txt)
readonly torch_version

say() { printf 'setup: %s\n' "$*"; }

die() {
    printf 'setup: %s\n' "$*" >&2
    exit 1
}

digest_of() { # FILES...
    # The checkout's own path is part of it: scripts and the editable install in .venv hold that path.
    { pwd && sha256sum -- "$@"; } | sha256sum
}

holds() { # STAMP DIGEST
    [ -f "$1" ] && [ "$(<"$1")" = "$2" ]
}

# --- What the machine must bring -------------------------------------------------------------------------------------

is_new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

# Prints the interpreter that .venv is to be made with.
base_python() {
    local candidate
    for candidate in ${PYTHON:-python3 python3.11 python3.12 python3.13 python3.14}; do
        if is_new_enough "$candidate"; then
            command -v "$candidate"
            return
        fi
    done
    die "no CPython 3.11 or newer${PYTHON:+ at PYTHON=$PYTHON}: sudo apt install python3 python3-venv, or make PYTHON=/path/to/python3.11"
}

require_rust() {
    local required found
    required=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
    command -v cargo >/dev/null || die "cargo not found: install Rust $required or newer from https://rustup.rs"
    found=$(cargo --version | cut -d' ' -f2)
    [ "$(printf '%s\n' "$required" "$found" | sort -V | head -n 1)" = "$required" ] ||
        die "cargo $found is too old, Rust $required or newer is needed (Debian 12's is not): https://rustup.rs, or rustup update"
    command -v cc >/dev/null || die "no C compiler: sudo apt install gcc libc6-dev"
}

# --- The environment -------------------------------------------------------------------------------------------------

pip() { "$venv_python" -m pip --disable-pip-version-check --no-input "$@"; }

site_packages() { "$venv_python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))'; }

identity() { "$1" -c 'import sys; print(sys.version, sys.base_prefix)' 2>/dev/null; }

# False when .venv must be made anew: there is none, it does not run, or another interpreter was asked for.
venv_runs() {
    is_new_enough "$venv_python" || return 1
    [ -z "${PYTHON:-}" ] || [ "$(identity "$venv_python")" = "$(identity "$PYTHON")" ]
}

# Makes good what an interrupted pip left: it writes a package's RECORD last, so one without is incomplete and, forgotten
# here, is installed again; a name with a tilde is a package taken apart for an upgrade, where starting anew is safer.
repair_interrupted() {
    local site info
    site=$(site_packages)
    if compgen -G "$site/~*" >/dev/null; then
        return 1
    fi
    for info in "$site"/*.dist-info; do
        [ -e "$info/RECORD" ] || rm -rf "$info"
    done
}

make_venv() { # BASE_PYTHON
    if venv_runs && repair_interrupted && pip --version >/dev/null 2>&1; then
        return
    fi
    say "making $venv with $("$1" -V) ($1)"
    "$1" -m venv --clear "$venv" || die "cannot make a virtual environment: sudo apt install python3-venv"
}

# --no-deps: constraints.txt is the whole list, so nothing is resolved and nothing comes that is not pinned there.
install_pins() {
    say "installing the pinned packages"
    local failed="cannot install the pinned packages: see pip's message above, then run make again"
    # pip itself first: the one that came with the interpreter may be years old.
    pip install --quiet --no-deps "$(grep '^pip==' constraints.txt)" || die "$failed"
    grep -v '^torch==' constraints.txt | pip install --quiet --no-deps --requirement /dev/stdin || die "$failed"
}

# --- PyTorch: the first source that has it ---------------------------------------------------------------------------

has_torch() {
    "$venv_python" - "$torch_version" >/dev/null 2>&1 <<'PYTHON'
import sys
from importlib.metadata import version

import torch

sys.exit(version("torch").split("+")[0] != sys.argv[1])
PYTHON
}

# Prints the folder in which BASE_PYTHON has PyTorch of our version, if it has.
torch_folder_of() { # BASE_PYTHON
    "$1" - "$torch_version" "$("$venv_python" -c 'import sys; print(sys.version_info[:2])')" 2>/dev/null <<'PYTHON'
import sys
from importlib.metadata import distribution

torch = distribution("torch")
if torch.version.split("+")[0] != sys.argv[1] or str(sys.version_info[:2]) != sys.argv[2]:
    sys.exit(1)
print(torch.locate_file(""))
PYTHON
}

# Links to PyTorch and to what only PyTorch needs, in a folder that .venv searches last. Not --system-site-packages,
# which would let in everything else of that interpreter too: other versions, and pytest plugins that load themselves.
torch_of_base() { # BASE_PYTHON
    local links site folder entry
    site=$(site_packages)
    links=$(dirname "$site")/torch-of-base
    folder=$(torch_folder_of "$1") || return 1
    mkdir -p "$links"
    for entry in "$folder"/{torch,torchgen,functorch,nvidia,cuda,triton} \
        "$folder"/{torch,nvidia_*,cuda_*,triton}-*.dist-info; do
        [ ! -e "$entry" ] || ln -sfn "$entry" "$links/"
    done
    echo "$links" >"$site/torch-of-base.pth"
    if has_torch; then
        say "PyTorch $torch_version: the one that $1 has already (linked, not installed again)"
    else
        forget_base_torch
        return 1
    fi
}

# False when the links lead nowhere: PyTorch was removed from the interpreter that had it.
base_torch_remains() {
    local link
    for link in "$venv"/lib/python3.*/torch-of-base/torch; do
        [ ! -L "$link" ] || [ -e "$link" ] || return 1
    done
}

forget_base_torch() {
    local site
    site=$(site_packages)
    rm -rf "$(dirname "$site")/torch-of-base" "$site/torch-of-base.pth"
}

torch_of_local_source() {
    pip install --quiet --no-deps --no-index "torch==$torch_version+cpu" >/dev/null 2>&1 || return 1
    say "PyTorch $torch_version+cpu: the CPU build from a local source of pip's"
}

# One short question first: where that index cannot be reached, pip would ask again and again.
cpu_index_answers() {
    timeout 8 "$venv_python" - "$cpu_index/torch/" >/dev/null 2>&1 <<'PYTHON'
import sys
import urllib.request

urllib.request.urlopen(sys.argv[1], timeout=5).close()
PYTHON
}

torch_of_cpu_index() {
    cpu_index_answers || return 1
    say "PyTorch $torch_version+cpu: the CPU build from PyTorch's own index"
    pip install --quiet --no-deps --retries 1 --index-url "$cpu_index" "torch==$torch_version+cpu"
}

torch_of_pypi() {
    say "PyTorch $torch_version: PyPI's build (no CPU build could be reached; this one brings CUDA's libraries, 5 GB)"
    pip install --quiet --constraint constraints.txt "torch==$torch_version"
}

install_torch() { # BASE_PYTHON
    if has_torch; then
        say "PyTorch $torch_version: installed already"
        return
    fi
    forget_base_torch
    torch_of_base "$1" || torch_of_local_source || torch_of_cpu_index || torch_of_pypi ||
        die "cannot install PyTorch $torch_version: see pip's message above, then run make again"
    has_torch || die "PyTorch $torch_version was installed but cannot be imported: .venv/bin/python -c 'import torch' tells why"
}

prepare_environment() {
    local digest python
    digest=$(digest_of constraints.txt scripts/setup.sh)
    if holds "$environment_stamp" "$digest" && venv_runs && base_torch_remains; then
        return
    fi
    python=$(base_python)
    require_rust # before minutes of downloading, not after
    rm -f "$environment_stamp"
    make_venv "$python"
    install_pins
    install_torch "$python"
    echo "$digest" >"$environment_stamp"
}

prepare_frameworks() {
    local digest
    digest=$(digest_of constraints-frameworks.txt "$environment_stamp")
    if holds "$frameworks_stamp" "$digest"; then
        return
    fi
    rm -f "$frameworks_stamp"
    say "installing the frameworks' packages (about 500 MB)"
    pip install --quiet --no-deps --requirement constraints-frameworks.txt ||
        die "cannot install the frameworks' packages: see pip's message above, then run make again"
    echo "$digest" >"$frameworks_stamp"
}

# --- The TPM: tests use a software one, and are skipped where it cannot be had -----------------------------------------

# Debian's libraries are copied beside the compiled module, which looks for them there (DT_RPATH, which unlike RUNPATH
# holds for what those libraries load too); so nobody has to set LD_LIBRARY_PATH, and installed ones are left alone.
build_tpm_module() { # FOLDER_OF_LIBRARIES, or nothing where they are installed
    local site
    site=$(site_packages)
    rm -rf "$site/tpm2_pytss.libs"
    if [ -n "$1" ]; then
        mkdir -p "$site/tpm2_pytss.libs"
        cp -P "$1"/libtss2-*.so.* "$site/tpm2_pytss.libs/"
        export LDFLAGS='-Wl,--disable-new-dtags,-rpath,$ORIGIN/../tpm2_pytss.libs'
    fi
    grep -v '^tpm2-pytss==' constraints-tpm.txt | pip install --quiet --no-deps --requirement /dev/stdin &&
        pip install --quiet --no-deps --no-build-isolation --no-binary tpm2-pytss --force-reinstall \
            "$(grep '^tpm2-pytss==' constraints-tpm.txt)" &&
        env -u LD_LIBRARY_PATH "$venv_python" -c 'import tpm2_pytss'
}

without_tpm() { say "no software TPM ($1): the tests of the TPM will be skipped"; }

prepare_tpm() {
    local digest assignments
    digest=$(digest_of constraints-tpm.txt scripts/fetch_swtpm.sh "$environment_stamp")
    if holds "$tpm_stamp" "$digest" && { [ -x .cache/swtpm/usr/bin/swtpm ] || command -v swtpm >/dev/null; }; then
        return
    fi
    rm -f "$tpm_stamp"
    command -v swtpm apt-get >/dev/null || { without_tpm "no swtpm installed, and no apt-get to fetch it" && return; }
    assignments=$(PYTHON=$venv_python timeout 300 scripts/fetch_swtpm.sh) || { without_tpm "see above" && return; }
    say "building tpm2-pytss"
    # In a shell of its own: what is set there is for this build only.
    (
        eval "$assignments"
        build_tpm_module "${TPM_LIBRARIES:-}"
    ) || { without_tpm "tpm2-pytss does not build: see above" && return; }
    echo "$digest" >"$tpm_stamp"
}

# --- The core: both compiled modules ---------------------------------------------------------------------------------

core_sources() {
    find crates \( -name '*.rs' -o -name Cargo.toml \) -type f | LC_ALL=C sort
    # pyproject.toml: the entry points and the metadata of the editable install.
    ls Cargo.toml Cargo.lock pyproject.toml setup.cfg 2>/dev/null
}

core_is_there() {
    local module
    for module in _core _pm; do
        compgen -G "python/plinius/$module*.so" >/dev/null || return 1
    done
}

# Everything that the Rust tests and lints need is fetched here too, so that they run without a network; and for all
# targets, because setuptools-rust asks cargo about every crate of Cargo.lock. Then nothing is downloaded or resolved.
build_core() {
    rm -f python/plinius/_{core,pm}*.so # a failed build must not leave an old module in its place
    cargo fetch --quiet --locked || die "cannot fetch the Rust crates: see cargo's message above"
    CARGO_NET_OFFLINE=true pip install --quiet --no-deps --no-index --no-build-isolation --editable . ||
        die "cannot build the core: see the messages above"
    # Python would find it beside the installed metadata, and setuptools takes lists of files from an old one.
    rm -rf python/plinius.egg-info
}

prepare_core() {
    local digest sources
    mapfile -t sources < <(core_sources)
    digest=$(digest_of "${sources[@]}")
    if holds "$core_stamp" "$digest" && core_is_there; then
        return
    fi
    require_rust
    rm -f "$core_stamp"
    say "building the core (a minute or two)"
    build_core
    echo "$digest" >"$core_stamp"
}

# pip and cargo end by themselves on Ctrl-C, which must not be taken for a failure of theirs.
trap 'printf "\nsetup: interrupted; make goes on from here\n" >&2; exit 130' INT TERM

# Two set-ups at once would spoil each other; the second waits. The lock is this file, and goes with the process.
exec 9<scripts/setup.sh
flock --nonblock 9 || { say "waiting for another set-up in this folder" && flock 9; }

# In an activated .venv, python3 is .venv's own, which cannot be its own base.
PATH=${PATH//"$PWD/$venv/bin:"/}

prepare_environment
prepare_tpm
prepare_core
if [ "${1:-}" = frameworks ]; then
    prepare_frameworks
fi
