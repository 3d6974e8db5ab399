"""What every example here needs besides its framework: its options, and a state as bytes that can be compared."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import plinius
import torch


def options(description: str | None) -> argparse.ArgumentParser:
    """Returns a parser that knows where a job lies, and opens its key and its pool once all else is right."""
    parser = _Parser(description=description)
    parser.add_argument("--pool", required=True)
    parser.add_argument("--key", required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=20)
    return parser


class _Parser(argparse.ArgumentParser):
    def parse_args(self, *arguments: Any, **named: Any) -> Any:
        job = super().parse_args(*arguments, **named)
        try:
            job.key = plinius.Key.load(job.key)
            job.pool = plinius.Pool(job.pool)  # last: it is made where there is none
        except plinius.PliniusError as error:
            self.error(str(error))
        return job


def content(state: Any) -> bytes:
    """Returns a state dict as bytes, equal for equal states."""
    if isinstance(state, torch.Tensor):
        return f"{state.dtype} {list(state.shape)} ".encode() + bytes(
            state.detach().contiguous().view(-1).view(torch.uint8).numpy()
        )
    if isinstance(state, dict):
        return b"{" + b",".join(repr(key).encode() + b":" + content(value) for key, value in state.items()) + b"}"
    if isinstance(state, (list, tuple)):
        return b"[" + b",".join(map(content, state)) + b"]"
    return repr(state).encode()
