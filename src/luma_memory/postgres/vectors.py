"""pgvector's types on the wire: raw bytes in their binary form.

Source: pgvector, src/halfvec.c and src/sparsevec.c (send and recv functions).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import asyncpg
import numpy as np

from luma_memory.domain.enrichment import Vector

_HALFVEC_HEADER = struct.Struct("!hh")
_TYPES = ("halfvec", "sparsevec")


def encode_halfvec(vector: Vector) -> bytes:
    """int16 dimension, int16 unused, then the values as big-endian float16."""
    values = np.frombuffer(vector, dtype=np.float32).astype(">f2")
    return _HALFVEC_HEADER.pack(len(values), 0) + values.tobytes()


async def register_vector_types(connection: asyncpg.Connection) -> Sequence[str]:
    """Teach a connection the two types; their names for a statement, none without pgvector.

    Raises asyncpg errors. pgvector is missing before the first migration.
    """
    schema = await connection.fetchrow(
        "SELECT n.nspname AS name, quote_ident(n.nspname) AS quoted"
        " FROM pg_type AS t JOIN pg_namespace AS n ON n.oid = t.typnamespace"
        " WHERE t.typname = 'sparsevec' ORDER BY n.nspname LIMIT 1"
    )
    if schema is None:
        return []
    # Encoded by the caller: inside an array parameter, the driver takes a vector for a dimension.
    for name in _TYPES:
        await connection.set_type_codec(
            name, schema=schema["name"], encoder=bytes, decoder=bytes, format="binary"
        )
    return [f"{schema['quoted']}.{name}" for name in _TYPES]
