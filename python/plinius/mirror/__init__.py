"""The mirror: saving and restoring the whole training state, sealed, in a pool."""

from plinius.mirror.generation import PublicMirror, public_mirrors, read_facts
from plinius.mirror.manifest import Facts
from plinius.mirror.mirroring import ExactnessWarning, Mirror, RollbackWarning

__all__ = [
    "ExactnessWarning",
    "Facts",
    "Mirror",
    "PublicMirror",
    "RollbackWarning",
    "public_mirrors",
    "read_facts",
]
