"""Composition root: the only package that knows which adapter implements which port."""
