"""The enclave: the trusted process that sees keys, weights and plaintext batches."""
