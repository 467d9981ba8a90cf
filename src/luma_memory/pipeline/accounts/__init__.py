"""API keys, users, usage and budgets."""
