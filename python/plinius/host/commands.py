"""`plinius train` and `plinius infer`, as the host runs them."""

from __future__ import annotations

import signal
from dataclasses import dataclass

from plinius.errors import EnclaveError
from plinius.host.child import Owner
from plinius.host.files import opened
from plinius.host.supervisor import Supervisor
from plinius.host.view import JsonView, TerminalView
from plinius.wire import Infer, Inferred, Train, Trained


@dataclass(frozen=True)
class Paths:
    """The files of a job, as the user named them, and what she gave up.

    Attributes:
        insecure_no_sandbox: The enclave starts also where the kernel lacks a part of its sandbox.
    """

    cfg: str
    data: str
    key: str
    pool: str
    insecure_no_sandbox: bool = False

    @property
    def options(self) -> tuple[str, ...]:
        """Further options of the enclave's command line."""
        return ("--insecure-no-sandbox",) if self.insecure_no_sandbox else ()


@dataclass(frozen=True)
class TrainingResult:
    """How a training ended.

    Attributes:
        step: The last durable step.
        steps: The job's total.
        stopped_by: The signal that stopped it before its end.
    """

    step: int
    steps: int
    stopped_by: signal.Signals | None


def train(paths: Paths, command: Train, *, reveal: tuple[str, ...], restarts: int, json: bool) -> TrainingResult:
    """Trains until the job's last step or a clean stop.

    Raises:
        PliniusError: What the enclave or the owner reported.
    """
    shown = JsonView() if json else TerminalView(paths.pool)
    with opened(paths.pool, paths.data, paths.cfg, create_pool=True) as files, shown as view:
        supervisor = Supervisor(files, Owner(paths.key, reveal), view, restarts, paths.options)
        outcome = supervisor.run(command)
        if json:
            view(outcome)
    if not isinstance(outcome, Trained):
        raise EnclaveError("the enclave answered another question")
    return TrainingResult(outcome.step, outcome.steps, supervisor.stopped_by)


def infer(paths: Paths, command: Infer, *, quiet: bool) -> Inferred:
    """Classifies a sealed data set with the model in the pool.

    Raises:
        PliniusError: What the enclave or the owner reported.
    """
    owner = Owner(paths.key, ("accuracy",))  # it is what the user asks for
    with opened(paths.pool, paths.data, paths.cfg, create_pool=False) as files:
        if quiet:
            outcome = Supervisor(files, owner, lambda _: None, 0, paths.options).run(command)
        else:
            with TerminalView(paths.pool) as view:
                outcome = Supervisor(files, owner, view, 0, paths.options).run(command)
    if not isinstance(outcome, Inferred):
        raise EnclaveError("the enclave answered another question")
    return outcome
