"""The owner's commands: keygen with locks, policy, verify."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from evidence import AT, Made, packed, real, real_quote, real_snp
from inside import Command
from jobs import Job
from plinius.attest import simulated
from plinius.attest.tpm2_messages import Quoted
from plinius.errors import EvidenceError
from plinius.owner.evidence import Given
from plinius.owner.identity import Identity
from plinius.owner.keyfile import load_key
from plinius.owner.policy import load
from plinius.owner.verify import claims_of

USAGE, OPTION_OR_FILE, ATTESTATION = 2, 3, 11
IN_TIME = ("--at", "2025-07-01")
Refusal = Callable[..., str]


@pytest.fixture
def quote(tmp_path: Path) -> Callable[[str], list[object]]:
    """The arguments that name a real quote and its collateral."""

    def files(tee: str) -> list[object]:
        real_quote(tee)
        (tmp_path / tee).write_bytes(real(f"{tee}_quote"))
        (tmp_path / f"{tee}.json").write_bytes(real(f"{tee}_quote_collateral.json"))
        return [tmp_path / tee, "--collateral", tmp_path / f"{tee}.json"]

    return files


@pytest.fixture
def report(tmp_path: Path) -> list[object]:
    for name in ("snp_report_milan.hex", "snp_cert_chain_milan.pem", "snp_vcek_milan.der"):
        (tmp_path / name).write_bytes(real(name))
    names = [tmp_path / "snp_cert_chain_milan.pem", tmp_path / "snp_vcek_milan.der"]
    return [tmp_path / "snp_report_milan.hex", "--certificates", *names]


def refused_lines(out: str) -> list[str]:
    return [line.split()[1].rstrip(":") for line in out.splitlines() if line.startswith("refused ")]


def test_a_tdx_quote_goes_from_evidence_to_policy_to_acceptance(
    inside: Command, quote: Callable[[str], list[object]], tmp_path: Path
) -> None:
    evidence, policy = quote("tdx"), tmp_path / "policy.toml"
    bare = inside("verify", *evidence, *IN_TIME)
    assert bare.code == 0
    assert "no policy was given, so nothing is accepted" in bare.out
    assert "2025-06-19T10:32:27" in bare.out
    assert inside("policy", "--tee", "tdx", "--output", policy, "--from", *evidence, *IN_TIME).code == 0
    done = inside("verify", *evidence, *IN_TIME, "--policy", policy)
    assert (done.code, done.err, refused_lines(done.out)) == (0, "", [])
    assert done.out.startswith("a TDX quote")
    assert "ok measurements.mrtd: accepted, and found: 91eb2b44" in done.out


def test_a_platform_with_weaknesses_is_refused_until_the_owner_writes_them_down(
    inside: Command, quote: Callable[[str], list[object]], tmp_path: Path
) -> None:
    evidence, policy = quote("sgx"), tmp_path / "policy.toml"
    inside("policy", "--tee", "sgx", "--output", policy, "--from", *evidence, *IN_TIME)
    done = inside("verify", *evidence, *IN_TIME, "--policy", policy)
    assert done.code == ATTESTATION
    assert refused_lines(done.out) == ["tcb_statuses", "advisories"]
    assert done.err == "plinius: the policy refuses, field tcb_statuses, field advisories; the checks say why\n"
    text = policy.read_text().replace('"UpToDate"', '"ConfigurationAndSWHardeningNeeded"')
    policy.write_text(text.replace("advisories = []", 'advisories = ["INTEL-SA-00289", "INTEL-SA-00615"]'))
    assert inside("verify", *evidence, *IN_TIME, "--policy", policy).code == 0


def test_an_snp_report_in_hexadecimal_and_binary(inside: Command, report: list[object], tmp_path: Path) -> None:
    policy, binary = tmp_path / "policy.toml", tmp_path / "report.bin"
    assert inside("policy", "--tee", "snp", "--output", policy, "--from", *report, *IN_TIME).code == 0
    binary.write_bytes(bytes.fromhex(Path(str(report[0])).read_text()))
    for evidence in (report, [binary, *report[1:]]):
        done = inside("verify", *evidence, *IN_TIME, "--policy", policy, "--json")
        said = json.loads(done.out)
        assert (done.code, said["tee"], said["verifies"], said["accepted"]) == (0, "snp", True, True)
        assert said["claims"]["measurements"]["vmpl"] == "00"
    strict = policy.read_text().replace("tcb_microcode = 115", "tcb_microcode = 116")
    policy.write_text(strict)
    done = inside("verify", *report, *IN_TIME, "--policy", policy, "--json")
    assert (done.code, json.loads(done.out)["accepted"]) == (ATTESTATION, False)
    assert "field minimum.tcb_microcode; " in done.err
    checks = {check["field"]: check for check in json.loads(done.out)["checks"]}
    assert checks["minimum.tcb_microcode"]["text"] == "at least 116, found 115"


def test_our_own_evidence_brings_what_verifies_it(inside: Command, tmp_path: Path) -> None:
    for name, evidence in (("quote", real_quote("tdx")), ("report", real_snp())):
        (tmp_path / name).write_bytes(packed(evidence))
        assert inside("verify", tmp_path / name, *IN_TIME).code == 0


def test_a_made_root_is_accepted_by_the_policy_that_names_it(inside: Command, tmp_path: Path) -> None:
    made = Made()
    evidence, policy = tmp_path / "evidence", tmp_path / "policy.toml"
    evidence.write_bytes(packed(made.evidence()))
    table = f'[[accept]]\ntee = "snp"\nmeasurements.measurement = ["{(b"m" * 48).hex()}"]\n'
    policy.write_text(table + f'roots = ["{made.root.hex()}"]\n')
    assert inside("verify", evidence, *IN_TIME, "--policy", policy).code == 0
    policy.write_text(table)
    done = inside("verify", evidence, *IN_TIME, "--policy", policy)
    assert (done.code, refused_lines(done.out)) == (ATTESTATION, ["evidence"])


def test_an_authority_that_amd_has_revoked_is_refused_offline_too(
    inside: Command, refusal: Refusal, tmp_path: Path
) -> None:
    made, listed = Made(ask_serial=7), tmp_path / "revocations.der"
    evidence, policy = tmp_path / "evidence", tmp_path / "policy.toml"
    evidence.write_bytes(packed(made.evidence()))
    code = f'measurements.measurement = ["{(b"m" * 48).hex()}"]\n'
    policy.write_text(f'[[accept]]\ntee = "snp"\n{code}roots = ["{made.root.hex()}"]\n')
    verify = ["verify", evidence, *IN_TIME, "--policy", policy]
    assert "no revocation list was given" in inside(*verify).out
    listed.write_bytes(replace(made, last=datetime(2025, 8, 1, tzinfo=UTC)).revocations(8))
    done = inside(*verify, "--revocations", listed)
    assert (done.code, "until 2025-08-01T00:00:00+00:00\n" in done.out) == (0, True)
    listed.write_bytes(made.revocations(7))
    done = inside(*verify, "--revocations", listed)
    assert (done.code, refused_lines(done.out)) == (ATTESTATION, ["evidence"])
    assert "AMD has revoked the certificate CN=ask" in done.out
    listed.write_bytes(b"")
    assert "is empty" in refusal(OPTION_OR_FILE, *verify, "--revocations", listed)
    assert "It is empty" in refusal(USAGE, *verify, "--revocations", "")  # a shell's unset variable


def test_evidence_out_of_its_time_is_refused(
    inside: Command, quote: Callable[[str], list[object]], tmp_path: Path
) -> None:
    for at in ("2025-06-19T10:32:26Z", "2025-07-19T10:00:35Z", "2025-07-19T12:00:35+02:00"):
        done = inside("verify", *quote("tdx"), "--at", at)
        assert (done.code, refused_lines(done.out)) == (ATTESTATION, ["evidence"])
        assert done.out.count("the quote does not verify") == 1
        assert done.err == "plinius: the evidence does not verify; its check says why\n"
    assert inside("verify", *quote("tdx"), "--at", "2025-07-19T12:00:34+02:00").code == 0
    assert inside("verify", *quote("tdx")).code == ATTESTATION  # now


def test_simulated_evidence_needs_the_insecure_name(inside: Command, tmp_path: Path) -> None:
    evidence, policy = tmp_path / "evidence", tmp_path / "policy.toml"
    evidence.write_bytes(simulated.SimulatedAttester().attest(bytes(32), b""))
    assert inside("policy", "--tee", "simulated-insecure", "--output", policy).code == 0
    done = inside("verify", evidence, "--policy", policy)
    assert done.code == 0
    assert "simulated, insecure" in done.out
    policy.write_text(policy.read_text().replace(simulated.measurement().hex(), "00" * 32))
    assert refused_lines(inside("verify", evidence, "--policy", policy).out) == ["measurements.code"]


@pytest.mark.parametrize("tee", ["sgx", "tdx", "snp", "tpm2"])
def test_a_policy_without_evidence_is_refused_until_it_is_filled_in(
    refusal: Refusal, inside: Command, tmp_path: Path, tee: str
) -> None:
    policy, evidence = tmp_path / "policy.toml", tmp_path / "evidence"
    evidence.write_bytes(simulated.SimulatedAttester().attest(bytes(32), b""))
    inside("policy", "--tee", tee, "--output", policy)
    assert "list the accepted values" in refusal(OPTION_OR_FILE, "verify", evidence, "--policy", policy)
    filled = policy.read_text()
    for name, digits in {
        "mrenclave": 64,
        "td_attributes": 16,
        "host_data": 64,
        "guest_policy": 16,
        "vmpl": 2,
        "ek": 64,
        "pcr11": 64,
    }.items():
        filled = filled.replace(f"{name} = []", f'{name} = ["{"0" * digits}"]')
    policy.write_text(filled.replace("= []    #", f'= ["{"0" * 96}"]    #'))
    assert load(str(policy)).accept[0].tee == tee


def test_what_does_not_fit_is_named(refusal: Refusal, inside: Command, tmp_path: Path) -> None:
    evidence, made = tmp_path / "evidence", tmp_path / "made"
    evidence.write_bytes(simulated.SimulatedAttester().attest(bytes(32), b""))
    made.write_bytes(packed(Made().evidence()))
    assert "--collateral is for SGX" in refusal(OPTION_OR_FILE, "verify", evidence, "--collateral", made)
    assert "--certificates are for SNP" in refusal(OPTION_OR_FILE, "verify", evidence, "--certificates", made)
    assert "--revocations is for SNP" in refusal(OPTION_OR_FILE, "verify", evidence, "--revocations", made)
    assert "no certificate in DER or PEM" in refusal(OPTION_OR_FILE, "verify", made, "--certificates", evidence)
    assert "cannot read this file" in refusal(OPTION_OR_FILE, "verify", tmp_path / "missing")
    assert "is no time" in refusal(OPTION_OR_FILE, "verify", evidence, "--at", "yesterday")
    output = ["--output", tmp_path / "p.toml", "--from", evidence]
    assert "cannot be filled from evidence of simulated" in refusal(OPTION_OR_FILE, "policy", "--tee", "snp", *output)
    assert not (tmp_path / "p.toml").exists()


@pytest.mark.parametrize(
    "content", [b"", b"\0", b"\xc1", b"zz", b"\x93", b"\x92\xa5quote\xc4\0", msgspec.msgpack.encode(["quote", b"", ""])]
)
def test_what_is_no_evidence_is_refused(refusal: Refusal, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "evidence").write_bytes(content)
    assert "no evidence that is known" in refusal(ATTESTATION, "verify", tmp_path / "evidence")


def test_a_tpms_evidence_is_not_appraised_outside_of_its_session(refusal: Refusal, tmp_path: Path) -> None:
    """Without the secret that the TPM opened, nothing says that a TPM has the key which signed."""
    quoted = Quoted(bytes(32), b"attested", b"signature", [(0, bytes(32))])
    (tmp_path / "evidence").write_bytes(msgspec.msgpack.encode(quoted))
    assert "only in its session" in refusal(ATTESTATION, "verify", tmp_path / "evidence")


def test_evidence_is_not_taken_for_that_of_another_tee() -> None:
    """A broker is told the TEE by a host that may lie."""
    said = {"sgx": packed(real_quote("tdx")), "snp": packed(real_quote("tdx")), "tdx": packed(real_snp()), "sev": b""}
    for tee, evidence in said.items():
        with pytest.raises(EvidenceError):
            claims_of(Given(tee, evidence), AT)


def test_too_long_a_file_is_refused(refusal: Refusal, tmp_path: Path) -> None:
    (tmp_path / "evidence").write_bytes(bytes(1 << 19))
    assert "too long" in refusal(OPTION_OR_FILE, "verify", tmp_path / "evidence")


def test_a_pool_is_no_evidence(refusal: Refusal, trained: Job) -> None:
    assert refusal(OPTION_OR_FILE, "verify", trained.pool).startswith(f"{trained.pool}: this is a pool")


@pytest.mark.parametrize("option", [["--at", "2025-07-01"], ["--collateral", "c"], ["--certificates", "v"]])
def test_a_policy_from_no_evidence_takes_nothing_about_it(refusal: Refusal, tmp_path: Path, option: list[str]) -> None:
    line = refusal(OPTION_OR_FILE, "policy", "--tee", "sgx", "--output", tmp_path / "policy.toml", *option)
    assert "--from" in line
    assert not any(tmp_path.iterdir())


def test_a_signing_key_has_no_cipher(refusal: Refusal, tmp_path: Path) -> None:
    line = refusal(OPTION_OR_FILE, "keygen", tmp_path / "owner.key", "--signing", "--cipher", "aes-128-gcm")
    assert line == "--cipher: a signing key has none; leave it out"


def test_a_key_locked_with_a_passphrase_seals_and_opens(
    inside: Command, refusal: Refusal, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pyrage", reason="locked key files need the package pyrage: pip install 'plinius[owner]'")
    key, output = tmp_path / "locked.key", tmp_path / "data"
    monkeypatch.setattr(sys, "stdin", io.StringIO("correct horse\n"))
    made = inside("keygen", key, "--passphrase")
    assert made.code == 0
    assert "locked with a passphrase" in made.out
    sealing = ["seal", "--key", key, "--images", files / "images.idx", "--labels", files / "labels.idx"]
    monkeypatch.setattr(sys, "stdin", io.StringIO("correct horse\n"))
    done = inside(*sealing, "--output", output)
    assert (done.code, made.out.split("key id ")[1][:16] in done.out) == (0, True)
    monkeypatch.setattr(sys, "stdin", io.StringIO("another\n"))
    assert "not its passphrase" in refusal(OPTION_OR_FILE, *sealing, "--output", tmp_path / "other")
    train = ["train", files / "net.cfg", "--data", output, "--key", key, "--pool", tmp_path / "pool", "--steps", 1]
    assert "must be plain" in refusal(OPTION_OR_FILE, *train)


def test_a_key_locked_to_recipients(inside: Command, refusal: Refusal, tmp_path: Path) -> None:
    age = pytest.importorskip("pyrage", reason="locked key files need the package pyrage: pip install 'plinius[owner]'")
    identities = [age.x25519.Identity.generate() for _ in range(2)]
    key = tmp_path / "locked.key"
    options = [text for identity in identities for text in ("--recipient", identity.to_public())]
    made = inside("keygen", key, *options)
    assert all(str(identity.to_public()) in made.out for identity in identities)
    for index, identity in enumerate(identities):
        file = tmp_path / f"identity{index}"
        file.write_text(str(identity))
        file.chmod(0o600)
        assert load_key(str(key), identity=str(file)).id in made.out
    assert "is no age recipient" in refusal(OPTION_OR_FILE, "keygen", tmp_path / "x", "--recipient", "age1")


def test_a_signing_key(inside: Command, refusal: Refusal, tmp_path: Path) -> None:
    path = tmp_path / "signing.key"
    made = inside("keygen", "--signing", path)
    assert Identity.load(str(path)).public.hex() in made.out
    assert "one of" in refusal(OPTION_OR_FILE, "keygen", "--signing", "--passphrase", tmp_path / "x")
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(("pipe", "code"), [("evidence", ATTESTATION), ("policy.toml", OPTION_OR_FILE)])
def test_a_named_pipe_does_not_hang(refusal: Refusal, tmp_path: Path, pipe: str, code: int) -> None:
    """It is as good as empty."""
    (tmp_path / "evidence").write_bytes(simulated.SimulatedAttester().attest(bytes(32), b""))
    (tmp_path / pipe).unlink(missing_ok=True)
    os.mkfifo(tmp_path / pipe)
    arguments = ["verify", tmp_path / "evidence"] + (["--policy", tmp_path / pipe] if "policy" in pipe else [])
    assert pipe in refusal(code, *arguments)
