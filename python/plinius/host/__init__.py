"""The host: untrusted. It starts the enclave and the owner, owns files and terminal, and never sees a key."""
