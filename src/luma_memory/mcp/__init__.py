"""The Model Context Protocol: memory as tools, resources and a prompt for agent hosts.

One server, described by `server.build_server`, over two transports: streamable HTTP inside the API
process (`http`), over the pipeline's own objects, and standard input and output (`stdio`), over the
SDK. The tools see neither: they work on the capability `memory.Memory`.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Final

# Of streamable HTTP, at the API's address.
MCP_PATH: Final = "/mcp"
# Where hosts look for the resource's metadata (RFC 9728), at the root and for this path.
METADATA_PATHS: Final = (
    "/.well-known/oauth-protected-resource",
    f"/.well-known/oauth-protected-resource{MCP_PATH}",
)


def is_installed() -> bool:
    """Whether the protocol's SDK is installed: the extra `luma-memory[mcp]`."""
    return find_spec("mcp_types") is not None
