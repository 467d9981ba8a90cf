"""ETag and If-Match: a block's revision, which increases with every edit; an item's etag."""

from __future__ import annotations

import re
from typing import Annotated, Final

from fastapi import Header

from luma_memory.domain.errors import Invalid

IfMatch = Annotated[
    str | None,
    Header(
        description="The ETag that the block or item must still have; any, if omitted or `*`.",
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
    tag = _one_tag(if_match)
    is_ours = not tag[1] and _REVISION.fullmatch(tag[2])
    return int(tag[2]) if is_ours else _NEVER


def tag_in(if_match: str | None) -> str | None:
    """The tag in If-Match without its quotes, `*` for any that exists, None without the header.

    A weak tag is empty and matches nothing. Raises as `expected_revision`.
    """
    if if_match is None or if_match.strip() == "*":
        return None if if_match is None else "*"
    tag = _one_tag(if_match)
    return "" if tag[1] else tag[2]


def _one_tag(if_match: str) -> re.Match[str]:
    tag = _TAG.fullmatch(if_match.strip())
    if tag is None:
        raise Invalid(
            'Send one ETag in quotes, as in If-Match: "3"',
            code="if_match_invalid",
            field="If-Match",
        )
    return tag
