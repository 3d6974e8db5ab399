"""The command `plinius`, from its start: Ctrl-C while it is loaded is no crash."""

from __future__ import annotations

import sys
from typing import NoReturn


def main() -> NoReturn:
    """Loads the command line and runs it."""
    try:
        from plinius import cli  # noqa: PLC0415 (loading it is what Ctrl-C may meet)
    except KeyboardInterrupt:
        sys.stderr.write("plinius: stopped; nothing was written\n")
        sys.exit(130)
    cli.main()


if __name__ == "__main__":
    main()
