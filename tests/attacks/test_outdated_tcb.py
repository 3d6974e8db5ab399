"""Attack: a platform whose firmware has known holes. Stopped by: the vendor says so; the policy names what it takes.

With real evidence: an SGX platform of which Intel says ConfigurationAndSWHardeningNeeded (SA-00289, SA-00615).
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest
from plinius.attest.claims import Claims
from plinius.errors import ConfigError, PolicyError
from plinius.owner.appraisal import appraise, require
from plinius.owner.evidence import read
from plinius.owner.policy import parse
from plinius.owner.verify import claims_of

DATA = os.environ.get("PLINIUS_DATA")
AT = datetime(2025, 7, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def claims() -> Claims:
    if DATA is None:
        pytest.skip("needs PLINIUS_DATA: a folder with attestation/sgx_quote and its collateral")
    folder = Path(DATA) / "attestation"
    return claims_of(read(str(folder / "sgx_quote"), str(folder / "sgx_quote_collateral.json"), ()), AT)


def policy(claims: Claims, more: str) -> str:
    code = claims.measurements["mrenclave"].hex()
    return f'[[accept]]\ntee = "sgx"\nmeasurements.mrenclave = ["{code}"]\n{more}'


STATUS = 'tcb_statuses = ["ConfigurationAndSWHardeningNeeded"]\n'
ADVISORIES = 'advisories = ["INTEL-SA-00289", "INTEL-SA-00615"]\n'


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ("", "tcb_statuses"),
        (STATUS.replace("ConfigurationAnd", ""), "tcb_statuses"),
        (STATUS, "advisories"),
        (STATUS + ADVISORIES.replace(', "INTEL-SA-00615"', ""), "advisories"),
        (STATUS + ADVISORIES + "minimum.isv_svn = 60000\n", "minimum.isv_svn"),
        (STATUS + ADVISORIES + "minimum.tcb_evaluation_number = 60000\n", "minimum.tcb_evaluation_number"),
    ],
)
def test_what_the_policy_does_not_take_is_refused_by_the_name_of_its_field(
    claims: Claims, more: str, field: str
) -> None:
    with pytest.raises(PolicyError) as refused:
        require(appraise(parse(policy(claims, more).encode(), "policy.toml"), claims))
    assert refused.value.field == field


def test_the_owner_can_take_it_in_so_many_words(claims: Claims) -> None:
    require(appraise(parse(policy(claims, STATUS + ADVISORIES).encode(), "policy.toml"), claims))


def test_a_revoked_platform_cannot_be_asked_for(claims: Claims) -> None:
    text = policy(claims, 'tcb_statuses = ["Revoked"]\n')
    with pytest.raises(ConfigError, match="tcb_statuses"):
        parse(text.encode(), "policy.toml")
