"""Enrich and embed blocks, session windows, backfill and re-embedding."""
