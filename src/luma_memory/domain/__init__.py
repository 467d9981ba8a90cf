"""The values that all packages share: blocks, jobs, relations, scopes and errors.

Uses the standard library only; every other package may import from here.
"""
