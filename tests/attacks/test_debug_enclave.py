"""Attack: an enclave whose memory the machine's owner may read. Stopped by: the debug bit is in the evidence."""

from __future__ import annotations

import struct

import pytest
from plinius.attest.claims import Claims
from plinius.attest.snp_report import REPORT_BYTES
from plinius.attest.snp_report import parse as parse_report
from plinius.errors import ConfigError, PolicyError
from plinius.owner.appraisal import appraise, require
from plinius.owner.policy import parse

SNP = f"""
[[accept]]
tee = "snp"
roots = ["{"ab" * 32}"]
measurements.measurement = ["{"cc" * 48}"]
"""


def claims(*, debug: bool) -> Claims:
    measured = {"measurement": b"\xcc" * 48, "vmpl": b"\0", "root": b"\xab" * 32}
    return Claims(tee="snp", report_data=bytes(32), measurements=measured, debug=debug)


def test_a_debug_guest_is_refused_by_default() -> None:
    policy = parse(SNP.encode(), "policy.toml")
    require(appraise(policy, claims(debug=False)))
    with pytest.raises(PolicyError, match="debug") as refused:
        require(appraise(policy, claims(debug=True)))
    assert refused.value.field == "debug"


@pytest.mark.parametrize("bit", [18, 19], ids=["a migration agent may read it", "debug"])
def test_a_guest_that_was_launched_readable(bit: int) -> None:
    """Its measurement is the same: whoever launches it chooses the guest policy."""
    report = bytearray(REPORT_BYTES)
    struct.pack_into("<IIQ", report, 0, 2, 0, 0x30000)
    struct.pack_into("<I", report, 0x34, 1)
    assert not parse_report(bytes(report)).debug
    struct.pack_into("<Q", report, 8, 0x30000 | 1 << bit)
    assert parse_report(bytes(report)).debug


def test_the_owner_can_accept_it_by_a_word_of_her_own() -> None:
    require(appraise(parse(f"{SNP}debug = true\n".encode(), "policy.toml"), claims(debug=True)))


@pytest.mark.parametrize("tee", ["sgx", "tdx"])
def test_debug_enclaves_of_intel_are_never_accepted(tee: str) -> None:
    """Their quotes do not verify, so a policy cannot even ask for them."""
    names, length = (("mrenclave",), 32) if tee == "sgx" else (("mrtd", "rtmr1", "rtmr2"), 48)
    measured = "".join(f'measurements.{name} = ["{"00" * length}"]\n' for name in names)
    text = f'[[accept]]\ntee = "{tee}"\n{measured}debug = true\n'
    with pytest.raises(ConfigError, match="debug"):
        parse(text.encode(), "policy.toml")
