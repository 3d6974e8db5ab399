"""Run as root of a network namespace: makes a second one, a wire between them, and captures what goes over it.

Arguments: the capture's file, the broker's command and the host's, each as JSON. The broker runs here, the host there.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

ETH_P_ALL = 3


def main() -> None:
    capture, broker, host = Path(sys.argv[1]), json.loads(sys.argv[2]), json.loads(sys.argv[3])
    there = subprocess.Popen(["unshare", "--net", "sleep", "600"])
    try:
        enter = ["nsenter", f"--net=/proc/{there.pid}/ns/net"]
        while os.readlink(f"/proc/{there.pid}/ns/net") == os.readlink("/proc/self/ns/net"):  # noqa: PTH115
            pass
        for command in (
            ["ip", "link", "add", "wire0", "type", "veth", "peer", "name", "wire1", "netns", str(there.pid)],
            ["ip", "address", "add", "10.99.0.1/24", "dev", "wire0"],
            ["ip", "link", "set", "wire0", "up"],
            [*enter, "ip", "address", "add", "10.99.0.2/24", "dev", "wire1"],
            [*enter, "ip", "link", "set", "wire1", "up"],
        ):
            subprocess.run(command, check=True)
        listening = capturing("wire0", capture)
        with subprocess.Popen(broker, stdout=subprocess.PIPE, text=True) as serving:
            assert serving.stdout
            serving.stdout.readline()
            done = subprocess.run([*enter, *host], check=False, capture_output=True, text=True)
            serving.kill()
        listening()
        sys.stdout.write(done.stdout)
        sys.stderr.write(done.stderr)
        sys.exit(done.returncode)
    finally:
        there.kill()
        there.wait()


def capturing(interface: str, target: Path) -> Callable[[], None]:
    """Appends every frame on an interface to a file, until what it returns is called."""
    wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 24)
    wire.bind((interface, 0))
    wire.settimeout(0.2)
    ended = threading.Event()

    def run() -> None:
        with target.open("wb", buffering=0) as file:
            while not ended.is_set():
                try:
                    file.write(wire.recv(1 << 17))
                except TimeoutError:
                    continue

    def end() -> None:
        ended.set()
        thread.join()

    thread = threading.Thread(target=run)
    thread.start()
    return end


if __name__ == "__main__":
    main()
