"""Composition root: the only rooms that know which adapter stands behind which port."""
