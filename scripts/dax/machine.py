"""One life of the guest: QEMU with its device, a task inside, and a watchdog."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

DEVICE_BYTES: Final = 256 << 20
_CONSOLE_LINES: Final = 25


class CheckError(Exception):
    """Something is not as it must be; the message says what was expected and what was seen."""


@dataclass(frozen=True)
class Image:
    """What the guest boots.

    Attributes:
        kernel: The kernel's file.
        initramfs: The archive of its first program and modules.
    """

    kernel: Path
    initramfs: Path


@dataclass(frozen=True)
class Device:
    """A kind of device under /dev/pmem0, and how it is used.

    Attributes:
        machine: More options of QEMU's machine.
        hardware: Options of QEMU that add the device; the object `memory` holds its bytes.
        kernel: More of the kernel's command line.
        namespace: The mode that `ndctl` gives it, if any.
        mount: Options of ext4.
    """

    machine: str = ""
    hardware: tuple[str, ...] = ("-device", "nvdimm,memdev=memory")
    kernel: str = ""
    namespace: str = ""
    mount: str = "dax"


class Machine:
    """A running guest. Leaving its `with` block kills it, and so does the watchdog."""

    def __init__(self, image: Image, device: Device, backing: Path, *, new: bool, task: str, limit_s: float) -> None:
        """Starts it.

        Args:
            image: What it boots.
            device: Its persistent memory.
            backing: The file that holds the device's bytes.
            new: The device has to be formatted first.
            task: A bash script; the machine ends when it does.
            limit_s: The watchdog kills the machine after so long.
        """
        self.backing = backing
        self._console = backing.with_suffix(".console")
        script = backing.with_suffix(".sh")
        script.write_text(task)
        setup = f"NAMESPACE={device.namespace} FORMAT=yes" if new else ""
        words = f'console=ttyS0 quiet panic=-1 {device.kernel} {setup} MOUNT={device.mount} TASK="{script}"'
        self.boot_s = float("nan")
        self._said: list[str] = []
        self._limit_s = limit_s
        self._expired = False
        self._began_s = time.monotonic()
        command = [*_qemu(device, backing, self._console), *_boot(image, words)]
        self._console.unlink(missing_ok=True)
        with self._console.open("a") as console:  # for what QEMU itself may have to say
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=console, text=True
            )
        self._watchdog = threading.Timer(limit_s, self._expire)
        self._watchdog.daemon = True
        self._watchdog.start()

    def lines(self) -> Iterator[str]:
        """What the task prints while it prints it, last `exit` and its status, unless the machine was killed before.

        Raises:
            CheckError: The watchdog had to kill it.
        """
        for line in self._process.stdout or ():
            if not line.endswith("\n"):  # cut by a kill
                break
            said = line.rstrip("\n")
            if said == "ready":
                self.boot_s = time.monotonic() - self._began_s
                continue
            self._said.append(said)
            yield said
        if self._expired:
            raise self.failure(f"the watchdog ended it after {self._limit_s:.0f} s")

    def finish(self) -> list[str]:
        """Waits for the end of the task and returns what it printed.

        Raises:
            CheckError: The machine did not come so far, or the task's exit status is not 0.
        """
        said = list(self.lines())
        if said[-1:] != ["exit 0"]:
            raise self.failure("the task failed")
        return said[:-1]

    def failure(self, what: str) -> CheckError:
        """An error that shows what the guest said last."""
        console = self._console.read_text(errors="replace").splitlines()
        shown = [*self._said[-_CONSOLE_LINES:], "-- console:", *console[-_CONSOLE_LINES:]]
        return CheckError("\n    ".join([what, *shown]))

    def kill(self) -> None:
        """Kills QEMU with SIGKILL: the machine is gone between two instructions."""
        self._process.kill()

    def _expire(self) -> None:
        self._expired = True
        self.kill()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._watchdog.cancel()
        self.kill()
        self._process.communicate()


def _boot(image: Image, words: str) -> list[str]:
    return ["-kernel", str(image.kernel), "-initrd", str(image.initramfs), "-append", words]


def _qemu(device: Device, backing: Path, console: Path) -> list[str]:
    """The machine: software emulation, this machine's files read only, a console, and the port for reports."""
    memory = f"memory-backend-file,id=memory,share=on,mem-path={_escaped(backing)},size={DEVICE_BYTES},align=2M"
    return [
        *("qemu-system-x86_64", "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"),
        *("-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "1G,slots=1,maxmem=2G"),
        *("-machine", f"q35,nvdimm=on{device.machine}"),
        *("-virtfs", "local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap"),
        *("-chardev", f"file,id=console,append=on,path={_escaped(console)}", "-serial", "chardev:console"),
        *("-chardev", "file,id=report,path=/dev/stdout"),
        # Without ioeventfd, what the guest writes has left QEMU when the guest goes on: a report is never late.
        *("-device", "virtio-serial,ioeventfd=off", "-device", "virtserialport,chardev=report"),
        *("-object", memory, *device.hardware),
    ]


def _escaped(path: Path) -> str:
    """A path in a list of QEMU's options."""
    return str(path).replace(",", ",,")
