"""The owner's side: the only code that opens a key file."""
