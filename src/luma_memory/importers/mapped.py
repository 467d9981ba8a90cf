"""Any JSON, JSON lines or CSV, read with a file that maps its fields to those of a block.

The mapping (TOML) names fields by their path, or builds a text from several:

    records = "data.notes"           # JSON: where the list is; left out: the document itself
    content = "{title}: {body}"      # or one path: "body.text"
    external_id = "id"
    occurred_at = "created"
    date_format = "%d.%m.%Y %H:%M"   # of occurred_at; left out: ISO 8601 or a number
    speaker = "author.name"
    session_id = "thread"
    user = "owner"
    metadata = ["tags", "lang"]
"""

from __future__ import annotations

import csv
import json
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import ijson

from luma_memory.domain.errors import Invalid
from luma_memory.importers.documents import Bundle, Document, bounded_lines
from luma_memory.importers.json_streams import json_items, problem
from luma_memory.importers.records import ImportedBlock, ImportOptions, Item, SkippedItem
from luma_memory.importers.texts import ContentIds, instant, name, parts

SOURCE: Final = "mapped"
_TEXT_KEYS: Final = (
    *("records", "content", "external_id", "occurred_at", "date_format", "speaker"),
    *("session_id", "agent_id", "user", "source", "delimiter"),
)
_PLACEHOLDER: Final = re.compile(r"\{([^{}]+)\}")
_CELL_CHARACTERS_MAX: Final = 10_000_000


def load_mapping(path: Path) -> Mapping[str, Any]:
    """A mapping file, checked. Raises Invalid with what is wrong."""
    try:
        mapping = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise _invalid(f"{path} can't be read as TOML: {error}") from error
    return check_mapping(mapping)


def parse_mapping(text: str) -> Mapping[str, Any]:
    """A mapping written as a JSON object, checked. Raises Invalid."""
    try:
        mapping = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _invalid(f"the mapping is no JSON: {problem(error)}") from error
    if not isinstance(mapping, Mapping):
        raise _invalid("the mapping must be a JSON object")
    return check_mapping(mapping)


def check_mapping(mapping: Mapping[str, Any]) -> Mapping[str, Any]:
    """The mapping itself. Raises Invalid for unknown keys and wrong types."""
    for key, value in mapping.items():
        if key == "metadata":
            if not isinstance(value, list) or not all(isinstance(entry, str) for entry in value):
                raise _invalid("metadata must be a list of paths")
        elif key not in _TEXT_KEYS:
            raise _invalid(f"{key} is not one of {', '.join((*_TEXT_KEYS, 'metadata'))}")
        elif not isinstance(value, str):
            raise _invalid(f"{key} must be a text")
    if len(mapping.get("delimiter", ",")) != 1 or mapping.get("delimiter", ",") in '"\r\n':
        raise _invalid("delimiter must be one character")
    if "content" not in mapping:
        raise _invalid("content is missing: name the field that holds the text")
    return mapping


def read(bundle: Bundle, options: ImportOptions) -> Iterator[Item]:
    """The records of each document. Raises Invalid without a mapping."""
    if options.mapping is None:
        raise _invalid(
            "this file needs a mapping of its fields to those of a block (--mapping FILE.toml)"
        )
    mapping = check_mapping(options.mapping)
    ids = ContentIds(mapping.get("source", SOURCE))
    for document in bundle.documents:
        for where, record in _records(document, mapping):
            if isinstance(record, SkippedItem):
                yield record
            else:
                yield from _block(record, mapping, options, ids, where)


def _records(
    document: Document, mapping: Mapping[str, Any]
) -> Iterator[tuple[str, Mapping[str, Any] | SkippedItem]]:
    ending = document.name.lower().rpartition(".")[2]
    reader: Callable[[Document, Mapping[str, Any]], Iterator[tuple[str, Any]]] = {
        "csv": _csv_records,
        "tsv": _csv_records,
        "jsonl": _line_records,
        "ndjson": _line_records,
    }.get(ending, _json_records)
    for where, record in reader(document, mapping):
        if isinstance(record, Mapping | SkippedItem):
            yield where, record
        else:
            yield where, SkippedItem(where, "malformed", "the record is not an object")


def _csv_records(document: Document, mapping: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    csv.field_size_limit(_CELL_CHARACTERS_MAX)
    with document.text() as text:
        delimiter = mapping.get("delimiter") or _delimiter(document)
        too_long: list[int] = []
        try:
            rows = csv.DictReader(_short(bounded_lines(text), too_long), delimiter=delimiter)
            for number, row in enumerate(rows, 2):
                yield f"{document.name}: row {number}", {k: v for k, v in row.items() if k}
        except csv.Error as error:
            yield document.name, SkippedItem(document.name, "malformed", str(error))
        for number in too_long:
            where = f"{document.name}: line {number}"
            yield where, SkippedItem(where, "too_long", "more than four million characters")


def _short(lines: Iterator[tuple[int, str | None]], too_long: list[int]) -> Iterator[str]:
    for number, line in lines:
        if line is None:
            too_long.append(number)
        else:
            yield line


def _delimiter(document: Document) -> str:
    if document.name.lower().endswith(".tsv"):
        return "\t"
    with document.text(counted=False) as text:
        first = text.readline(_CELL_CHARACTERS_MAX)
    return max(",;\t|", key=first.count)


def _line_records(document: Document, _mapping: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    with document.bytes() as lines:
        for number, line in bounded_lines(lines):
            where = f"{document.name}: line {number}"
            if line is None:
                yield where, SkippedItem(where, "too_long", "more than four million bytes")
                continue
            if not line.strip():
                continue
            try:
                yield where, json.loads(line)
            except (ValueError, RecursionError) as error:
                yield where, SkippedItem(where, "malformed", problem(error))


def _json_records(document: Document, mapping: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    records = mapping.get("records", "")
    prefix = f"{records}.item" if records else "item"
    number = 0
    with document.bytes() as stream:
        try:
            for number, value in enumerate(json_items(stream, prefix), 1):
                yield f"{document.name}: {number}", value
        except ijson.JSONError as error:
            where = f"{document.name}: after {number}"
            yield where, SkippedItem(where, "malformed", problem(error))
    if number == 0:
        where = document.name
        yield where, SkippedItem(where, "empty", f"no list at {records or 'the top level'}")


def _block(
    record: Mapping[str, Any],
    mapping: Mapping[str, Any],
    options: ImportOptions,
    ids: ContentIds,
    where: str,
) -> Iterator[Item]:
    text = _content(record, mapping["content"])
    if not text.strip():
        yield SkippedItem(where, "empty", f"no text in {mapping['content']}")
        return
    written = _field(record, mapping, "occurred_at")
    moment = _time(written, mapping, options)
    if written not in (None, "") and moment is None:
        yield SkippedItem(where, "time_not_understood", f"{str(written)[:60]!r}; set date_format")
        return
    source = mapping.get("source", SOURCE)
    source_id = name(_field(record, mapping, "external_id"))
    for piece, suffix in parts(text):
        yield ImportedBlock(
            external_id=(f"{source}:{source_id}" if source_id else ids.of(text, written)) + suffix,
            content=piece,
            source=source,
            occurred_at=moment,
            speaker=name(_field(record, mapping, "speaker")),
            session_id=name(_field(record, mapping, "session_id")),
            agent_id=name(_field(record, mapping, "agent_id")),
            owner=name(_field(record, mapping, "user")),
            metadata=_metadata(record, mapping),
        )


def _content(record: Mapping[str, Any], content: str) -> str:
    if "{" not in content:
        return _as_text(_at(record, content))
    return _PLACEHOLDER.sub(lambda match: _as_text(_at(record, match[1])), content)


def _field(record: Mapping[str, Any], mapping: Mapping[str, Any], key: str) -> Any:
    return _at(record, mapping[key]) if key in mapping else None


def _at(record: Any, path: str) -> Any:
    """The value at a path such as `a.b`; a field whose own name has a dot comes first."""
    if isinstance(record, Mapping) and path in record:
        return record[path]
    head, _, rest = path.partition(".")
    if isinstance(record, Mapping) and head in record:
        return _at(record[head], rest) if rest else record[head]
    return None


def _as_text(value: object) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _time(written: object, mapping: Mapping[str, Any], options: ImportOptions) -> datetime | None:
    if written in (None, ""):
        return None
    if "date_format" not in mapping:
        return instant(written, options.time_zone)
    try:
        moment = datetime.strptime(str(written).strip(), mapping["date_format"])  # noqa: DTZ007 - the zone follows
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=options.time_zone)


def _metadata(record: Mapping[str, Any], mapping: Mapping[str, Any]) -> Mapping[str, Any]:
    found = {path: _at(record, path) for path in mapping.get("metadata", [])}
    return {path: value for path, value in found.items() if value not in (None, "")}


def _invalid(message: str) -> Invalid:
    return Invalid(message, code="mapping_invalid")
