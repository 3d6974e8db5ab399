"""`plinius train` and `plinius infer`, as the host runs them."""

from __future__ import annotations

import signal
from dataclasses import dataclass

from plinius.endpoint import Endpoint
from plinius.errors import EnclaveError, ProvisioningError
from plinius.files import shown_name
from plinius.host.broker_link import BrokerLink, Relay
from plinius.host.child import Owner
from plinius.host.files import opened
from plinius.host.kept_key import recalled, store
from plinius.host.supervisor import Supervisor, View
from plinius.host.view import JsonView, TerminalView
from plinius.wire import Infer, Inferred, Notice, Train, Trained, TrainManifest


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

    @property
    def exit_code(self) -> int:
        """0, or 128 and the signal that stopped it before its end."""
        return 128 + self.stopped_by if self.stopped_by is not None and self.step < self.steps else 0

    def words(self, pool: str) -> str:
        """What the user is told in the end."""
        if self.exit_code:
            return f"stopped after step {self.step} of {self.steps}, which is durable; run the same command to go on"
        if self.step > self.steps:
            return f"nothing to do: {self.steps} steps were asked for, step {self.step} is durable in {pool} already"
        return f"done: step {self.step} of {self.steps} is durable in {pool}"


def train(paths: Paths, command: Train, *, reveal: tuple[str, ...], restarts: int, json: bool) -> TrainingResult:
    """Trains until the job's last step or a clean stop.

    Raises:
        PliniusError: What the enclave or the owner reported.
    """
    shown = JsonView() if json else TerminalView(paths.pool)
    with opened(paths.pool, paths.data, paths.cfg, create_pool=True) as files, shown as view:
        return _train(
            Supervisor(files, Owner(paths.key, reveal).start, view, restarts, paths.options),
            command,
            view if json else None,
        )


@dataclass(frozen=True)
class Site:
    """Where a job with a manifest runs: the job as its broker calls it, and this machine's files.

    Attributes:
        job: Its name at the broker.
        pool: The pool.
        data: The sealed data set.
        tee: What the enclave proves itself with.
        tpm: The machine's TPM: its device.
        kept_key: The file in which the key rests, sealed to the TPM, where the owner allows that.
        insecure_no_sandbox: The enclave starts also where the kernel lacks a part of its sandbox.
    """

    job: str
    pool: str
    data: str
    tee: str
    tpm: str | None = None
    kept_key: str | None = None
    insecure_no_sandbox: bool = False

    @property
    def options(self) -> tuple[str, ...]:
        """Further options of the enclave's command line."""
        return (f"--tee={self.tee}", *(("--insecure-no-sandbox",) if self.insecure_no_sandbox else ()))


def train_for_broker(
    site: Site, broker: Endpoint, certificate: str | None, *, restarts: int, json: bool
) -> TrainingResult:
    """Trains what the manifest of a broker's job says.

    Raises:
        PliniusError: What the enclave or the broker reported.
    """
    shown = JsonView() if json else TerminalView(site.pool)
    with opened(site.pool, site.data, None, create_pool=True, tpm=site.tpm) as files, shown as view:
        link, kept = BrokerLink(broker, certificate, lambda text: view(Notice(text))), b""
        try:
            manifest, kept = (site.kept_key and recalled(site.kept_key, site.job)) or (link.manifest(site.job), b"")
            command = TrainManifest(manifest, shown_name(site.data), shown_name(site.pool), kept)

            def keep(sealed_key: bytes) -> None:
                if site.kept_key is not None:
                    store(site.kept_key, site.job, manifest, sealed_key)

            supervisor = Supervisor(files, lambda: Relay(link.relay()), view, restarts, site.options, keep)
            return _train(supervisor, command, view if json else None)
        except ProvisioningError as error:
            if not kept:
                raise
            raise ProvisioningError(f"{error}; remove {site.kept_key}, and the broker is asked") from None
        finally:
            link.close()


def _train(supervisor: Supervisor, command: Train | TrainManifest, view: View | None) -> TrainingResult:
    outcome = supervisor.run(command)
    if not isinstance(outcome, Trained):
        raise EnclaveError("the enclave answered another question")
    if view is not None:
        view(outcome)
    return TrainingResult(outcome.step, outcome.steps, supervisor.stopped_by)


def infer(paths: Paths, command: Infer, *, quiet: bool) -> Inferred:
    """Classifies a sealed data set with the model in the pool.

    Raises:
        PliniusError: What the enclave or the owner reported.
    """
    owner = Owner(paths.key, ("accuracy",))  # it is what the user asks for
    with opened(paths.pool, paths.data, paths.cfg, create_pool=False) as files:
        if quiet:
            outcome = Supervisor(files, owner.start, lambda _: None, 0, paths.options).run(command)
        else:
            with TerminalView(paths.pool) as view:
                outcome = Supervisor(files, owner.start, view, 0, paths.options).run(command)
    if not isinstance(outcome, Inferred):
        raise EnclaveError("the enclave answered another question")
    return outcome
