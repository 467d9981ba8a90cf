"""Check that the SQL of the service can be spread over partitions.

Usage: python -m tools.sql_rules [--list]

Reads every statement of the .sql files beside the stores, the statements and parts of statements in
Python code, and every function of the definitions:

- cross-scope    a query on a table of users' rows or of the queue is restricted by `user_id`, or
                 the statement is on the list tools/sql_rules.toml with its reason
- join           two such tables in one query are joined by `user_id`, or it is on the list
- home           no statement reads users' rows and a table of which an installation has one (keys,
                 circuits), or it is on the list
- clock          no clock, sequence or random value in what a statement writes to an existing row
                 (UPDATE … SET, ON CONFLICT … SET), nor inside CASE or COALESCE of one that writes
- subscript      no element of an array in an UPDATE's column; the FROM clause selects it
- returned       no INSERT reads the rows that another part of its statement returned, or it is on
                 the list: Citus sends them to all of its nodes
- interval       no interval is added in ON CONFLICT … SET, where only immutable functions may be
- policy         no subquery in a policy

A distributed engine refuses each of them, or sends the statement to every node; and what works on
all users of one partition has to be called once for each partition. The order of calls and the
values of variables are not checked. --list prints the list.
"""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "luma_memory"
LIST = ROOT / "tools" / "sql_rules.toml"

# Rows of one user each, jobs included; not workers, keys, circuits, secrets.
SCOPE_TABLES = frozenset(
    f"memory_{name}"
    for name in (
        *(
            "users",
            "blocks",
            "block_input",
            "passages",
            "block_revisions",
            "relations",
            "summaries",
        ),
        *("rate_limits", "usage", "idempotency", "scope_models", "next_passages", "changes"),
        *("jobs", "events", "webhook_deliveries"),
    )
)
# An installation has one of each, whatever its partitions.
HOME_TABLES = frozenset(
    ("memory_api_keys", "memory_circuits", "memory_partitions", "memory_partition_moves")
)
# A table that a query reads or writes; with a parenthesis it is a function.
_TABLE = re.compile(
    r"\b(?:FROM|JOIN|UPDATE|INTO|USING|,)\s+(?:ONLY\s+)?(memory_\w+)\b(?!\s*\()", re.I
)
_RESTRICTED = re.compile(
    r"\buser_id\s*=|=\s*(?:\w+\.)?user_id\b"
    r"|\buser_id\)\s*(?:=|IN\b|IS\b)"
    r"|\bUSING\s*\([^)]*\buser_id\b"
    r"|\bINTO\s+memory_\w+(?:\s+AS\s+\w+)?\s*\([^)]*\buser_id\b",
    re.I,
)
_WRITES = re.compile(
    r"\b(?:INSERT\s+INTO|UPDATE\s+(?!OF\b|SKIP\b|NOWAIT\b)\w+|DELETE\s+FROM)\b", re.I
)
_CLOCK = re.compile(
    r"\b(?:now|clock_timestamp|statement_timestamp|transaction_timestamp|timeofday|nextval|random"
    r"|gen_random_uuid|uuidv7)\s*\(|\bCURRENT_(?:TIMESTAMP|DATE|TIME)\b",
    re.I,
)
_SET = re.compile(r"\bUPDATE\s+(?:memory_\w+(?:\s+(?:AS\s+)?\w+)?\s+)?SET\b", re.I)
_SET_END = re.compile(r"\b(?:FROM|WHERE|RETURNING)\b", re.I)
_CHOICE = re.compile(r"\bCASE\b|\bCOALESCE\s*\(", re.I)
_ON_CONFLICT = re.compile(r"\bDO\s+UPDATE\s+SET\b", re.I)
_INTERVAL = re.compile(r"\binterval\s+'|[+-]\s*p_fair_step|\+\s*\(excluded", re.I)
_PART = re.compile(r"\b(\w+)\s+AS\s+(?:(?:NOT\s+)?MATERIALIZED\s+)?\(\s*(?=(\w+))", re.I)
_CHANGING = frozenset(("INSERT", "UPDATE", "DELETE"))
_SUBSCRIPT = re.compile(r"\b[\w.]+\[[^\]]+\]")
_COMMENT_OR_STRING = re.compile(r"--[^\n]*|'(?:[^']|'')*'")
_NAMES = re.compile(r"(?!\s*SELECT\b)[\w\s.,$]*", re.I)
_POLICY = re.compile(r"\b(?:CREATE|ALTER)\s+POLICY\b[^;]*", re.I)
_FUNCTION = re.compile(
    r"^CREATE OR REPLACE FUNCTION (\w+)\s*\(.*?\bAS (\$\w*\$)(.*?)\2", re.M | re.S
)
_NAMED = re.compile(r"^-- name: (\w+)\n", re.M)


@dataclass(frozen=True, slots=True)
class Statement:
    """A named statement, or a function of the schema."""

    name: str  # file and name, as on the list
    text: str  # without comments and the contents of strings


def bare(text: str) -> str:
    """SQL without comments and the contents of strings."""
    text = re.sub(r"/\*(\w+)\*/", r" \1 ", text)
    return _COMMENT_OR_STRING.sub(lambda found: "''" if found[0][0] == "'" else "", text)


def _without_comments(text: str) -> str:
    return _COMMENT_OR_STRING.sub(lambda found: found[0] if found[0][0] == "'" else "", text)


def statements_of(path: str, text: str) -> Iterator[Statement]:
    """The statements of one file: those it names, the functions it defines, or its literals."""
    if path.endswith(".py"):
        yield from _literals(path, text)
        return
    if "/definitions/" in path:
        for function in _FUNCTION.finditer(text):
            yield Statement(f"{Path(path).stem}.{function[1]}", bare(function[3]))
        return
    _, *parts = _NAMED.split(text)
    for name, body in zip(parts[::2], parts[1::2], strict=True):
        yield Statement(f"{Path(path).stem}.{name}", bare(body))


def _literals(path: str, text: str) -> Iterator[Statement]:
    tree = [*ast.walk(ast.parse(text))]
    documentation = {id(node.value) for node in tree if isinstance(node, ast.Expr)}
    for node in tree:
        if not isinstance(node, ast.Constant) or id(node) in documentation:
            continue
        if isinstance(node.value, str) and _TABLE.search(node.value):
            yield Statement(f"{path}:{node.lineno}", bare(node.value))


def queries(text: str) -> Iterator[str]:
    """The single queries: each parenthesis with what is in it, and what is around all of them."""
    starts: list[int] = [0]
    for at, sign in enumerate(text):
        if sign == "(":
            starts.append(at + 1)
        elif sign == ")" and len(starts) > 1:
            yield text[starts.pop() : at]
        elif sign == ";" and len(starts) == 1:
            yield text[starts[0] : at]
            starts[0] = at + 1
    yield text[starts[0] :]


def own_part(query: str) -> str:
    """A query without what its parentheses hold, except lists of names."""
    kept: list[str] = []
    starts: list[int] = []
    for at, sign in enumerate(query):
        if sign == "(":
            if not starts:
                kept.append("(")
            starts.append(at + 1)
        elif sign == ")" and starts:
            inner = query[starts.pop() : at]
            if not starts:
                kept.append(f"{inner if _NAMES.fullmatch(inner) else ''})")
        elif not starts:
            kept.append(sign)
    return "".join(kept)


def set_clauses(text: str) -> Iterator[str]:
    """What UPDATE and ON CONFLICT assign, subqueries included."""
    for start in _SET.finditer(text):
        yield text[start.end() : _end(text, start.end(), _SET_END)]


def choices(text: str) -> Iterator[str]:
    """CASE … END and COALESCE (…)."""
    for start in _CHOICE.finditer(text):
        if start[0].upper() == "CASE":
            end = re.compile(r"\bEND\b", re.I).search(text, start.end())
            yield text[start.end() : end.start() if end else len(text)]
        else:
            yield text[start.end() : _end(text, start.end(), None)]


def _end(text: str, start: int, word: re.Pattern[str] | None) -> int:
    """Where a clause ends: at such a word, or where the parenthesis around it closes."""
    depth = 0
    for at in range(start, len(text)):
        depth += (text[at] == "(") - (text[at] == ")")
        if depth < 0 or (depth == 0 and text[at] == ";"):
            return at
        if depth == 0 and word is not None and word.match(text, at) and not text[at - 1].isalnum():
            return at
    return len(text)


def cross_scope_tables(statement: Statement) -> set[str]:
    """Tables of users' rows that a query reads or writes without a restriction to users."""
    return {
        table
        for query in map(own_part, queries(statement.text))
        if not _RESTRICTED.search(query)
        for table in _tables(query)
    }


def across(statement: Statement) -> Iterator[str]:
    """What reaches beyond one user or one partition; the list may permit it."""
    if tables := cross_scope_tables(statement):
        yield f"cross-scope: {', '.join(sorted(tables))} without user_id"
    for query in map(own_part, queries(statement.text)):
        if len(tables_of := _tables(query)) > 1 + len(_RESTRICTED.findall(query)):
            yield f"join: {', '.join(tables_of)} are not joined by user_id"
    named = set(_TABLE.findall(statement.text))
    if (home := named & HOME_TABLES) and named & SCOPE_TABLES:
        yield f"home: {', '.join(sorted(home))} beside users' rows"
    if returned := {*returned_rows(statement.text)}:
        yield f"returned: an INSERT reads {', '.join(sorted(returned))}"


def returned_rows(text: str) -> Iterator[str]:
    """Parts of a statement whose returned rows an INSERT in it reads."""
    for query in queries(text):
        parts = {part[1]: part for part in _PART.finditer(query)}
        changing = {name for name, part in parts.items() if part[2].upper() in _CHANGING}
        readers = _dependents(query, parts, changing)
        for insert in re.finditer(r"\bINSERT\s+INTO\b", query, re.I):
            yield from readers & _named(query[insert.end() : _end(query, insert.end(), None)])


def _dependents(query: str, parts: Mapping[str, re.Match[str]], changing: set[str]) -> set[str]:
    """The parts that change rows, and those that read what they returned."""
    found = set(changing)
    for name, part in parts.items():  # a part reads earlier ones only
        if name not in found and found & _named(query[part.end() : _end(query, part.end(), None)]):
            found.add(name)
    return found


def _named(text: str) -> set[str]:
    return set(re.findall(r"\b(?:FROM|JOIN)\s+(\w+)", text, re.I))


def _tables(query: str) -> list[str]:
    return [name for name in _TABLE.findall(query) if name in SCOPE_TABLES]


def faults_of(statement: Statement) -> Iterator[str]:
    """What a distributed engine refuses, of any table."""
    if not _WRITES.search(statement.text):
        return
    for conflict in _ON_CONFLICT.finditer(statement.text):
        clause = statement.text[conflict.end() : _end(statement.text, conflict.end(), _SET_END)]
        if _INTERVAL.search(clause):
            yield f"{statement.name}: interval: added in ON CONFLICT; use memory_later"
    for query in queries(statement.text):
        for clause in set_clauses(query):
            if clock := _CLOCK.search(clause):
                yield f"{statement.name}: clock: {clock[0].strip('( ')} in a column that is set"
            if subscript := _SUBSCRIPT.search(clause):
                yield f"{statement.name}: subscript: {subscript[0]} in a column that is set"
        for choice in choices(query):
            if clock := _CLOCK.search(choice):
                yield f"{statement.name}: clock: {clock[0].strip('( ')} inside CASE or COALESCE"


def faults(sources: Mapping[str, str], listed: Mapping[str, str]) -> Iterator[str]:
    """One message per violation. `sources`: texts by path; `listed`: reasons by name."""
    unused = dict(listed)
    for path, text in sources.items():
        for policy in _POLICY.findall(_without_comments(text) if "/migrations/" in path else ""):
            if re.search(r"\(\s*SELECT\b", policy, re.I) and not unused.pop(Path(path).stem, None):
                yield f"{path}: policy: a subquery in a policy"
        for statement in statements_of(path, text):
            yield from faults_of(statement)
            wider = [*across(statement)]
            if wider and not unused.pop(statement.name, None):
                remedy = "restrict it, or list it with its reason"
                yield f"{statement.name}: {'; '.join(wider)}; {remedy}"
    yield from (f"{name}: on the list, but nothing is found there" for name in unused)


def sources() -> dict[str, str]:
    """The statements, the definitions, the migrations and the Python files of the package."""
    files = [*sorted(PACKAGE.rglob("*.sql")), *sorted(PACKAGE.rglob("*.py"))]
    return {file.relative_to(ROOT).as_posix(): file.read_text("utf-8") for file in files}


def listed() -> dict[str, str]:
    """The reasons by name."""
    entries = tomllib.loads(LIST.read_text("utf-8"))
    return {name: reason for part in entries.values() for name, reason in part.items()}


def main(arguments: list[str]) -> int:
    if arguments == ["--list"]:
        for name, reason in sorted(listed().items()):
            print(f"{name}: {reason}")
        return 0
    found = sorted(set(faults(sources(), listed())))
    print(*found, sep="\n", end="\n" if found else "")
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
