"""The mirror: saving and restoring the whole training state, sealed, in a pool.

Names are loaded when they are first used: moving and draining copy ciphertext, and whoever runs them, the untrusted
host, loads neither keys nor state.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from plinius.lazily import loading

if TYPE_CHECKING:
    from plinius.mirror.checking import ExactnessWarning as ExactnessWarning
    from plinius.mirror.checking import RollbackWarning as RollbackWarning
    from plinius.mirror.draining import drain as drain
    from plinius.mirror.draining import fetch as fetch
    from plinius.mirror.generation import PublicMirror as PublicMirror
    from plinius.mirror.generation import public_mirrors as public_mirrors
    from plinius.mirror.generation import read_facts as read_facts
    from plinius.mirror.manifest import Facts as Facts
    from plinius.mirror.mirroring import Mirror as Mirror
    from plinius.mirror.moving import move_mirror as move_mirror

_HOME = {
    "ExactnessWarning": "checking",
    "Facts": "manifest",
    "Mirror": "mirroring",
    "PublicMirror": "generation",
    "drain": "draining",
    "fetch": "draining",
    "move_mirror": "moving",
    "RollbackWarning": "checking",
    "public_mirrors": "generation",
    "read_facts": "generation",
}

__all__ = sorted(_HOME)  # noqa: PLE0605 (sorted returns a list)
__getattr__ = loading(__name__, _HOME)
