"""Luma Memory: a memory service for AI applications."""

__version__ = "0.1.0"
