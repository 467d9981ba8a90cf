"""The reference of all settings, generated from the Settings class.

docs/settings.md, .env.example, `luma-memory settings` and `GET /settings` are generated from it.
"""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final, Literal, get_args, get_origin
from urllib.parse import urlsplit

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from luma_memory.settings import Settings, Unset, variable_name

# The first field of each section; sections follow the order of the fields.
SECTIONS: Final[Mapping[str, str]] = {
    "database_url": "Connections",
    "system_enabled": "Switches",
    "admin_key": "Credentials",
    "completion_model": "Models",
    "retry_attempts": "Queue and worker",
    "cache_ttl_seconds": "Recall and limits",
    "mcp_enabled": "Agents",
    "console_enabled": "Console",
    "host": "Process",
    "otel_exporter_otlp_endpoint": "Tracing",
}
_COMMENT_COLUMNS = 98
# Not a setting of the service: only deploy/compose.yaml reads it.
_COMPOSE: Final = (
    "",
    "# ── For deploy/compose.yaml only ".ljust(_COMMENT_COLUMNS, "─"),
    "",
    "# The password of its PostgreSQL, required there. An existing database keeps the password it",
    "# was created with. Generate one with: openssl rand -hex 24. Put a password with characters",
    "# other than letters and digits between 'single quotes': Compose interprets $ and #. Secret.",
    "# POSTGRES_PASSWORD=",
)
_LINK = re.compile(r"\[[^]]*\]\(([^)#]+)[^)]*\)")


@dataclass(frozen=True, slots=True)
class Entry:
    """One setting, as documented."""

    field: str
    variable: str
    section: str
    default: str | None  # as written in a variable; None: no default, see `unset`
    unset: str
    allowed: str  # empty: described in `meaning`
    meaning: str  # Markdown, links as seen from docs/
    is_secret: bool


def entries() -> list[Entry]:
    """Every setting, in the order of the fields. Raises KeyError for an undocumented one."""
    texts = _field_texts()
    found: list[Entry] = []
    section = ""
    for name, field in Settings.model_fields.items():
        section = SECTIONS.get(name, section)
        found.append(
            Entry(
                field=name,
                variable=variable_name(name),
                section=section,
                default=None if field.default is None else written(field.default),
                unset=_unset(field),
                allowed=_allowed(field),
                meaning=texts[name],
                is_secret=SecretStr in (field.annotation, *get_args(field.annotation)),
            )
        )
    return found


def written(value: object) -> str:
    """A value as written in a variable."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def shown(entry: Entry, settings: Settings) -> str | None:
    """The current value without secrets; None without a value."""
    value = getattr(settings, entry.field)
    if value is None:
        return None
    return "(set)" if isinstance(value, SecretStr) else _without_secrets(written(value))


def _without_secrets(text: str) -> str:
    """Only scheme, host and path of a URL: user info and query may contain a key."""
    if "://" not in text or not text.isprintable():
        return text
    parts = urlsplit(text)
    host = parts.netloc.rpartition("@")[2]
    is_whole = host == parts.netloc and not parts.query and not parts.fragment
    return text if is_whole else f"{parts.scheme}://{host}{parts.path} (more is set)"


def as_markdown() -> str:
    """One table per section, for docs/settings.md."""
    return "\n\n".join(
        "\n".join(
            [
                f"## {section}\n",
                "| variable | default | may be | meaning |",
                "|---|---|---|---|",
                *map(_row, members),
            ]
        )
        for section, members in _by_section()
    )


def as_environment_file() -> str:
    """Every variable with its meaning, commented out."""
    lines = [
        "# Every setting of Luma Memory with its default. None is required to start.",
        *_COMPOSE,
    ]
    for section, members in _by_section():
        lines += ["", f"# ── {section} ".ljust(_COMMENT_COLUMNS, "─")]
        for entry in members:
            lines += ["", *_commented(entry), f"# {entry.variable}={entry.default or ''}"]
    return "\n".join(lines) + "\n"


def plain_text(markdown: str) -> str:
    """Without backquotes and emphasis; links become paths of the repository."""
    return _LINK.sub(r"docs/\1", markdown).replace("`", "").replace("*", "")


def _by_section() -> Iterator[tuple[str, list[Entry]]]:
    for section, members in groupby(entries(), key=lambda entry: entry.section):
        yield section, list(members)


def _row(entry: Entry) -> str:
    default = entry.default if entry.default is not None else entry.unset
    notes = "; secret" if entry.is_secret else ""
    meaning = entry.meaning.removesuffix(".") + notes
    return f"| `{entry.variable}` | {default} | {entry.allowed} | {meaning} |"


def _commented(entry: Entry) -> Iterator[str]:
    text = plain_text(entry.meaning)
    if entry.default is None and entry.unset != "unset":
        text += f" Without it: {entry.unset}."
    if entry.allowed:
        text += f" May be {entry.allowed}."
    if entry.is_secret:
        text += " A secret."
    for line in textwrap.wrap(text, _COMMENT_COLUMNS - 2, break_long_words=False):
        yield f"# {line}"


def _unset(field: FieldInfo) -> str:
    return next((note.means for note in field.metadata if isinstance(note, Unset)), "unset")


def _allowed(field: FieldInfo) -> str:
    choices = [kind for kind in (field.annotation, *get_args(field.annotation)) if kind]
    if bool in choices:
        return "true or false"
    for kind in choices:
        if get_origin(kind) is Literal:
            return _either(get_args(kind))
    least, most = _bound(field, "ge"), _bound(field, "le")
    if least is None:
        return ""
    return f"{least} or more" if most is None else f"{least} to {most}"


def _bound(field: FieldInfo, name: str) -> Any:
    return next((getattr(note, name) for note in field.metadata if hasattr(note, name)), None)


def _either(values: Sequence[str]) -> str:
    return f"{', '.join(values[:-1])} or {values[-1]}"


def _field_texts() -> dict[str, str]:
    """The docstring of each field, on one line."""
    (body,) = ast.parse(textwrap.dedent(inspect.getsource(Settings))).body
    assert isinstance(body, ast.ClassDef)
    texts: dict[str, str] = {}
    for statement, following in zip(body.body, body.body[1:], strict=False):
        match statement, following:
            case (
                ast.AnnAssign(target=ast.Name(id=name)),
                ast.Expr(value=ast.Constant(value=str() as text)),
            ):
                texts[name] = " ".join(text.split())
            case _:
                pass
    return texts
