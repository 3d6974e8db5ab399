"""`plinius bench`: what the paper's figures show, measured on this machine."""
