"""Adapters for agent frameworks over the SDK, one module per framework.

Each needs its framework, an optional dependency: `pip install 'luma-memory[langgraph]'` for
`luma_memory.integrations.langgraph`. Importing a module without it raises an ImportError that names
the extra.
"""
