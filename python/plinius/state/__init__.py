"""Live training state to named memory buffers and back, exactly; no pickle is written or read."""

from plinius.state.capture import capture
from plinius.state.environment import differences, environment
from plinius.state.owners import NoCopies, device_copies, identities, owned
from plinius.state.restore import Restoration, plan_restore
from plinius.state.snapshot import Buffer, BufferSpec, Memory, Snapshot

__all__ = [
    "Buffer",
    "BufferSpec",
    "Memory",
    "NoCopies",
    "Restoration",
    "Snapshot",
    "capture",
    "device_copies",
    "differences",
    "environment",
    "identities",
    "owned",
    "plan_restore",
]
