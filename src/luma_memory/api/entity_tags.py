"""ETag and If-Match: a block's revision, which increases with every edit."""

from __future__ import annotations

import re
from typing import Annotated, Final

from fastapi import Header

from luma_memory.domain.errors import Invalid

IfMatch = Annotated[
    str | None,
    Header(
        description="The ETag that the block must still have; any, if omitted or `*`.",
        json_schema_extra={"maxLength": 64, "pattern": r'^(\*|(W/)?"[\x21\x23-\x7e]*")$'},
        examples=['"3"'],
    ),
]
_TAG: Final = re.compile(r'(W/)?"([\x21\x23-\x7e]*)"')
_REVISION: Final = re.compile(r"[1-9][0-9]{0,8}")
_NEVER: Final = 0  # revisions begin with 1


def entity_tag(revision: int) -> str:
    return f'"{revision}"'


def expected_revision(if_match: str | None) -> int | None:
    """The revision in If-Match, None for any, 0 for one that no block has.

    A weak tag matches nothing (RFC 9110, section 13.1.1). Raises Invalid for anything but one tag.
    """
    if if_match is None or if_match.strip() == "*":
        return None
    tag = _TAG.fullmatch(if_match.strip())
    if tag is None:
        raise Invalid(
            'Send one ETag in quotes, as in If-Match: "3"',
            code="if_match_invalid",
            field="If-Match",
        )
    is_ours = not tag[1] and _REVISION.fullmatch(tag[2])
    return int(tag[2]) if is_ours else _NEVER
