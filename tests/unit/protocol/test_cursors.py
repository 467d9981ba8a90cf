"""Page cursors: opaque, and only ours."""

from __future__ import annotations

from uuid import UUID, uuid4

import pytest

from luma_memory.domain.errors import Invalid
from luma_memory.domain.job import JOB_ID_MAX
from luma_memory.protocol.cursors import (
    decode_cursor,
    decode_job_cursor,
    encode_cursor,
    encode_job_cursor,
)


@pytest.mark.parametrize("job_id", [1, 255, 256, 10**12, JOB_ID_MAX])
def test_a_job_cursor_comes_back(job_id: int) -> None:
    assert decode_job_cursor(encode_job_cursor(job_id)) == job_id


@pytest.mark.parametrize("block_id", [uuid4(), UUID(int=0), UUID(int=2**128 - 1)])
def test_a_block_cursor_comes_back(block_id: UUID) -> None:
    assert decode_cursor(encode_cursor(block_id)) == block_id


@pytest.mark.parametrize(
    "cursor", ["", "x", "7", "\N{GRINNING FACE}", encode_cursor(uuid4()), "_" * 10 + "8"]
)
def test_what_is_no_job_cursor_is_refused(cursor: str) -> None:
    with pytest.raises(Invalid) as refused:
        decode_job_cursor(cursor)
    assert (refused.value.code, refused.value.field) == ("bad_cursor", "cursor")


def test_a_job_cursor_is_no_block_cursor() -> None:
    with pytest.raises(Invalid):
        decode_cursor(encode_job_cursor(7))
