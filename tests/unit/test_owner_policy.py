"""The owner's policy: what it may say, and that each of its fields refuses."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from plinius.attest.claims import Claims
from plinius.attest.snp_chain import AMD_ROOTS
from plinius.errors import ConfigError, PolicyError
from plinius.owner.appraisal import Check, appraise, require
from plinius.owner.policy import Accept, Freshness, Policy, parse

ROOT = b"R" * 32
TDX = """
[[accept]]
tee = "tdx"
tcb_statuses = ["UpToDate", "SWHardeningNeeded"]
advisories = ["INTEL-SA-00001"]
[accept.measurements]
mrtd = ["{mrtd}", "{other}"]
rtmr1 = ["{mrtd}"]
rtmr2 = ["{other}"]
[accept.minimum]
tcb_evaluation_number = 17
""".format(mrtd="aa" * 48, other="bb" * 48)
SNP = f"""
[[accept]]
tee = "snp"
roots = ["{ROOT.hex()}"]
measurements.measurement = ["{"cc" * 48}"]
measurements.vmpl = ["00"]
minimum.tcb_snp = 8
"""
NO_LEVEL = SNP.replace("measurements.vmpl", "# ")
TPM = '[[accept]]\ntee = "tpm2"\ntrust_os = true\nmeasurements.pcr11 = ["{}"]\n'.format("dd" * 32)
TPM += f'measurements.ek = ["{"ee" * 32}"]\n'


def claims(tee: str, **changes: Any) -> Claims:
    said = {
        "tdx": Claims(
            tee="tdx",
            report_data=bytes(32),
            measurements={"mrtd": b"\xaa" * 48, "rtmr1": b"\xaa" * 48, "rtmr2": b"\xbb" * 48},
            debug=False,
            tcb_status="UpToDate",
            advisories=("INTEL-SA-00001",),
            numbers={"tcb_evaluation_number": 17},
        ),
        "snp": Claims(
            tee="snp",
            report_data=bytes(32),
            measurements={"measurement": b"\xcc" * 48, "vmpl": b"\0", "root": ROOT},
            debug=False,
            numbers={"tcb_snp": 8},
        ),
        "tpm2": Claims(
            tee="tpm2",
            report_data=bytes(32),
            measurements={"pcr11": b"\xdd" * 32, "ek": b"\xee" * 32},
            debug=False,
            trusts_os=True,
        ),
    }[tee]
    return msgspec.structs.replace(said, **changes)


def refused(policy: str, said: Claims) -> list[str]:
    return [check.field for check in appraise(parse(policy.encode(), "p.toml"), said) if not check.ok]


@pytest.mark.parametrize(("policy", "tee"), [(TDX, "tdx"), (SNP, "snp"), (TPM, "tpm2")])
def test_what_the_policy_names_is_accepted(policy: str, tee: str) -> None:
    checks = appraise(parse(policy.encode(), "p.toml"), claims(tee))
    require(checks)
    assert len(checks) > 4


def snp(**measured: bytes) -> Claims:
    return claims("snp", measurements={**claims("snp").measurements, **measured})


# Each field of the policy: how the policy or the claims are changed so that this field, and no other, refuses.
MUTATIONS: dict[str, list[tuple[str, str, Claims]]] = {
    "tee": [
        ("tee", TDX, claims("snp")),
        ("tee", SNP, claims("tdx")),
        ("tee", TPM, msgspec.structs.replace(claims("tpm2"), tee="simulated")),
    ],
    "measurements": [
        ("measurements.mrtd", TDX.replace("aa" * 48 + '", "bb', "bc" * 48 + '", "bb'), claims("tdx")),
        ("measurements.rtmr1", TDX.replace('rtmr1 = ["aa', 'rtmr1 = ["ab'), claims("tdx")),
        ("measurements.rtmr1", TDX, claims("tdx", measurements={"mrtd": b"\xaa" * 48, "rtmr2": b"\xbb" * 48})),
        ("measurements.vmpl", SNP.replace('["00"]', '["01", "02"]'), claims("snp")),
        ("measurements.vmpl", NO_LEVEL, snp(vmpl=b"\1")),
        ("measurements.vmpl", NO_LEVEL, snp(vmpl=b"\3")),
        ("measurements.pcr11", TPM.replace("dd" * 32, "dc" * 32), claims("tpm2")),
        ("measurements.ek", TPM.replace("ee" * 32, "ef" * 32), claims("tpm2")),
    ],
    "minimum": [
        ("minimum.tcb_evaluation_number", TDX.replace("= 17", "= 18"), claims("tdx")),
        ("minimum.tcb_evaluation_number", TDX, claims("tdx", numbers={})),
        ("minimum.tcb_snp", SNP.replace("snp = 8", "snp = 9"), claims("snp")),
    ],
    "tcb_statuses": [
        ("tcb_statuses", TDX, claims("tdx", tcb_status="OutOfDate")),
        ("tcb_statuses", TDX, claims("tdx", tcb_status=None)),
        ("tcb_statuses", TDX.replace('"UpToDate", ', ""), claims("tdx")),
        ("tcb_statuses", TDX.replace("tcb_statuses", "# "), claims("tdx", tcb_status="SWHardeningNeeded")),
    ],
    "advisories": [
        ("advisories", TDX, claims("tdx", advisories=("INTEL-SA-00001", "INTEL-SA-00002"))),
        ("advisories", TDX.replace("advisories", "# "), claims("tdx")),
        ("advisories", SNP, claims("snp", advisories=("AMD-SB-3000",))),
    ],
    "debug": [
        ("debug", TDX, claims("tdx", debug=True)),
        ("debug", SNP, claims("snp", debug=True)),
        ("debug", SNP.replace("roots", "debug = false\nroots"), claims("snp", debug=True)),
    ],
    "trust_os": [
        ("trust_os", TPM.replace("true", "false"), claims("tpm2")),
        ("trust_os", TPM.replace("trust_os", "# "), claims("tpm2")),
        ("trust_os", TDX, claims("tdx", trusts_os=True)),
    ],
    "roots": [
        ("roots", SNP.replace(ROOT.hex(), AMD_ROOTS["Milan"].hex()), claims("snp")),
        ("roots", SNP.replace("roots", "# "), claims("snp")),
        ("roots", SNP, snp(root=AMD_ROOTS["Milan"])),
        ("roots", SNP, claims("snp", measurements={"measurement": b"\xcc" * 48, "vmpl": b"\0"})),
    ],
}


def test_the_mutations_leave_no_field_out() -> None:
    assert MUTATIONS.keys() == {field.name for field in msgspec.structs.fields(Accept)}


@pytest.mark.parametrize(
    ("field", "policy", "said"), [mutation for mutations in MUTATIONS.values() for mutation in mutations]
)
def test_every_field_refuses_by_its_name(field: str, policy: str, said: Claims) -> None:
    checks = appraise(parse(policy.encode(), "p.toml"), said)
    assert [check.field for check in checks if not check.ok] == [field]
    with pytest.raises(PolicyError, match=rf"field {field}: ") as caught:
        require(checks)
    assert caught.value.field == field


def test_without_roots_amds_own_are_accepted() -> None:
    policy = SNP.replace("roots", "# ")
    assert refused(policy, snp(root=AMD_ROOTS["Genoa"])) == []
    assert parse(SNP.encode(), "p.toml").roots() == {ROOT}


def test_simulated_evidence_is_accepted_by_its_insecure_name_only() -> None:
    said = Claims(tee="simulated", report_data=bytes(32), measurements={"code": b"c" * 32}, debug=False)
    named = f'[[accept]]\ntee = "simulated-insecure"\nmeasurements.code = ["{(b"c" * 32).hex()}"]\n'
    assert refused(named, said) == []
    assert refused(named + TDX, said) == []
    for policy in (TDX, SNP, TPM, TDX + SNP + TPM):
        assert refused(policy, said) == ["tee"]
    with pytest.raises(ConfigError, match="simulated"):
        parse(named.replace("-insecure", "").encode(), "p.toml")


def test_one_table_must_hold_as_a_whole() -> None:
    """Two tables, each refused by another field, are not one that accepts."""
    other = TDX.replace("aa" * 48, "ee" * 48)
    old = TDX.replace("= 17", "= 99")
    assert refused(TDX + other, claims("tdx")) == []
    assert refused(other + TDX, claims("tdx")) == []
    assert refused(other + old, claims("tdx")) == ["minimum.tcb_evaluation_number"]  # the nearest is explained


def test_what_is_left_out_is_the_careful_choice() -> None:
    policy = parse(TDX.replace("tcb_statuses", "# ").encode(), "p.toml")
    assert policy.accept[0].statuses == ("UpToDate",)
    assert (policy.accept[0].debug, policy.accept[0].trust_os) == (False, False)
    assert refused(NO_LEVEL, claims("snp")) == []
    assert refused(SNP.replace('["00"]', '["02"]'), snp(vmpl=b"\2")) == []
    assert policy.freshness == Freshness(anchor="broker", anchor_every=1, going_back=False, evidence_max_age_s=60)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "accept"),
        ("accept = []", "nothing is accepted"),
        ("[[accept]]", "tee"),
        ('[[accept]]\ntee = "tdx"', "measurements"),
        (TDX + "\n[other]\n", "other"),
        (TDX + "[freshness]\nanchors = 1\n", "anchors"),
        (TDX + '[freshness]\nanchor = "clock"\n', "clock"),
        (TDX + "[freshness]\nanchor_every = 0\n", "freshness.anchor_every"),
        (TDX + "[freshness]\nanchor_every = 1.5\n", "anchor_every"),
        (TDX + "[freshness]\nevidence_max_age_s = 0\n", "freshness.evidence_max_age_s"),
        (TDX + "[freshness]\ngoing_back = 1\n", "going_back"),
        (TDX.replace("tee", "unknown = 1\ntee"), "unknown"),
        (TDX.replace('"tdx"', '"sev"'), "sev"),
        (TDX.replace("mrtd =", "mrdt ="), "measurements.mrdt"),
        (TDX.replace("aa" * 48, "aa" * 47), "96 hexadecimal digits"),
        (TDX.replace("aa" * 48, "xy" * 48), "96 hexadecimal digits"),
        (TDX.replace("aa" * 48, "aa " * 48), "96 hexadecimal digits"),
        (TPM.replace("dd" * 32, ""), "measurements.pcr11"),
        (TDX.replace('["' + "aa" * 48 + '"]', "[]"), "measurements.rtmr1: list"),
        (TDX.replace("mrtd =", "rtmr0 ="), "name the accepted code: mrtd"),
        (TDX.replace("rtmr1 =", "rtmr0 ="), "measurements.rtmr1: mrtd is the firmware alone"),
        (TDX.replace("rtmr2 =", "rtmr3 ="), "measurements.rtmr2: mrtd is the firmware alone"),
        (TDX.replace("= 17", "= -1"), "minimum.tcb_evaluation_number: no number is below 0"),
        (SNP.replace("snp = 8", "snp = -5"), "minimum.tcb_snp: no number is below 0"),
        (TDX.replace("tcb_evaluation_number", "isv_svn"), "minimum.isv_svn"),
        (TDX.replace("= 17", '= "17"'), "accept[0].minimum"),
        (TDX.replace("SWHardeningNeeded", "Revoked"), "Revoked"),
        (TDX.replace('["UpToDate", "SWHardeningNeeded"]', "[]"), "tcb_statuses: name at least one"),
        (TDX.replace("tee", "debug = true\ntee"), "debug: debug enclaves of tdx never verify"),
        (TDX.replace("tee", "debug = 0\ntee"), "debug"),
        (TDX.replace("tee", 'trust_os = "yes"\ntee'), "trust_os"),
        (TDX.replace("tee", "trust_os = true\ntee"), "trust_os: only evidence of tpm2"),
        (SNP.replace("roots", "trust_os = true\nroots"), "trust_os: only evidence of tpm2"),
        (SNP.replace("roots", 'advisories = ["X"]\nroots'), "advisories: snp has no advisories"),
        (TPM.replace("trust_os", 'advisories = ["X"]\ntrust_os'), "advisories: tpm2 has no advisories"),
        (TPM.replace("trust_os", "debug = true\ntrust_os"), "debug: debug enclaves of tpm2"),
        (TDX.replace("tee", f'roots = ["{ROOT.hex()}"]\ntee'), "roots: tdx has no choice"),
        (SNP.replace("roots", 'tcb_statuses = ["UpToDate"]\nroots'), "tcb_statuses: snp has no TCB status"),
        (SNP.replace(ROOT.hex(), "12"), "roots: a root is"),
        (TPM + "minimum.x = 1", "minimum.x"),
        (TPM.replace("pcr11", "pcr24"), "measurements.pcr24"),
        (TPM.replace("measurements.ek", "# "), "measurements.ek"),
        (TPM + "[sealing]\npcrs = [0]", "sealing.pcrs"),
        (TPM + "[freshness]\nanchor_gap_s = -1", "freshness.anchor_gap_s"),
        (TDX + '[freshness]\nanchor = "tpm"', "freshness.anchor"),
        (TPM + TDX + '[freshness]\nanchor = "tpm"', "freshness.anchor"),
        (TDX + '[freshness]\nanchor = "none"\n[sealing]\npcrs = [0]', "sealing.pcrs"),
        (TPM + "[freshness]\nanchor_gap_s = 86401", "freshness.anchor_gap_s"),
        (TDX + "[freshness]\nevidence_max_age_s = 99999999999\n", "freshness.evidence_max_age_s"),
        (TDX + "[freshness]\nanchor_every = 99999999999999999999\n", "freshness.anchor_every"),
        (TDX + '[freshness]\nanchor = "none"\nanchor_every = 5', "freshness.anchor_every: it means nothing"),
        (TDX + '[freshness]\nanchor = "none"\ngoing_back = true', "freshness.going_back: it means nothing"),
        (TDX + "[freshness]\nanchor_gap_s = 5", "freshness.anchor_gap_s: it means nothing"),
        (TPM.replace("pcr11", "pcr16"), "measurements"),
        (TPM.replace("pcr11", "pcr23"), "measurements"),
        (TPM + "[freshness]\nanchor = 'tpm'\n[sealing]\npcrs = [16, 23]", "sealing.pcrs"),
        ("accept = 1 =", "not TOML"),
        ("[[accept]]\n" * 1000, "tee"),
        ("x = " + "[" * 5000, "p.toml"),
        ("#" * (1 << 20) + "\n", "at most"),
        ("\udcff", "UTF-8"),
    ],
)
def test_a_policy_that_cannot_be_meant_is_refused_with_its_place(text: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text.encode(errors="surrogateescape"), "p.toml")
    message = str(caught.value)
    assert message.startswith("p.toml: ")
    assert said in message
    assert caught.value.path == "p.toml"


@pytest.mark.parametrize(
    ("drop", "said"),
    [
        ('measurements.isv_prod_id = ["0001"]\n', "measurements.isv_prod_id"),
        ("minimum.isv_svn = 2\n", "minimum.isv_svn"),
        ("2\n", "minimum.isv_svn"),
        ("", ""),
    ],
)
def test_a_signer_alone_is_not_enough(drop: str, said: str) -> None:
    """Whoever signed this enclave has signed others, and older ones of the same."""
    policy = (
        f'[[accept]]\ntee = "sgx"\nmeasurements.mrsigner = ["{"ee" * 32}"]\n'
        'measurements.isv_prod_id = ["0001"]\nminimum.isv_svn = 2\n'
    )
    if not drop:
        assert isinstance(parse(policy.encode(), "p.toml"), Policy)
        return
    with pytest.raises(ConfigError, match=said):
        parse(policy.replace(drop, "0\n" if drop == "2\n" else "").encode(), "p.toml")


def test_checks_say_what_was_asked_and_what_was_found() -> None:
    checks = {check.field: check for check in appraise(parse(TDX.encode(), "p.toml"), claims("tdx"))}
    assert checks["minimum.tcb_evaluation_number"] == Check(
        "minimum.tcb_evaluation_number", True, "at least 17, found 17"
    )
    assert "aaaa" in checks["measurements.mrtd"].text
    assert "INTEL-SA-00001" in checks["advisories"].text
