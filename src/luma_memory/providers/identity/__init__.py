"""Who end users are, told by somebody else: one file an issuer."""
