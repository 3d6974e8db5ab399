"""What comes from Debian: QEMU and ndctl must be installed; kernel and busybox are only downloaded and unpacked."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Final

# Commands and the packages that bring them. ndctl is run by the guest, from this machine's files.
_NEEDED: Final = {
    "qemu-system-x86_64": "qemu-system-x86",
    "ndctl": "ndctl",
    "mkfs.ext4": "e2fsprogs",
    "dpkg-deb": "dpkg",
    "apt-get": "apt",
}
_SBIN: Final = "/usr/local/sbin:/usr/sbin:/sbin"  # not in the PATH of everybody


class SetupError(Exception):
    """The machine lacks something; the message says how to get it."""


def require_tools() -> None:
    """Installs what is missing when this is root, and says what to install when it is not.

    Raises:
        SetupError: Something has to be installed first.
    """
    packages = _missing()
    if packages and os.geteuid() == 0 and shutil.which("apt-get"):
        print(f"dax: installing {' '.join(packages)}", flush=True)
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages]
        for command in (["apt-get", "update", "-qq"], install):
            subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=False)
        packages = _missing()
    if packages:
        raise SetupError(f"something is missing here; run: sudo apt install {' '.join(packages)}")


def _missing() -> list[str]:
    path = f"{os.environ.get('PATH', '')}:{_SBIN}"
    return [package for command, package in _NEEDED.items() if shutil.which(command, path=path) is None]


def unpacked(package: str, cache: Path) -> Path:
    """The folder with a package's files; a package that is there already is not asked for again.

    Raises:
        SetupError: apt cannot download it.
    """
    folder = cache / package
    if folder.is_dir():
        return folder
    print(f"dax: downloading {package}", flush=True)
    downloads = cache / "downloads"
    shutil.rmtree(downloads, ignore_errors=True)
    (downloads / "files").mkdir(parents=True)
    # As root, apt would try to become a user that may not write here, and complain.
    command = ["apt-get", "-qq", "-o", "APT::Sandbox::User=root", "download", package]
    if subprocess.run(command, cwd=downloads, check=False).returncode:
        raise SetupError(f"apt cannot download {package}; perhaps: sudo apt update")
    (archive,) = downloads.glob("*.deb")
    subprocess.run(["dpkg-deb", "-x", archive, downloads / "files"], check=True)
    (downloads / "files").rename(folder)
    shutil.rmtree(downloads)
    return folder


def unpacked_kernel(cache: Path) -> Path:
    """The same for Debian's kernel, whose package has another name with each version.

    Raises:
        SetupError: apt does not know it, or cannot download it.
    """
    kept = sorted(cache.glob("linux-image-*"))
    if kept:
        return kept[-1]
    shown = subprocess.run(["apt-cache", "depends", "linux-image-amd64"], capture_output=True, text=True, check=False)
    found = re.search(r"Depends: (linux-image-\S+-amd64)\b", shown.stdout)
    if found is None:
        raise SetupError("apt does not know linux-image-amd64 (this target is for Debian); perhaps: sudo apt update")
    return unpacked(found[1], cache)
