"""The schema: an ordered history (applied once each) and definitions (applied every time)."""
