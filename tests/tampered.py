"""The command line with an enclave process that a test has prepared: it runs some lines before its own first one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from jobs import PATIENCE_S, Done

_HOST = """
import sys
from types import SimpleNamespace
from plinius.host import child
child.sys = SimpleNamespace(executable=sys.argv.pop(1))
from plinius.cli import main
main()
"""

_STARTED = """#!{python} -I
import os, sys
if sys.argv[3] != "plinius.enclave.main":
    os.execv({python!r}, [{python!r}, *sys.argv[1:]])
sys.argv[1:4] = []
from plinius.enclave import main as enclave
{lines}
enclave.main()
"""


def run(folder: Path, lines: str, *arguments: str) -> Done:
    """Runs a command to its end.

    Args:
        folder: Where a file may be made.
        lines: What the enclave process runs first; `enclave` is its module there.
        arguments: Of the command.
    """
    started = folder / "started"
    started.write_text(_STARTED.format(python=sys.executable, lines=lines))
    started.chmod(0o700)
    command = [sys.executable, "-I", "-c", _HOST, str(started), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    return Done(done.returncode, done.stdout, done.stderr)
