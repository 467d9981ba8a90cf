"""Short context texts, with their cache."""
