"""The error of a module whose framework is not installed."""

from __future__ import annotations


def extra_missing(error: ModuleNotFoundError, extra: str) -> ImportError:
    """One sentence that names the extra. Raises `error` itself for a module of this package."""
    module = (error.name or "").partition(".")[0]
    if module in {"", "luma_memory"}:
        raise error
    return ImportError(
        f"This needs {module}, which is not installed: pip install 'luma-memory[{extra}]'",
        name=error.name,
    )
