"""Attestation with a TPM: what honest evidence says, and that it follows what the machine booted."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from plinius.attest import tpm2_verify
from plinius.attest.claims import Claims
from plinius.attest.tpm2_messages import Credential
from plinius.attest.tpm_wire import SRK_TEMPLATE
from plinius.errors import ConfigError, EvidenceError
from tpms import SoftwareTpm

NOW = datetime(2026, 6, 1, tzinfo=UTC)
REPORT_DATA = hashlib.sha256(b"this session").digest()


@pytest.fixture
def tpm(software_tpm: SoftwareTpm) -> Iterator[Any]:
    with connected(software_tpm) as opened:
        yield opened


def connected(software: SoftwareTpm) -> Any:
    from plinius.attest.tpm import Tpm  # noqa: PLC0415 (a package that may be missing)

    return Tpm(software.connect())


def attester(tpm: Any, **options: Any) -> Any:
    from plinius.attest.tpm2 import Tpm2Attester  # noqa: PLC0415

    return Tpm2Attester(tpm, **options)


def attested(tpm: Any, roots: tuple[x509.Certificate, ...] = (), at: datetime = NOW, **options: Any) -> Claims:
    """One whole session of attester and verifier."""
    secret, ours = os.urandom(32), attester(tpm, **options)
    introduction = ours.introduce()
    evidence = ours.attest(REPORT_DATA, tpm2_verify.challenge(introduction, secret))
    return tpm2_verify.verify(evidence, at, introduction=introduction, secret=secret, roots=roots)


def extend(tpm: Any, pcr: int) -> bytes:
    """Measures something into a PCR, as booting does; returns its digest."""
    from tpm2_pytss.constants import ESYS_TR, TPM2_ALG  # noqa: PLC0415
    from tpm2_pytss.types import TPML_DIGEST_VALUES, TPMT_HA, TPMU_HA  # noqa: PLC0415

    digest = os.urandom(32)
    value = TPMT_HA(hashAlg=TPM2_ALG.SHA256, digest=TPMU_HA(sha256=digest))
    tpm.esys.pcr_extend(getattr(ESYS_TR, f"PCR{pcr}"), TPML_DIGEST_VALUES([value]))
    return digest


def test_what_honest_evidence_says(tpm: Any) -> None:
    from tpm2_pytss.types import TPMT_PUBLIC  # noqa: PLC0415

    claims = attested(tpm)
    assert (claims.tee, claims.report_data, claims.debug, claims.trusts_os) == ("tpm2", REPORT_DATA, False, True)
    assert set(claims.measurements) == {f"pcr{index}" for index in range(16)} | {"ek"}
    assert set(claims.measurements) < set(tpm2_verify.MEASUREMENTS)
    assert set(claims.numbers) == tpm2_verify.NUMBERS
    assert claims.numbers["reset_count"] == 1  # not obfuscated: the key is in the endorsement hierarchy
    handle, public = tpm.load_ek()
    tpm.flush(handle)
    pem = TPMT_PUBLIC.unmarshal(public)[0].to_pem()
    der = serialization.load_pem_public_key(pem).public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    assert claims.measurements["ek"] == hashlib.sha256(der).digest()


def test_the_same_tpm_is_known_again_and_another_is_told_apart(tpm: Any, other_software_tpm: SoftwareTpm) -> None:
    assert attested(tpm).measurements == attested(tpm).measurements
    with connected(other_software_tpm) as other:
        assert attested(other).measurements["ek"] != attested(tpm).measurements["ek"]


def test_a_tcti_string_names_a_tpm_too(new_tpm: Callable[[], SoftwareTpm]) -> None:
    from plinius.attest.tpm import Tpm  # noqa: PLC0415

    with Tpm(f"swtpm:path={new_tpm().alone}") as opened:
        assert attested(opened).tee == "tpm2"


def test_chosen_pcrs(tpm: Any) -> None:
    assert set(attested(tpm, pcrs=[23, 7, 7]).measurements) == {"pcr7", "pcr23", "ek"}


def test_a_machine_that_booted_something_else_says_so(new_tpm: Callable[[], SoftwareTpm]) -> None:
    with connected(new_tpm()) as opened:
        before = attested(opened).measurements
        digest = extend(opened, 4)
        after = attested(opened).measurements
    assert after == before | {"pcr4": hashlib.sha256(before["pcr4"] + digest).digest()}


def test_a_pcr_that_changes_while_it_is_quoted(
    new_tpm: Callable[[], SoftwareTpm], monkeypatch: pytest.MonkeyPatch
) -> None:
    with connected(new_tpm()) as opened:
        read, changes = opened.read_pcrs, [1]

        def read_then_changed(pcrs: Any) -> Any:
            values = read(pcrs)
            if changes and changes[-1]:
                changes[-1] -= 1
                extend(opened, 9)
            return values

        monkeypatch.setattr(opened, "read_pcrs", read_then_changed)
        assert attested(opened).measurements["pcr9"] == read([9])[9]
        changes.append(100)
        with pytest.raises(EvidenceError, match="changed during each of 3 quotes"):
            attested(opened)


def test_nothing_stays_in_the_tpm(tpm: Any) -> None:
    """It has room for three keys and three sessions: what stayed would soon fail."""
    useless = msgspec.msgpack.encode(Credential(bytes(68), bytes(256)))
    for _ in range(4):
        attested(tpm)
        with pytest.raises(EvidenceError):
            attester(tpm).attest(REPORT_DATA, useless)


def test_no_tpm_is_one_clear_error(new_tpm: Callable[[], SoftwareTpm]) -> None:
    from plinius.attest.tpm import Tpm  # noqa: PLC0415

    with pytest.raises(ConfigError, match="no TPM answers, to begin with: is it there") as raised:
        Tpm("device:/dev/no-such-tpm")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("module", ["tpm", "tpm2", "tpm_anchor", "tpm_sealing"])
def test_without_the_package_it_says_what_to_install(module: str) -> None:
    program = f"import sys; sys.modules['tpm2_pytss'] = None; import plinius.attest.{module}"
    done = subprocess.run([sys.executable, "-c", program], stderr=subprocess.PIPE, text=True, check=False)
    assert "ConfigError: a TPM needs the package tpm2-pytss (pip install 'plinius[tpm]'" in done.stderr.splitlines()[-1]


def test_the_owner_needs_no_package() -> None:
    program = "import sys; sys.modules['tpm2_pytss'] = None; import plinius.attest.tpm2_verify"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_tpm_that_dies_is_one_clear_error(new_tpm: Callable[[], SoftwareTpm], capfd: Any) -> None:
    software = new_tpm()
    with connected(software) as opened:
        ours = attester(opened)
        introduction = ours.introduce()
        software.kill()
        for use in (ours.introduce, lambda: ours.attest(REPORT_DATA, tpm2_verify.challenge(introduction, bytes(32)))):
            with pytest.raises(EvidenceError, match=r"no TPM answers, to .*: is it there, and may this user open it\?"):
                use()
    assert capfd.readouterr() == ("", "")


def test_an_endorsement_key_that_is_kept_in_the_tpm(new_tpm: Callable[[], SoftwareTpm]) -> None:
    """Where TCG says it is kept, it is used, unless it is another kind of key."""
    from tpm2_pytss.constants import ESYS_TR  # noqa: PLC0415

    with connected(new_tpm()) as opened:
        honest = attested(opened).measurements["ek"]
        storage_root, _ = opened.create(ESYS_TR.OWNER, SRK_TEMPLATE)
        kept = opened.esys.evict_control(ESYS_TR.OWNER, storage_root, 0x81010001)
        opened.flush(storage_root)
        assert attested(opened).measurements["ek"] == honest
        opened.esys.evict_control(ESYS_TR.OWNER, kept, 0x81010001)
        ek, _ = opened.load_ek()
        opened.esys.evict_control(ESYS_TR.OWNER, ek, 0x81010001)
        opened.flush(ek)
        for _ in range(4):
            assert attested(opened).measurements["ek"] == honest
        handle, _ = opened.load_ek()
        assert opened.esys.tr_get_tpm_handle(handle) == 0x81010001


CONFINED = """
import os, resource, socket, sys
from datetime import datetime, timezone
from pathlib import Path
from plinius.attest import tpm_anchor, tpm_sealing
from plinius.attest.tpm import Tpm
from plinius.attest.tpm2 import Tpm2Attester
from plinius.mirror.manifest import AnchoredHead

path, folder = sys.argv[1:]
connection = socket.socket(socket.AF_UNIX)
connection.connect(path)
tpm = Tpm(connection.fileno())
attester = Tpm2Attester(tpm)
anchor = tpm_anchor.TpmAnchor(tpm, tpm_anchor.Place(0x01800001, Path(folder)), bytes(32), least_gap_s=0)

free = os.dup(0)
os.close(free)
resource.setrlimit(resource.RLIMIT_NOFILE, (free, free))  # from here on, nothing more can be opened
try:
    os.dup(0)
    sys.exit("one more can be opened")
except OSError:
    pass

introduction = attester.introduce()
print(introduction.hex(), flush=True)
print(attester.attest(bytes(32), bytes.fromhex(sys.stdin.readline())).hex(), flush=True)
tpm_anchor.create(tpm, 0x01800001, bytes(32))
anchor.advance(None, AnchoredHead(1, bytes(range(32)), 0))
assert anchor.head() == AnchoredHead(1, bytes(range(32)), 0)
assert tpm_sealing.unseal(tpm, tpm_sealing.seal(tpm, b"key", [0])) == b"key"
print("done", flush=True)
"""


def test_all_is_opened_before_a_sandbox_forbids_it(new_tpm: Callable[[], SoftwareTpm], tmp_path: Path) -> None:
    command = [sys.executable, "-c", CONFINED, str(new_tpm().path), str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin
        assert process.stdout
        introduction, secret = bytes.fromhex(process.stdout.readline()), os.urandom(32)
        process.stdin.write(tpm2_verify.challenge(introduction, secret).hex() + "\n")
        process.stdin.flush()
        evidence = bytes.fromhex(process.stdout.readline())
        assert process.stdout.readline() == "done\n"
    assert tpm2_verify.verify(evidence, NOW, introduction=introduction, secret=secret).report_data == bytes(32)


# --- The endorsement key's certificate ---------------------------------------------------------------------------


def certificate(
    public: Any, name: str, signer: Any, issuer: str | None = None, until: datetime = NOW + timedelta(days=1)
) -> x509.Certificate:
    subject, by = (x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, it)]) for it in (name, issuer or name))
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(by).public_key(public)
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(NOW - timedelta(days=1)).not_valid_after(until)
    if issuer is None:
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    else:  # as real ones: TCG's name of what they are for, which no web's verifier knows
        builder = builder.add_extension(x509.ExtendedKeyUsage([x509.ObjectIdentifier("2.23.133.8.1")]), critical=True)
    return builder.sign(signer, hashes.SHA256())


def keep_certificate(tpm: Any, content: bytes) -> None:
    """Writes it where a TPM's vendor does."""
    from tpm2_pytss.constants import TPM2_ALG, TPMA_NV  # noqa: PLC0415
    from tpm2_pytss.types import TPM2B_NV_PUBLIC, TPMS_NV_PUBLIC  # noqa: PLC0415

    attributes = TPMA_NV.AUTHREAD | TPMA_NV.AUTHWRITE | TPMA_NV.OWNERREAD
    area = TPMS_NV_PUBLIC(nvIndex=0x01C00002, nameAlg=TPM2_ALG.SHA256, attributes=attributes, dataSize=len(content))
    index = tpm.esys.nv_define_space(b"", TPM2B_NV_PUBLIC(area))
    for at in range(0, len(content), 512):
        tpm.esys.nv_write(index, content[at : at + 512], at)


@pytest.fixture(scope="module")
def vendor() -> tuple[Any, x509.Certificate]:
    key = ec.generate_private_key(ec.SECP256R1())
    return key, certificate(key.public_key(), "A vendor's CA", key)


def ek_of(tpm: Any) -> rsa.RSAPublicKey:
    handle, public = tpm.load_ek()
    tpm.flush(handle)
    return rsa.RSAPublicNumbers(65537, int.from_bytes(public[-256:], "big")).public_key()


def test_a_vendors_certificate_is_checked(new_tpm: Callable[[], SoftwareTpm], vendor: Any) -> None:
    key, root = vendor
    stranger_key = ec.generate_private_key(ec.SECP256R1())
    stranger = certificate(stranger_key.public_key(), "A stranger's CA", stranger_key)
    namesake = certificate(stranger_key.public_key(), "A vendor's CA", stranger_key)
    with connected(new_tpm()) as opened:
        issued = certificate(ek_of(opened), "A TPM", key, "A vendor's CA")
        keep_certificate(opened, issued.public_bytes(serialization.Encoding.DER))
        claims = attested(opened, (stranger, root))
        assert claims.measurements["ek_root"] == root.fingerprint(hashes.SHA256())
        assert "ek_root" not in attested(opened).measurements
        for wrong in (stranger, namesake):
            with pytest.raises(EvidenceError, match="no given root vouches"):
                attested(opened, (wrong,))
        attested(opened, (root,), NOW + timedelta(days=1))
        with pytest.raises(EvidenceError, match="no given root vouches"):
            attested(opened, (root,), NOW + timedelta(days=1, seconds=1))


def test_a_certificate_of_another_key(new_tpm: Callable[[], SoftwareTpm], vendor: Any) -> None:
    key, root = vendor
    for other in (rsa.generate_private_key(65537, 2048).public_key(), key.public_key()):
        with connected(new_tpm()) as opened:
            issued = certificate(other, "A TPM", key, "A vendor's CA")
            keep_certificate(opened, issued.public_bytes(serialization.Encoding.DER))
            with pytest.raises(EvidenceError, match=r"is of another (kind of )?key"):
                attested(opened, (root,))


def test_no_certificate_where_a_root_is_asked_for(tpm: Any, vendor: Any) -> None:
    with pytest.raises(EvidenceError, match="the TPM has none"):
        attested(tpm, (vendor[1],))
