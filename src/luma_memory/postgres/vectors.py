"""pgvector's types on the wire: raw bytes in their binary form.

Source: pgvector, src/halfvec.c and src/sparsevec.c (send and recv functions).
"""

from __future__ import annotations

import struct

import asyncpg
import numpy as np

from luma_memory.domain.enrichment import Vector

_HALFVEC_HEADER = struct.Struct("!hh")


def encode_halfvec(vector: Vector) -> bytes:
    """int16 dimension, int16 unused, then the values as big-endian float16."""
    values = np.frombuffer(vector, dtype=np.float32).astype(">f2")
    return _HALFVEC_HEADER.pack(len(values), 0) + values.tobytes()


async def register_vector_types(connection: asyncpg.Connection) -> None:
    """Teach a connection the two types. Raises asyncpg errors when pgvector is not installed."""
    schema = await connection.fetchval(
        "SELECT n.nspname FROM pg_type AS t JOIN pg_namespace AS n ON n.oid = t.typnamespace"
        " WHERE t.typname = 'sparsevec' ORDER BY n.nspname LIMIT 1"
    )
    if schema is None:  # before the first migration
        return
    # Encoded by the caller: inside an array parameter, the driver takes a vector for a dimension.
    for name in ("halfvec", "sparsevec"):
        await connection.set_type_codec(
            name, schema=schema, encoder=bytes, decoder=bytes, format="binary"
        )
