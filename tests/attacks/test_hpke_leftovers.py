"""What opening a released key leaves in memory: not the key, nor what opens the host's copy of the message."""

from __future__ import annotations

import hashlib
import hmac
import os
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from plinius.attest import release
from plinius.attest.release import seal_key
from plinius.seal import Key, key_custody
from scanning import in_memory, of_key

BOUND = bytes(range(32))
KEM, HPKE = b"KEM\x00\x20", b"HPKE\x00\x20\x00\x01\x00\x02"

OPENING = """
import sys, time
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from plinius.attest.release import RecipientKey
def open_it():
    masked = bytes.fromhex(sys.stdin.readline())
    recipient = RecipientKey("x25519")
    recipient._x25519 = X25519PrivateKey.from_private_bytes(bytes(byte ^ 0x5A for byte in masked))
    return recipient.open(bytes.fromhex(sys.stdin.readline()), bytes(range(32)))
grant = open_it()
print(grant.key.id, flush=True)
time.sleep(600)
"""


def extract(suite: bytes, salt: bytes, label: bytes, ikm: bytes) -> bytes:
    """LabeledExtract (RFC 9180, section 4)."""
    return hmac.digest(salt or bytes(32), b"HPKE-v1" + suite + label + ikm, hashlib.sha256)


def expand(suite: bytes, prk: bytes, label: bytes, info: bytes, length: int) -> bytes:
    """LabeledExpand (RFC 9180, section 4), of at most one block."""
    info = length.to_bytes(2, "big") + b"HPKE-v1" + suite + label + info
    return hmac.digest(prk, info + b"\x01", hashlib.sha256)[:length]


def schedule(private: bytes, sealed: bytes) -> dict[str, bytes]:
    """What a recipient derives (RFC 9180, sections 4.1 and 5.1)."""
    private_key, sent = X25519PrivateKey.from_private_bytes(private), sealed[:32]
    exchanged = private_key.exchange(X25519PublicKey.from_public_bytes(sent))
    context = sent + private_key.public_key().public_bytes_raw()
    shared = expand(KEM, extract(KEM, b"", b"eae_prk", exchanged), b"shared_secret", context, 32)
    info = extract(HPKE, b"", b"info_hash", release._PURPOSE + BOUND)
    context = b"\0" + extract(HPKE, b"", b"psk_id_hash", b"") + info
    secret = extract(HPKE, shared, b"secret", b"")
    key, nonce = (expand(HPKE, secret, name, context, size) for name, size in ((b"key", 32), (b"base_nonce", 12)))
    assert b"plinius-key-1" in AESGCM(key).decrypt(nonce, sealed[32:], b"")  # so the derivation is right
    return {"the exchange": exchanged, "the shared secret": shared, "the secret": secret, "the HPKE key": key}


def test_opening_a_released_key_leaves_nothing_that_opens_it(files: Path) -> None:
    """At once: later on other objects lie over what was freed."""
    if os.geteuid() != 0:
        pytest.skip("only root can look into the memory of a process, as it should be")
    path, private = files / "job.key", os.urandom(32)
    public_key = X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()
    sealed = seal_key(Key.load(path), "x25519", public_key, BOUND)
    masked = bytes(byte ^ 0x5A for byte in private)  # so that the needle does not come in with it
    derived = {name: [value[8:24]] for name, value in schedule(private, sealed).items()}
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-I", "-c", OPENING], stdin=pipe, stdout=pipe, text=True) as opener:
        try:
            assert opener.stdin
            assert opener.stdout
            opener.stdin.write(f"{masked.hex()}\n{sealed.hex()}\n")
            opener.stdin.flush()
            assert opener.stdout.readline().strip() == Key.load(path).id
            left = in_memory({**of_key(path.read_text()), **derived}, opener.pid, "r...")
        finally:
            opener.kill()
    assert left == (set() if key_custody() == "memfd_secret" else {"the key"})
