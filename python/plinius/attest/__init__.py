"""Attesters and verifiers: how an enclave says what it is, and how that is appraised (RFC 9334)."""
