"""Where the source tree is, for a package that runs from it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

PACKAGE: Final = Path(__file__).parents[1]


def source_tree() -> Path | None:
    """The folder with crates/ and bench/; None: the package is installed without its sources."""
    root = PACKAGE.parents[1]
    return root if (root / "crates" / "py" / "Cargo.toml").is_file() else None
