"""pgvector's types on the wire: raw bytes in their binary form.

Source: pgvector, src/halfvec.c and src/sparsevec.c (send and recv functions).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

import asyncpg
import numpy as np

from luma_memory.domain.enrichment import Vector

_HALFVEC_HEADER = struct.Struct("!hh")
_TYPES = ("halfvec", "sparsevec")
_SCHEMA = """
SELECT n.nspname AS name, quote_ident(n.nspname) AS quoted, quote_ident(current_user) AS role,
       has_schema_privilege(n.oid, 'USAGE') AS is_usable,
       n.nspname = ANY (current_schemas(true)) AS is_on_path,
       current_schema() IS NOT NULL AS has_tables_schema,
       concat_ws(', ', nullif(current_setting('search_path'), ''), quote_ident(n.nspname))
           AS search_path
FROM pg_extension AS e JOIN pg_namespace AS n ON n.oid = e.extnamespace
WHERE e.extname = 'vector'
"""


def encode_halfvec(vector: Vector) -> bytes:
    """int16 dimension, int16 unused, then the values as big-endian float16."""
    values = np.frombuffer(vector, dtype=np.float32).astype(">f2")
    return _HALFVEC_HEADER.pack(len(values), 0) + values.tobytes()


@dataclass(frozen=True, slots=True)
class VectorSchema:
    """The location of pgvector, as seen from a session. Names are quoted as SQL needs them."""

    name: str
    quoted: str
    role: str  # quoted; of the session
    is_usable: bool  # the role may use the schema
    is_on_path: bool
    has_tables_schema: bool  # there is another schema for the tables
    search_path: str  # of the session, with the schema appended


async def vector_schema(connection: asyncpg.Connection) -> VectorSchema | None:
    """None without pgvector, as before the first migration. Raises asyncpg errors."""
    row = await connection.fetchrow(_SCHEMA)
    return None if row is None else VectorSchema(**dict(row))


async def register_vector_types(connection: asyncpg.Connection) -> Sequence[str]:
    """Register both types on a connection; returns their SQL names, none without pgvector.

    Raises asyncpg errors.
    """
    schema = await vector_schema(connection)
    if schema is None:
        return []
    # Encoded by the caller: inside an array parameter, the driver would treat a vector as a
    # dimension.
    for name in _TYPES:
        await connection.set_type_codec(
            name, schema=schema.name, encoder=bytes, decoder=bytes, format="binary"
        )
    return [f"{schema.quoted}.{name}" for name in _TYPES]
