"""One frozen Settings object, read from the environment on request.

Names and defaults are a contract with operators (docs/settings.md). Importing this module and
building the object change nothing: no connections, no directories, no logging setup.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import platformdirs
from pydantic import AliasChoices, Field, SecretStr, ValidationError, field_validator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, SettingsConfigDict

from luma_memory.domain.database_url import expectation
from luma_memory.domain.errors import SetupError
from luma_memory.domain.redis_url import expectation as redis_expectation

PREFIX = "MEMORY_"
# It may be chosen by a person; then its length is the only protection against guessing.
KEY_CHARACTERS_MIN = 24
Milliseconds = Annotated[int, Field(ge=1, le=86_400_000)]


@dataclass(frozen=True, slots=True)
class Unset:
    """The behavior without a setting, for its documentation."""

    means: str


class Settings(BaseSettings):
    """Everything that can be configured, validated once on construction.

    The text under a field is its documentation: docs/settings.md and .env.example are generated
    from it (`make generate`), with links relative to docs/.
    """

    model_config = SettingsConfigDict(
        frozen=True,
        extra="ignore",
        env_prefix=PREFIX,
        populate_by_name=True,
        env_ignore_empty=True,
        hide_input_in_errors=True,
    )

    # Connections (no prefix: hosted platforms set these names)
    database_url: Annotated[SecretStr | None, Unset("embedded PostgreSQL")] = Field(
        None, validation_alias=AliasChoices("DATABASE_URL")
    )
    """`postgresql://…`, PostgreSQL 16 or newer with pgvector 0.8 or newer."""
    database_read_url: Annotated[SecretStr | None, Unset("the primary serves all reads")] = None
    """A streaming replica (hot standby) of that database: it serves searches and lists of one user
    where it shows what the primary does ([scaling](scaling.md#read-replica))."""
    openai_api_key: Annotated[SecretStr | None, Unset("local provider")] = Field(
        None, validation_alias=AliasChoices("OPENAI_API_KEY")
    )
    """Key of an OpenAI-compatible model provider."""
    openai_base_url: Annotated[str | None, Unset("OpenAI's own")] = Field(
        None,
        validation_alias=AliasChoices("OPENAI_BASE_URL"),
        repr=False,  # may hold a password
    )
    """Address of another OpenAI-compatible service; without a key, none is sent."""
    redis_url: Annotated[SecretStr | None, Unset("in-process cache")] = Field(
        None, validation_alias=AliasChoices("REDIS_URL")
    )
    """`redis://…`, `rediss://…` (TLS) or `unix://…`, Redis 6.2 or newer; stores contexts and
    the vectors of queries, see [the cache](cache.md)."""
    supabase_url: Annotated[str | None, Unset("unset")] = Field(
        None,
        validation_alias=AliasChoices("SUPABASE_URL"),
        repr=False,  # may hold a password
    )
    """Accept end users' access tokens of this project: `sub` is the `user_id`, see
    [security](security.md)."""
    oidc_issuer: Annotated[str | None, Unset("unset")] = None
    """Access tokens of this OpenID provider are accepted, exactly as its tokens name it in `iss`;
    `sub` is the `user_id`, see [security](security.md)."""
    oidc_audience: Annotated[str | None, Unset("unset")] = None
    """The `aud` of tokens for this service; required with `MEMORY_OIDC_ISSUER`."""
    public_url: Annotated[str | None, Unset("as the request names it")] = None
    """This service's address as clients see it, for [agents](mcp.md) that sign in with OAuth."""
    supabase_service_role_key: Annotated[SecretStr | None, Unset("unset")] = Field(
        None, validation_alias=AliasChoices("SUPABASE_SERVICE_ROLE_KEY")
    )
    """Accepted and ignored, for environments shared with other Supabase services: the service
    connects to PostgreSQL directly and needs no service-role key."""

    # Switches
    system_enabled: bool = True
    """`false`: writes return 503 `system_disabled`; reads still work and report it."""
    enrichment_enabled: bool = True
    """`false`: blocks become active without title, summary, tags, entities; `luma-memory
    backfill` adds them later."""
    embedding_enabled: bool = True
    """`false`: no vectors, search by words alone; `luma-memory backfill` adds them later."""
    context_vectors_enabled: bool = True
    """A second vector for every other turn of a session, of three turns together, in the
    background after all blocks; two to three times the processor time of the blocks' own
    vectors ([benchmarks](benchmarks.md)). `false`: recall@10 drops by one point on chats of
    short turns, by two on chats with an assistant."""
    relations_enabled: bool = False
    """`true`: a job detects relations of each block that becomes active, in one call of the
    model provider or by local rules; a block that a later one replaced is
    left out of recall ([relations](relations.md))."""
    recall_relations_enabled: bool = True
    """`false`: recall ignores relations. By default, where relations are detected, blocks related
    to the best ones rank a little higher and duplicates are folded
    ([recall](recall.md#relations))."""
    synthesis_enabled: bool = True
    """`false`: contexts are always written by the template, never by a model."""
    weekly_summaries_enabled: bool = True
    """`false`: no weekly summaries, neither scheduled nor on request
    ([summaries](summaries.md))."""
    langfuse_enabled: bool = False
    """Send spans of every request and job to Langfuse ([tracing](tracing.md))."""
    worker_enabled: bool = True
    """`false`: the API enriches each block itself before it returns 201, with one attempt, because
    no worker would make a second one."""
    fail_fast: bool = False
    """When a provider fails on the last attempt: false enriches locally (`enrichment =
    fallback`) and enriches with the model later, true fails the block with the reason; its text is
    searchable either way ([providers](providers.md))."""
    auth_disabled: bool = False
    """`true`: serve on any address without keys: a proxy in front authenticates callers."""

    # Credentials
    admin_key: Annotated[SecretStr | None, Unset("unset")] = None
    """A key with every permission on the default project, for a fresh container; at least 24
    characters."""
    api_key: Annotated[SecretStr | None, Unset("the admin key, if set")] = None
    """The key that `luma-memory ingest`, `search` and the other commands send."""

    # Models
    completion_model: str = "gpt-4o-mini"
    """Model of the provider; without `OPENAI_BASE_URL` also `vendor:model`, with the key in the
    variable that the vendor's library reads."""
    completion_fallback_models: Annotated[str | None, Unset("none")] = None
    """Further models, separated by commas: when a model fails, the attempt continues with the next
    ([providers](providers.md))."""
    embedding_model: str = "text-embedding-3-small"
    """Embedding model of the provider."""
    embedding_dimension: Annotated[int | None, Unset("the model's own")] = Field(
        None, ge=1, le=3_500
    )
    """Dimensions of a vector; OpenAI's third generation of models shortens to it on request."""
    local_model: Annotated[str | None, Unset("all-MiniLM-L6-v2")] = None
    """A folder with a BERT-like sentence model, `multilingual-e5-small` (extra `multilingual`), or
    a model name on the hub."""
    model_cache_dir: Annotated[Path | None, Unset("the user's cache folder")] = None
    """Folder for the local model's built graph."""
    provider_timeout_ms: Milliseconds = 20_000
    """Timeout of one call, divided among the models of a list; at most three quarters of the job
    timeout, so that a hanging provider can be distinguished from a slow job."""

    rerank_url: Annotated[str | None, Unset("no reranking")] = None
    """Base URL, without `/rerank`, of a service with Cohere's protocol (`https://api.cohere.com/v2`):
    it orders the texts of up to 50 blocks by the query ([recall](recall.md#reranking))."""
    rerank_model: str = "rerank-v3.5"
    """Model of that service."""
    rerank_api_key: Annotated[SecretStr | None, Unset("none is sent")] = None
    """Its key."""

    # Queue and worker
    retry_attempts: int = Field(3, ge=1, le=100)
    """Attempts per job."""
    retry_backoff_ms: Milliseconds = 1_000
    """Wait after the first failed attempt; doubles with each one, up to an hour, with jitter of
    half its length."""
    worker_poll_interval_ms: Milliseconds = 1_000
    """Interval at which an idle worker checks for jobs when it receives no notification."""
    worker_max_concurrent_jobs: int = Field(5, ge=1, le=1_000)
    """Jobs one worker process runs at once; with the local provider, 128 drains a backlog
    fastest."""
    worker_job_timeout_ms: Milliseconds = 30_000
    """Deadline of one attempt, four fifths of it for a model provider with local enrichment as
    its fallback; the lease of a job is 10 s longer."""
    worker_health_check_interval_ms: Milliseconds = 60_000
    """How often the worker logs its health."""

    completed_job_retention_hours: int = Field(24, ge=1, le=87_600)
    """How long completed and cancelled jobs are stored; the totals are kept forever."""
    failed_job_retention_hours: int = Field(720, ge=1, le=87_600)
    """How long failed jobs stay available for inspection and retry."""

    # Recall and limits
    cache_ttl_seconds: int = Field(3_600, ge=1, le=31_536_000)
    """Longest time a cached context or query vector is kept; a context is never served after
    anything in its scope changed."""
    cache_timeout_ms: int = Field(40, ge=1, le=10_000)
    """Longest time a request waits for Redis, connecting included; raise it for a distant Redis."""
    cache_memory_mb: int = Field(64, ge=1, le=65_536)
    """Memory that one API process uses for its cache: the whole cache without `REDIS_URL`, copies
    of entries with it."""
    snapshot_memory_mb: int = Field(256, ge=0, le=1_048_576)
    """Memory one API process may use for snapshots of scopes that are searched often; 0: every
    search scans its scope in PostgreSQL. A block of one passage takes about 2.5 KB."""
    context_token_budget: int = Field(2_000, ge=50, le=100_000)
    """Tokens of a context's text unless the request states another number."""
    max_context_blocks: int = Field(10, ge=1, le=200)
    """Blocks of a context unless the request states fewer; with only a budget 0.8 to 2 times."""
    requests_per_minute: int = Field(0, ge=0, le=10_000_000)
    """Requests one key, token or (without keys) address may send to one process in a minute;
    above that 429; 0: any number."""
    api_processes: int = Field(1, ge=1, le=256)
    """API processes of `luma-memory serve` on one port, each with its own memory, caches,
    connections and limits ([scaling](scaling.md#api-processes))."""
    concurrent_requests_max: int = Field(256, ge=1, le=100_000)
    """Concurrent requests of one process; above that, an immediate 503 `overloaded`. Those that may
    wait for a model provider (search, context, summaries, `wait=true`) are counted separately, with
    the same limit; bodies that are still arriving are not counted."""
    request_timeout_ms: Milliseconds = 30_000
    """A body that has not arrived by then returns 408."""
    similarity_threshold: float = Field(0.75, ge=0, le=1, allow_inf_nan=False)
    """Relevance from which a block counts as `relevant` in searches and contexts; comparable
    across embedding models ([what it measures](recall.md#nothing-relevant))."""
    relation_detection_rate_limit: int = Field(5, ge=0)
    """Blocks of one user whose relations are detected within any hour; further ones wait for the
    next, none is dropped. 0: none."""
    daily_budget_calls: Annotated[int | None, Unset("no limit")] = Field(None, ge=0)
    """Calls of model providers for one user in a UTC day; beyond it the user's jobs wait, none
    is dropped."""
    daily_budget_tokens: Annotated[int | None, Unset("no limit")] = Field(None, ge=0)
    """The same in tokens, input and output together."""
    daily_budget_usd: Annotated[Decimal | None, Unset("no limit")] = Field(
        None, ge=0, allow_inf_nan=False
    )
    """The same in estimated US dollars."""

    # Agents (Model Context Protocol)
    mcp_enabled: bool = True
    """`false`: no `/mcp` ([agents](mcp.md))."""
    mcp_read_only: bool = False
    """`true`: agents get only the tools that read."""
    mcp_search_fetch: bool = False
    """`true`: two more tools, `search` and `fetch`, for hosts that require these names."""
    mcp_user_id: Annotated[str | None, Unset("none")] = Field(None, min_length=1, max_length=256)
    """The user of tool calls without a user, with a key that may access several users. `luma-memory
    mcp` without `MEMORY_API_URL` uses `local`."""
    mcp_result_tokens: int = Field(4_000, ge=500, le=100_000)
    """Size of a tool's result, estimated at four bytes a token; the rest is linked."""
    mcp_preview_characters: int = Field(500, ge=50, le=10_000)
    """Characters of each memory in a list of results."""
    mcp_idle_seconds: int = Field(300, ge=1, le=86_400)
    """How long the service that `luma-memory mcp` starts outlives the last session."""
    webhooks_allow_private: bool = False
    """`true`: [webhooks](webhooks.md) may reach private addresses and use `http://`, for tests and
    closed networks."""
    webhook_timeout_ms: Milliseconds = 15_000
    """Time limit of one request to a webhook's receiver."""
    webhook_retry_ms: Milliseconds = 5_000
    """Wait after the first failed attempt of a delivery; the later ones grow with it, with the
    default to ten attempts over two days ([webhooks](webhooks.md#retries))."""

    # Console
    console_enabled: bool = True
    """`false`: no web console at `/ui`."""
    event_retention_hours: int = Field(168, ge=1, le=8_760)
    """How long events and their deliveries are kept, for replays and for readers of the
    [stream](webhooks.md#stream)."""
    hook_enabled: bool = True
    """`false`: `luma-memory hook` does nothing ([plugin](mcp.md#coding-agents))."""
    api_url: Annotated[str | None, Unset("a local background service")] = Field(None, repr=False)
    """The service that `luma-memory mcp` and `luma-memory hook` use, without `/api/v1/memory`."""

    # Process
    host: str = "127.0.0.1"
    """Address of the API; any other than loopback requires keys or `MEMORY_AUTH_DISABLED`."""
    port: int = Field(8080, ge=0, le=65_535)
    """Port of the API; 0 uses a free port and logs it."""
    cors_origins: Annotated[str | None, Unset("none")] = None
    """Origins whose pages may call from a browser, separated by commas."""
    stop_with_parent: bool = False
    """Stop when standard input ends; set by `luma-memory up` for its children."""
    stop_with_parent_seconds: float = Field(0.0, ge=0, le=600)
    """How long the API still serves after that; set by `luma-memory mcp` for its service."""
    spare_process: bool = True
    """`luma-memory up` and `mcp` keep a process ready that replaces a killed API in a second."""
    worker_metrics_port: Annotated[int | None, Unset("none")] = Field(None, ge=1, le=65_535)
    """A worker serves `/metrics` and `/health/live` on this port
    ([metrics](metrics.md)); several workers of one machine need one each."""
    worker_metrics_host: str = "127.0.0.1"
    """Address of that port. In a container 0.0.0.0: anyone who reaches the port can then read the
    counts, without a key; they contain no text, no id and no name."""
    data_dir: Annotated[Path | None, Unset("the user's data folder")] = None
    """Folder of the embedded PostgreSQL."""
    database_pool_size: int = Field(8, ge=2, le=200)
    """Connections of one process, besides one or two for notifications and its session lock."""
    database_wait_seconds: int = Field(60, ge=0, le=3_600)
    """How long a starting API or worker waits for a database that does not respond, before it exits
    with code 1; 0: not at all."""
    database_pooler: Literal["auto", "transaction", "none"] = "auto"
    """`auto`: port 6543 means a transaction pooler, at any other port the service tests for one at
    startup; `transaction` or `none`: no test. Behind a transaction pooler (PgBouncer's
    `pool_mode = transaction`, the pooled address of a hosted database) there is
    no session state: workers find jobs only by polling, and the jobs of a killed worker wait
    for the end of their lease."""
    log_level: str = "info"
    """`debug`, `info`, `warning` or `error`."""
    log_format: str = "text"
    """`text` or `json`."""

    # Tracing
    otel_exporter_otlp_endpoint: Annotated[str | None, Unset("nowhere")] = Field(
        None, validation_alias=AliasChoices("OTEL_EXPORTER_OTLP_ENDPOINT")
    )
    """A collector such as `http://collector:4318`: spans of every request and job go there by
    OTLP over HTTP; OpenTelemetry's other variables apply too ([tracing](tracing.md))."""
    traces_content: bool = False
    """`true`: spans contain the texts sent to models, and their responses."""
    langfuse_public_key: Annotated[SecretStr | None, Unset("unset")] = Field(
        None, validation_alias=AliasChoices("LANGFUSE_PUBLIC_KEY")
    )
    """Public key of Langfuse."""
    langfuse_secret_key: Annotated[SecretStr | None, Unset("unset")] = Field(
        None, validation_alias=AliasChoices("LANGFUSE_SECRET_KEY")
    )
    """Secret key of Langfuse."""
    langfuse_base_url: Annotated[str | None, Unset("Langfuse's own cloud")] = Field(
        None, validation_alias=AliasChoices("LANGFUSE_BASE_URL", "LANGFUSE_HOST")
    )
    """Address of a self-hosted Langfuse."""

    @field_validator("database_url", "database_read_url")
    @classmethod
    def _postgres_url(cls, value: SecretStr | None) -> SecretStr | None:
        expected = None if value is None else expectation(value.get_secret_value())
        if expected is not None:
            raise ValueError(expected)
        return value

    @field_validator("redis_url")
    @classmethod
    def _redis_url(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and (expected := redis_expectation(value.get_secret_value())):
            raise ValueError(expected)
        return value

    @field_validator(
        "openai_base_url",
        "supabase_url",
        "oidc_issuer",
        "public_url",
        "rerank_url",
        "api_url",
        "otel_exporter_otlp_endpoint",
        "langfuse_base_url",
    )
    @classmethod
    def _http_url(cls, value: str | None) -> str | None:
        if value is not None and _scheme(value) not in ("http", "https"):
            raise ValueError("a URL that begins with http:// or https://")
        return value

    @field_validator("admin_key", "api_key")
    @classmethod
    def _sendable_key(cls, value: SecretStr | None) -> SecretStr | None:
        key = value.get_secret_value() if value is not None else "x" * KEY_CHARACTERS_MIN
        if len(key) < KEY_CHARACTERS_MIN or not (key.isascii() and key.isprintable()) or " " in key:
            raise ValueError(
                f"at least {KEY_CHARACTERS_MIN} characters that a header can carry, no spaces"
            )
        return value

    @field_validator("cors_origins")
    @classmethod
    def _origins(cls, value: str | None) -> str | None:
        for origin in _listed(value):
            parts = urlsplit(origin)
            if origin != f"{parts.scheme}://{parts.netloc}" or not parts.netloc:
                raise ValueError("origins such as https://app.example.com, separated by commas")
        return value

    @field_validator("log_level")
    @classmethod
    def _known_level(cls, value: str) -> str:
        levels = ("debug", "info", "warning", "error")
        if value.lower() not in levels:
            raise ValueError(f"one of {', '.join(levels)}")
        return value.lower()

    @field_validator("log_format")
    @classmethod
    def _known_format(cls, value: str) -> str:
        if value.lower() not in ("text", "json"):
            raise ValueError("text or json")
        return value.lower()

    @property
    def data_folder(self) -> Path:
        """The folder of the embedded PostgreSQL; not created here."""
        return self.data_dir or platformdirs.user_data_path("luma-memory", appauthor=False)

    @property
    def client_key(self) -> SecretStr | None:
        """The key that the command line sends to the service."""
        return self.api_key or self.admin_key

    @property
    def allowed_origins(self) -> list[str]:
        """Origins whose pages may call from a browser; none without the setting."""
        return _listed(self.cors_origins)

    @property
    def has_model_provider(self) -> bool:
        """Whether a model provider is configured; without one, the local provider is used."""
        return self.openai_api_key is not None or self.openai_base_url is not None

    @property
    def completion_models(self) -> list[str]:
        """The completion model and its fallbacks, in order of preference."""
        return [self.completion_model, *_listed(self.completion_fallback_models)]

    @property
    def has_completion_provider(self) -> bool:
        """The same for completions: another vendor has its own key."""
        return self.has_model_provider or ":" in self.completion_model


def _listed(value: str | None) -> list[str]:
    return [part.strip() for part in (value or "").split(",") if part.strip()]


def load_settings(**overrides: Any) -> Settings:
    """Settings from the environment; overrides (command-line arguments) win, None is no override.

    Raises SetupError naming each invalid variable and the expected value, never the given one: it
    may be a secret that ended up in the wrong place.
    """
    given = {name: value for name, value in overrides.items() if value is not None}
    try:
        return Settings(**given)
    except ValidationError as error:
        raise SetupError(_explain(error), code="wrong_setting") from None


def variable_names() -> list[str]:
    """Every environment variable that is read, in the order of the fields."""
    return [variable_name(field) for field in Settings.model_fields]


def variable_name(field: str) -> str:
    """The environment variable of a field."""
    alias = Settings.model_fields[field].validation_alias
    if isinstance(alias, AliasChoices):
        return str(alias.choices[0])
    return PREFIX + field.upper()


def unknown_variables(environment: Mapping[str, str] = os.environ) -> dict[str, str | None]:
    """MEMORY_* variables that are not settings, each with the nearest known name, if one is near.

    Other programs use the prefix too (systemd sets MEMORY_PRESSURE_WATCH), so this is a warning and
    never an error.
    """
    known = variable_names()
    return {
        name: next(iter(difflib.get_close_matches(name, known, n=1, cutoff=0.8)), None)
        for name in sorted(environment)
        if name.startswith(PREFIX) and name not in known and not name.startswith("MEMORY_PRESSURE_")
    }


def _explain(error: ValidationError) -> str:
    lines = []
    for problem in error.errors(include_input=False, include_url=False):
        field = str(problem["loc"][0])
        name = field if field.isupper() else variable_name(field)
        lines.append(f"{name} is wrong: it must be {_expectation(problem)}.")
    return " ".join(lines)


def _expectation(problem: ErrorDetails) -> str:
    match problem["type"]:
        case "bool_parsing" | "bool_type":
            return "true or false"
        case "int_parsing" | "int_from_float" | "int_type" | "int_parsing_size":
            return "a whole number"
        case "float_parsing" | "float_type" | "finite_number":
            return "a number"
        case _:
            return problem["msg"].removeprefix("Value error, ").removeprefix("Input should be ")


def _scheme(url: str) -> str | None:
    """None if it is not a URL; the parser's own message may quote a password."""
    try:
        return urlsplit(url).scheme
    except ValueError:
        return None
