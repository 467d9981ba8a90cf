"""Every input ends in a right answer or a clear error with a stable code; never a 500."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.examples import examples

pytestmark = pytest.mark.asyncio(loop_scope="module")

JSON = {"Content-Type": "application/json"}


def block(content: str = '"fine"', **more: str) -> bytes:
    parts = {"user_id": '"gate"', "content": content} | more
    return ("{" + ",".join(f'"{key}":{value}' for key, value in parts.items()) + "}").encode()


BAD: list[tuple[str, bytes, int, str]] = [
    ("empty body", b"", 422, "invalid_request"),
    ("no JSON", b"{user_id: gate}", 400, "malformed_json"),
    ("bad UTF-8", block()[:-2] + b'\xff"}', 400, "malformed_json"),
    ("UTF-16", block().decode().encode("utf-16"), 400, "malformed_json"),
    ("depth", b"[" * 100_000, 400, "malformed_json"),
    ("lone surrogate", block(r'"\ud800"'), 400, "malformed_json"),
    ("endless integer", block(metadata='{"n":' + "9" * 5_000 + "}"), 400, "malformed_json"),
    ("NaN", block(metadata='{"n":NaN}'), 400, "malformed_json"),
    ("list", b"[]", 422, "invalid_request"),
    ("NUL", block(r'"a\u0000b"'), 422, "text_nul"),
    ("blank", block(r'" \n\t "'), 422, "text_blank"),
    ("empty", block('""'), 422, "text_blank"),
    ("zero width", block(r'"\u200b\u200d\ufeff\u2060"'), 422, "text_blank"),
    ("fillers", block(r'"\u3164 \u2800\u115f\ufe0f\udb40\udd00"'), 422, "text_blank"),
    ("directions only", block(r'"\u202e\u2066\u00ad\u0001\u0085"'), 422, "text_blank"),
    ("nobody's name", block(user_id=r'"\u200b"'), 422, "text_blank"),
    ("a key twice", block(content='"a","content":"b"'), 400, "malformed_json"),
    ("a key twice, apart", block(metadata='{"a" : 1, "a"\n: 2}'), 400, "malformed_json"),
    ("a key twice, escaped", block(metadata=r'{"a":1,"\u0061":2}'), 400, "malformed_json"),
    ("a key twice, deep", block(metadata='{"a":[{"b":":","b":1}]}'), 400, "malformed_json"),
    ("number for text", block("7"), 422, "string_type"),
    ("too long", block('"' + "x" * 100_001 + '"'), 422, "text_too_long"),
    ("infinite", block(metadata='{"n":1e999}'), 422, "number_not_finite"),
    ("beyond 64 bits", block(metadata='{"n":[1,9223372036854775808]}'), 422, "number_too_large"),
    ("nested metadata", block(metadata='{"a":' * 17 + "1" + "}" * 17), 422, "metadata_depth"),
    ("many values", block(metadata='{"a":[' + "1," * 1_000 + "1]}"), 422, "metadata_values"),
    ("big metadata", block(metadata='{"a":"' + "y" * 65_536 + '"}'), 422, "metadata_size"),
    ("NUL in a key", block(metadata=r'{"a\u0000":1}'), 422, "text_nul"),
    ("year 0", block(occurred_at='"0000-01-01T00:00:00Z"'), 422, "datetime_parsing"),
    ("before year 1", block(occurred_at='"0001-01-01T00:00:00+14:00"'), 422, "instant_range"),
    ("after year 9999", block(occurred_at='"9999-12-31T23:59:59-14:00"'), 422, "instant_range"),
    ("infinity", block(occurred_at='"infinity"'), 422, "datetime_from_date_parsing"),
    ("seconds", block(occurred_at="1700000000"), 422, "datetime_type"),
    ("seconds as text", block(occurred_at='"1.7e9"'), 422, "datetime_type"),
    ("no time", block(occurred_at='""'), 422, "datetime_type"),
    ("unknown field", block(color='"red"'), 422, "extra_forbidden"),
    ("long name", block(session_id='"' + "s" * 257 + '"'), 422, "text_too_long"),
    ("too large", block('"' + "x" * 2_100_000 + '"'), 413, "body_too_large"),
]


@pytest.mark.parametrize(
    ("body", "status", "code"), [row[1:] for row in BAD], ids=[row[0] for row in BAD]
)
async def test_a_bad_block_is_refused_with_its_code(
    client: httpx2.AsyncClient, body: bytes, status: int, code: str
) -> None:
    response = await client.post("/blocks", content=body, headers=JSON)
    assert_problem(response, status, code)


async def test_a_body_without_a_length_is_cut_off(client: httpx2.AsyncClient) -> None:
    def endless() -> Iterator[bytes]:
        for _ in range(100):
            yield b"x" * 100_000

    async def chunks() -> Any:
        for chunk in endless():
            yield chunk

    response = await client.post("/blocks", content=chunks(), headers=JSON)
    assert_problem(response, 413, "body_too_large")


@pytest.mark.parametrize(
    ("broken", "code"),
    [
        (block(r'"cut \ud83d"'), "text_surrogate"),
        (block(r'"\udc00 first"'), "text_surrogate"),
        (block(r'"\ud83d\u0041"'), "text_surrogate"),
        (block(speaker=r'"\uD83D"'), "text_surrogate"),
        (block(metadata=r'{"a":["\ud83d"]}'), "text_surrogate"),
        (block(metadata=r'{"\ud83d":1}'), "text_surrogate"),
        (block()[:-1] + rb',"\ud83d":1}', "string_unicode"),
        (rb'"\ud83d"', "model_type"),
    ],
)
async def test_a_lone_surrogate_fails_only_its_own_block(
    client: httpx2.AsyncClient, broken: bytes, code: str
) -> None:
    good = block('"whole \U0001f600"')
    body = b'{"blocks":[' + good + b"," + broken + b"," + good + b"]}"
    response = await client.post("/blocks/batch", content=body, headers=JSON)
    assert response.status_code == 202, response.text
    results = response.json()["results"]
    assert [result.get("error", {}).get("code") for result in results] == [None, code, None]


@pytest.mark.parametrize(
    "body",
    [
        b'{"blocks":[' + block() + rb'],"\ud83d":1}',
        b'{"blocks":[' + block(r'"\ud83d"') + b"",
        b'{"blocks":[' + block(r'"\ud83d"', metadata='{"n":NaN}') + b"]}",
        b'{"blocks":[' + block(r'"\ud83d"', metadata='{"a":1,"a":2}') + b"]}",
        b'{"blocks":' + b"[" * 100_000 + rb'"\ud83d"',
        rb'["\ud83d"]',
    ],
)
async def test_a_batch_that_is_no_json_beside_is_refused(
    client: httpx2.AsyncClient, body: bytes
) -> None:
    response = await client.post("/blocks/batch", content=body, headers=JSON)
    assert_problem(response, 400, "malformed_json")


async def test_whatever_number_metadata_holds_is_found_by_it(client: httpx2.AsyncClient) -> None:
    numbers = [1497549923779084388, 2**63 - 1, -(2**63) + 1, 2.0**53 - 1, 10**15 + 1, 0.1]
    for number in numbers:
        body = block('"number"', user_id='"numbers"', metadata=f'{{"n":{number}}}')
        assert (await client.post("/blocks", content=body, headers=JSON)).status_code == 202
    for number in numbers:
        search_body = {"user_id": "numbers", "query": "number", "filters": {"metadata.n": number}}
        response = await client.post("/search", json=search_body)
        assert response.status_code == 200, response.text
        assert [hit["block"]["metadata"]["n"] for hit in response.json()["results"]] == [number]
    for number in (2**63, 1e300):
        search_body = {"user_id": "numbers", "query": "number", "filters": {"metadata.n": number}}
        assert_problem(await client.post("/search", json=search_body), 422, "invalid_filter")


@pytest.mark.parametrize(
    "path",
    ["/health", "/health/live", "/health/ready", "/openapi.json", "/docs", "/blocks?user_id=gate"],
)
async def test_head_is_a_get_without_a_body(client: httpx2.AsyncClient, path: str) -> None:
    got, head = await client.get(path), await client.head(path)
    assert head.status_code == got.status_code == 200
    assert head.content == b""
    assert head.headers["content-type"] == got.headers["content-type"]
    assert int(head.headers["content-length"]) > 0


async def test_head_of_what_has_no_get_is_refused(client: httpx2.AsyncClient) -> None:
    assert (await client.head("/search")).status_code == 405
    assert (await client.head("/nowhere")).status_code == 404


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nowhere", 404, "route_not_found"),
        ("DELETE", "/search", 405, "method_not_allowed"),
        ("GET", "/items", 422, "missing"),
        ("GET", "/blocks?user_id=%00", 422, "text_nul"),
        ("GET", "/blocks?user_id=a&limit=0", 422, "greater_than_equal"),
        ("GET", "/blocks?user_id=a&limit=9223372036854775808", 422, "less_than_equal"),
        ("GET", "/blocks?user_id=a&cursor=rubbish", 422, "bad_cursor"),
        ("GET", "/blocks?user_id=a&status=asleep", 422, "literal_error"),
        ("GET", "/blocks/not-an-id?user_id=a", 422, "uuid_parsing"),
    ],
)
async def test_bad_paths_and_parameters(
    client: httpx2.AsyncClient, method: str, path: str, status: int, code: str
) -> None:
    assert_problem(await client.request(method, path), status, code)


async def test_a_body_of_another_type_is_named(client: httpx2.AsyncClient) -> None:
    response = await client.post(
        "/blocks", content=b"user_id=gate", headers={"Content-Type": "text/plain"}
    )
    assert_problem(response, 415, "unsupported_media_type")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"user_id": "gate", "query": ""}, "text_blank"),
        ({"user_id": "gate", "query": "q\x00"}, "text_nul"),
        ({"user_id": "gate", "query": "q", "limit": 0}, "greater_than_equal"),
        ({"user_id": "gate", "query": "q", "limit": 2**63}, "less_than_equal"),
        ({"user_id": "gate", "query": "q" * 10_001}, "text_too_long"),
        ({"query": "q"}, "missing"),
    ],
)
async def test_a_bad_question_is_refused(
    client: httpx2.AsyncClient, body: dict[str, Any], code: str
) -> None:
    assert_problem(await client.post("/search", json=body), 422, code)


async def test_a_bad_part_is_named_also_where_it_is_called_query(
    client: httpx2.AsyncClient,
) -> None:
    response = await client.post("/search", json={"user_id": "gate", "query": " "})
    assert [problem["field"] for problem in response.json()["errors"]] == ["query"]


@pytest.mark.parametrize(
    "query",
    [
        "'; DROP TABLE memory_blocks; --",
        "%_\\",
        "a & | ! <-> b:*",
        "[1,2,3]",
        "{1:1}/5",
        "\u202eabc",
        "?",
        "🦉",
    ],
)
async def test_hostile_questions_are_just_words(client: httpx2.AsyncClient, query: str) -> None:
    response = await client.post("/search", json={"user_id": "gate", "query": query})
    assert response.status_code == 200, response.text


any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(
    content=st.text(max_size=200),
    metadata=st.dictionaries(st.text(max_size=8), any_json, max_size=4),
)
@settings(max_examples=examples(60), suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_whatever_comes_is_refused_or_comes_back_as_it_was(
    client: httpx2.AsyncClient, content: str, metadata: dict[str, Any]
) -> None:
    body = json.dumps({"user_id": "gate", "content": content, "metadata": metadata}).encode()
    response = await client.post("/blocks", content=body, headers=JSON)
    assert response.status_code in (202, 400, 422), response.text
    if response.status_code == 202:
        read = await client.get(f"/blocks/{response.json()['id']}", params={"user_id": "gate"})
        assert read.json()["content"] == content
        assert read.json()["metadata"] == metadata


def assert_problem(response: httpx2.Response, status: int, code: str) -> None:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert {"type", "title", "status", "detail", "code", "request_id"} <= set(problem)
    assert problem["status"] == status
    assert code in {problem["code"], *(error["code"] for error in problem["errors"])}
