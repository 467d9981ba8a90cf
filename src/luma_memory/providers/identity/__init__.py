"""Identities of end users from other issuers, one file per issuer."""
