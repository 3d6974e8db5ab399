"""HPKE as `cryptography` implements it, which seals job keys: published vectors, and another implementation.

Its interface takes a whole message at once, in base mode: of each published case the first message can be opened. The
others, and the modes with a pre-shared or an authenticated sender's key, cannot be fed to it.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.bindings._rust import openssl
from cryptography.hazmat.primitives.asymmetric import ec, mlkem
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, MLKEM768X25519PrivateKey, Suite
from plinius import Key
from plinius.attest import release

# The vectors have an aad, which the public interface does not take.
_open = openssl.hpke._decrypt_with_aad


def hybrid(seed: bytes) -> MLKEM768X25519PrivateKey:
    """X-Wing (draft-connolly-cfrg-xwing-kem, 5.2): a seed of 32 bytes gives both keys."""
    expanded = hashlib.shake_256(seed).digest(96)
    post_quantum = mlkem.MLKEM768PrivateKey.from_seed_bytes(expanded[:64])
    return MLKEM768X25519PrivateKey(post_quantum, X25519PrivateKey.from_private_bytes(expanded[64:]))


def on_curve(curve: ec.EllipticCurve) -> Any:
    return lambda secret: ec.derive_private_key(int.from_bytes(secret, "big"), curve)


KEMS: dict[int, tuple[KEM, Any]] = {
    0x0010: (KEM.P256, on_curve(ec.SECP256R1())),
    0x0011: (KEM.P384, on_curve(ec.SECP384R1())),
    0x0012: (KEM.P521, on_curve(ec.SECP521R1())),
    0x0020: (KEM.X25519, X25519PrivateKey.from_private_bytes),
    0x0041: (KEM.MLKEM768, mlkem.MLKEM768PrivateKey.from_seed_bytes),
    0x0042: (KEM.MLKEM1024, mlkem.MLKEM1024PrivateKey.from_seed_bytes),
    0x647A: (KEM.MLKEM768_X25519, hybrid),
}
KDFS = {
    0x0001: KDF.HKDF_SHA256,
    0x0002: KDF.HKDF_SHA384,
    0x0003: KDF.HKDF_SHA512,
    0x0010: KDF.SHAKE128,
    0x0011: KDF.SHAKE256,
}
AEADS = {0x0001: AEAD.AES_128_GCM, 0x0002: AEAD.AES_256_GCM, 0x0003: AEAD.CHACHA20_POLY1305}
OURS = {(0x0020, 0x0001, 0x0002), (0x647A, 0x0001, 0x0002)}
APPLICABLE = {"RFC 9180": 18, "post-quantum": 6}
FILES = {"RFC 9180": "test-vectors.json", "post-quantum": "hpke-pq-test-vectors.json"}


def cases(name: str) -> list[dict[str, Any]]:
    package = pytest.importorskip("cryptography_vectors", reason="pip install cryptography-vectors")
    with package.open_vector_file(f"HPKE/{FILES[name]}", "r") as file:
        found: list[dict[str, Any]] = json.load(file)
    return found


def ids(case: dict[str, Any]) -> tuple[int, int, int]:
    return case["kem_id"], case["kdf_id"], case["aead_id"]


def applies(case: dict[str, Any]) -> bool:
    kem, kdf, aead = ids(case)
    return case["mode"] == 0 and kem in KEMS and kdf in KDFS and aead in AEADS


@pytest.mark.parametrize("name", FILES)
def test_published_messages_open(name: str, counted: list[str]) -> None:
    found = cases(name)
    applicable = [case for case in found if applies(case)]
    opened = 0
    for case in applicable:
        kem, private = KEMS[case["kem_id"]]
        suite = Suite(kem, KDFS[case["kdf_id"]], AEADS[case["aead_id"]])
        key, info, first = private(bytes.fromhex(case["skRm"])), bytes.fromhex(case["info"]), case["encryptions"][0]
        sealed, aad = bytes.fromhex(case["enc"] + first["ct"]), bytes.fromhex(first["aad"])
        assert _open(suite, sealed, key, info, aad) == bytes.fromhex(first["pt"]), ids(case)
        for wrong in (
            (sealed[:-1] + bytes([sealed[-1] ^ 1]), info, aad),
            (sealed, info + b"x", aad),
            (sealed, info, b"x"),
        ):
            with pytest.raises(InvalidTag):
                _open(suite, wrong[0], key, *wrong[1:])
        opened += 1
    assert opened == len(applicable) == APPLICABLE[name]
    messages = sum(len(case["encryptions"]) for case in found)
    ours = sum(ids(case) in OURS for case in applicable)
    counted.append(
        f"HPKE {name}: {opened} suites' first messages opened ({ours} of ours) of {messages} messages in all"
    )


def test_the_suite_that_releases_keys_is_among_them() -> None:
    assert any(applies(case) and ids(case) in OURS for case in cases("RFC 9180"))


def test_it_opens_what_pyhpke_seals_and_the_other_way_round() -> None:
    pyhpke = pytest.importorskip("pyhpke", reason="pip install pyhpke")
    suite = pyhpke.CipherSuite.new(
        pyhpke.KEMId.DHKEM_X25519_HKDF_SHA256, pyhpke.KDFId.HKDF_SHA256, pyhpke.AEADId.AES256_GCM
    )
    private, bound = X25519PrivateKey.generate(), b"b" * 32
    info = release._PURPOSE + bound
    for length in (0, 1, 1000):
        message = bytes(length)
        sent, sender = suite.create_sender_context(
            pyhpke.KEMKey.from_pyca_cryptography_key(private.public_key()), info=info
        )
        assert release._SUITES["x25519"].decrypt(sent + sender.seal(message), private, info=info) == message
        sealed = release._SUITES["x25519"].encrypt(
            message, X25519PublicKey.from_public_bytes(private.public_key().public_bytes_raw()), info=info
        )
        theirs = suite.create_recipient_context(
            sealed[:32], pyhpke.KEMKey.from_pyca_cryptography_key(private), info=info
        )
        assert theirs.open(sealed[32:]) == message


def test_a_released_key_opens_with_pyhpke() -> None:
    pyhpke = pytest.importorskip("pyhpke", reason="pip install pyhpke")
    suite = pyhpke.CipherSuite.new(
        pyhpke.KEMId.DHKEM_X25519_HKDF_SHA256, pyhpke.KDFId.HKDF_SHA256, pyhpke.AEADId.AES256_GCM
    )
    private, bound, key = X25519PrivateKey.generate(), b"b" * 32, Key.generate()
    sealed = release.seal_key(key, "x25519", private.public_key().public_bytes_raw(), bound, ("loss",))
    recipient = pyhpke.KEMKey.from_pyca_cryptography_key(private)
    theirs = suite.create_recipient_context(sealed[:32], recipient, info=release._PURPOSE + bound)
    assert release.opened_content(bytearray(theirs.open(sealed[32:]))).key.id == key.id
