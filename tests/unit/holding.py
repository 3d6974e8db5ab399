"""Saves in the background that are held up, so that a test may do something meanwhile."""

from __future__ import annotations

import threading
from typing import Any

from plinius import _core


class Held:
    """Holds the sealing in the background up until it is let go."""

    def __init__(self) -> None:
        self.reached, self.go_on = threading.Event(), threading.Event()

    def writing(self, *arguments: Any) -> Any:
        held, real = self, _core.Writing(*arguments)

        class Writing:
            def __getattr__(self, name: str) -> Any:
                return getattr(real, name)

            def seal(self, *arguments: Any) -> Any:
                if threading.current_thread() is not threading.main_thread():
                    held.reached.set()
                    assert held.go_on.wait(60)
                return real.seal(*arguments)

        return Writing()
