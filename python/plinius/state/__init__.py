"""Live training state to named memory buffers and back, exactly; no pickle is written or read."""

from plinius.state.capture import capture
from plinius.state.environment import differences, environment
from plinius.state.restore import Restoration, plan_restore
from plinius.state.snapshot import Buffer, BufferSpec, Snapshot

__all__ = [
    "Buffer",
    "BufferSpec",
    "Restoration",
    "Snapshot",
    "capture",
    "differences",
    "environment",
    "plan_restore",
]
