"""Attack: indexes for a job's anchor on several TPMs, or made anew by an enclave that was stopped for a while.

Stopped by: the broker is told once which index it is, before anything is anchored; every start holds it against that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from brokers import Desk, DirectAnchor, head
from plinius.attest.attesters import Platform
from plinius.attest.release import Grant
from plinius.attest.simulated import SimulatedAttester
from plinius.enclave.anchoring import tpm_anchor
from plinius.errors import RollbackError
from tpms import SoftwareTpm

JOB_ID = bytes(16)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """A policy that nobody can write down: simulated evidence does not say which TPM is there, and needs none here."""
    desk = Desk(tmp_path / "broker.sqlite")
    freshness = msgspec.structs.replace(desk.job.policy.freshness, anchor="tpm", anchor_gap_s=0)
    desk.job = replace(desk.job, policy=msgspec.structs.replace(desk.job.policy, freshness=freshness))
    desk.start()
    return desk


@pytest.fixture
def machine(new_tpm: Callable[[], SoftwareTpm], tmp_path: Path) -> Iterator[Callable[[], Platform]]:
    """Makes machines, each with a TPM of its own."""
    from plinius.attest.tpm import Tpm  # noqa: PLC0415 (a package that may be missing)
    from plinius.attest.tpm_anchor import FIRST_INDEX, Place  # noqa: PLC0415

    with ExitStack() as opened:

        def made() -> Platform:
            tpm = opened.enter_context(Tpm(new_tpm().connect()))
            return Platform(SimulatedAttester(), tpm, Place(FIRST_INDEX + 7, tmp_path))

        yield made


def delete(machine: Platform) -> None:
    """What whoever owns the machine can do."""
    from plinius.attest.tpm import tss  # noqa: PLC0415

    assert machine.tpm is not None
    assert machine.place is not None
    esys = machine.tpm.esys
    esys.nv_undefine_space(esys.tr_from_tpmpublic(machine.place.index), tss.ESYS_TR.OWNER)


class Life:
    """An enclave that got its key from the broker, and later its anchor; in between it can be stopped."""

    def __init__(self, desk: Desk) -> None:
        self.broker: Any = DirectAnchor(desk)
        assert self.broker.enclave.grant
        self.grant = self.broker.enclave.grant

    def anchor(self, machine: Platform) -> Any:
        return tpm_anchor(machine, self.grant, JOB_ID, self.broker, lambda _: None)

    @property
    def kept(self) -> Grant:
        """What rests on the machine for a start without the broker."""
        return Grant(self.grant.key, msgspec.structs.replace(self.grant.terms, head=self.broker.head()))


def without_broker(machine: Platform, kept: Grant) -> Any:
    return tpm_anchor(machine, kept, JOB_ID, None, lambda _: None)


def test_an_honest_job_goes_on_with_and_without_the_broker(desk: Desk, machine: Callable[[], Platform]) -> None:
    here, first = machine(), Life(desk)
    first.anchor(here).advance(None, head(1))
    assert Life(desk).anchor(here).head() == head(1)
    assert without_broker(here, first.kept).head() == head(1)
    assert desk.events().count("advanced") == 1


def test_a_second_tpm_is_no_second_anchor(desk: Desk, machine: Callable[[], Platform]) -> None:
    """Both enclaves have their key before the broker was told of either: one of the two is the job."""
    here, there = machine(), machine()
    first, second = Life(desk), Life(desk)
    first.anchor(here).advance(None, head(1))
    with pytest.raises(RollbackError, match="another one"):
        second.anchor(there)
    with pytest.raises(RollbackError, match="another one"):  # its index is there now
        Life(desk).anchor(there)
    assert Life(desk).anchor(here).head() == head(1)


def test_two_enclaves_that_begin_together_on_one_machine_have_one_anchor(
    desk: Desk, machine: Callable[[], Platform]
) -> None:
    here = machine()
    first, second = Life(desk), Life(desk)
    ours, theirs = first.anchor(here), second.anchor(here)
    ours.advance(None, head(1))
    with pytest.raises(RollbackError):
        theirs.advance(None, head(1, digest=b"x" * 32))


@pytest.mark.parametrize("by_kept_key", [False, True])
def test_an_enclave_that_was_stopped_makes_no_index_anew(
    desk: Desk, machine: Callable[[], Platform], *, by_kept_key: bool
) -> None:
    here, stopped, first = machine(), Life(desk), Life(desk)
    first.anchor(here).advance(None, head(9))
    delete(here)
    with pytest.raises(RollbackError, match="another one"):
        stopped.anchor(here)
    with pytest.raises(RollbackError, match="made anew"):
        without_broker(here, first.kept) if by_kept_key else Life(desk).anchor(here)


def test_a_deleted_index_is_missed_even_before_the_first_save(desk: Desk, machine: Callable[[], Platform]) -> None:
    """A job that went on without the broker may have anchored much, of which she knows nothing."""
    here, first = machine(), Life(desk)
    first.anchor(here)
    without_broker(here, first.kept).advance(None, head(50))
    delete(here)
    for again in (lambda: Life(desk).anchor(here), lambda: without_broker(here, first.kept)):
        with pytest.raises(RollbackError, match="gone"):
            again()


def test_a_key_that_was_kept_before_there_was_an_anchor(desk: Desk, machine: Callable[[], Platform]) -> None:
    here, first = machine(), Life(desk)
    Life(desk).anchor(here)
    with pytest.raises(RollbackError, match="told of"):
        without_broker(here, first.grant)


@pytest.mark.parametrize("cut", ["the first write", "telling the broker", "the answer"])
def test_a_kill_while_the_anchor_is_made_is_gone_on_from(
    desk: Desk, machine: Callable[[], Platform], cut: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, first = machine(), Life(desk)
    assert here.tpm is not None

    def killed(*_: Any, **__: Any) -> None:
        if cut == "the answer":
            advance(*_, **__)
        raise KeyboardInterrupt

    advance = first.broker.advance
    with monkeypatch.context() as patch:
        if cut == "the first write":
            patch.setattr(here.tpm.esys, "nv_write", killed)
        else:
            patch.setattr(first.broker, "advance", killed)
        with pytest.raises(KeyboardInterrupt):
            first.anchor(here)
    again = Life(desk).anchor(here)
    assert again.head() is None
    again.advance(None, head(1))
    assert Life(desk).anchor(here).head() == head(1)
