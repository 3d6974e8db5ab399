"""The host: untrusted. It starts the enclave and the owner, owns files, pool and terminal, and never sees a key."""
