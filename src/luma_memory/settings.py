"""One frozen Settings object, read from the environment when somebody asks for it.

Names and defaults are a contract with operators (docs/settings.md). Importing this module and
building the object change nothing: no connections, no directories, no logging set-up.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import parse_qs, urlsplit

from pydantic import AliasChoices, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from luma_memory.domain.errors import SetupError

PREFIX = "MEMORY_"
# Chosen by a person perhaps, so that its length is all that stands against guessing.
KEY_CHARACTERS_MIN = 24
_PORT_MAX = 65_535
_HOST_LABEL_MAX = 63  # RFC 1035
Milliseconds = Annotated[int, Field(ge=1, le=86_400_000)]


class Settings(BaseSettings):
    """Everything that can be configured, checked once at the door."""

    model_config = SettingsConfigDict(
        frozen=True, extra="ignore", env_prefix=PREFIX, populate_by_name=True, env_ignore_empty=True
    )

    # Connections (no prefix: hosted platforms set these names)
    database_url: SecretStr | None = Field(None, validation_alias=AliasChoices("DATABASE_URL"))
    openai_api_key: SecretStr | None = Field(None, validation_alias=AliasChoices("OPENAI_API_KEY"))
    openai_base_url: str | None = Field(None, validation_alias=AliasChoices("OPENAI_BASE_URL"))
    redis_url: SecretStr | None = Field(None, validation_alias=AliasChoices("REDIS_URL"))
    supabase_url: str | None = Field(None, validation_alias=AliasChoices("SUPABASE_URL"))
    supabase_service_role_key: SecretStr | None = Field(
        None, validation_alias=AliasChoices("SUPABASE_SERVICE_ROLE_KEY")
    )

    # Switches
    system_enabled: bool = True
    enrichment_enabled: bool = True
    embedding_enabled: bool = True
    context_vectors_enabled: bool = True
    relations_enabled: bool = False
    synthesis_enabled: bool = True
    weekly_summaries_enabled: bool = True
    langfuse_enabled: bool = False
    worker_enabled: bool = True
    fail_fast: bool = False
    auth_disabled: bool = False

    # Credentials
    admin_key: SecretStr | None = None
    api_key: SecretStr | None = None

    # Models
    completion_model: str = "gpt-4o-mini"
    completion_fallback_models: str | None = None
    embedding_model: str = "text-embedding-3-small"
    embedding_dimension: int | None = Field(None, ge=1, le=3_500)
    local_model: str | None = None
    model_cache_dir: Path | None = None
    provider_timeout_ms: Milliseconds = 20_000

    # Queue and worker
    retry_attempts: int = Field(3, ge=1, le=100)
    retry_backoff_ms: Milliseconds = 1_000
    worker_poll_interval_ms: Milliseconds = 1_000
    worker_max_concurrent_jobs: int = Field(5, ge=1, le=1_000)
    worker_job_timeout_ms: Milliseconds = 30_000
    worker_health_check_interval_ms: Milliseconds = 60_000

    completed_job_retention_hours: int = Field(24, ge=1, le=87_600)
    failed_job_retention_hours: int = Field(720, ge=1, le=87_600)

    # Recall and limits
    cache_ttl_seconds: int = Field(3_600, ge=1, le=31_536_000)
    cache_timeout_ms: int = Field(40, ge=1, le=10_000)
    cache_memory_mb: int = Field(64, ge=1, le=65_536)
    context_token_budget: int = Field(2_000, ge=50, le=100_000)
    max_context_blocks: int = Field(10, ge=1, le=200)
    requests_per_minute: int = Field(0, ge=0, le=10_000_000)
    concurrent_requests_max: int = Field(256, ge=1, le=100_000)
    request_timeout_ms: Milliseconds = 30_000
    similarity_threshold: float = Field(0.75, ge=0, le=1, allow_inf_nan=False)
    relation_detection_rate_limit: int = Field(5, ge=0)
    daily_budget_calls: int | None = Field(None, ge=0)
    daily_budget_tokens: int | None = Field(None, ge=0)
    daily_budget_usd: Decimal | None = Field(None, ge=0, allow_inf_nan=False)

    # Process
    host: str = "127.0.0.1"
    port: int = Field(8080, ge=0, le=65_535)
    cors_origins: str | None = None
    stop_with_parent: bool = False
    worker_metrics_port: int | None = Field(None, ge=1, le=65_535)
    data_dir: Path | None = None
    database_pool_size: int = Field(8, ge=2, le=200)
    database_pooler: Literal["auto", "transaction", "none"] = "auto"
    log_level: str = "info"
    log_format: str = "text"

    @field_validator("database_url")
    @classmethod
    def _postgres_url(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not _is_postgres_address(value.get_secret_value()):
            raise ValueError(
                "a URL such as postgresql://user:password@host:5432/name, in whose password the"
                " signs / # ? @ : are written %2F %23 %3F %40 %3A"
            )
        return value

    @field_validator("redis_url")
    @classmethod
    def _redis_url(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and _scheme(value.get_secret_value()) not in (
            "redis",
            "rediss",
            "unix",
        ):
            raise ValueError("a URL that begins with redis://, rediss:// or unix://")
        return value

    @field_validator("openai_base_url", "supabase_url")
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
                f"at least {KEY_CHARACTERS_MIN} characters that can stand in a header, no spaces"
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
    def client_key(self) -> SecretStr | None:
        """What this machine's own commands show to the service."""
        return self.api_key or self.admin_key

    @property
    def allowed_origins(self) -> list[str]:
        """Whose pages may call from a browser; nobody's without the setting."""
        return _listed(self.cors_origins)

    @property
    def has_model_provider(self) -> bool:
        """Whether a model provider is configured; without one, the local provider does the work."""
        return self.openai_api_key is not None or self.openai_base_url is not None

    @property
    def completion_models(self) -> list[str]:
        """The model that enriches, and those that stand in for it, in their order."""
        return [self.completion_model, *_listed(self.completion_fallback_models)]

    @property
    def has_completion_provider(self) -> bool:
        """The same for enrichment: another vendor by its name has its own key."""
        return self.has_model_provider or ":" in self.completion_model


def _listed(value: str | None) -> list[str]:
    return [part.strip() for part in (value or "").split(",") if part.strip()]


def load_settings(**overrides: Any) -> Settings:
    """Settings from the environment; overrides (command-line arguments) win, None is no override.

    Raises SetupError naming each wrong variable and what it may be, never its value: it may be a
    secret that ended up in the wrong place.
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
    """MEMORY_* variables nobody reads, each with the nearest known name, if one is near.

    Others use the prefix too (systemd sets MEMORY_PRESSURE_WATCH), so this is worth a warning and
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
        expected = problem["msg"].removeprefix("Value error, ")
        lines.append(f"{name} is wrong: it must be {_as_expectation(expected)}.")
    return " ".join(lines)


def _as_expectation(message: str) -> str:
    prefix = "Input should be "
    if message.startswith(prefix):
        return message.removeprefix(prefix)
    return message


def _scheme(url: str) -> str | None:
    """None where it is no URL at all; the parser's own words may quote a password."""
    try:
        return urlsplit(url).scheme
    except ValueError:
        return None


def _is_postgres_address(url: str) -> bool:
    """Whether the driver can read it; a bare / # or ? in a password makes something else of it."""
    if _scheme(url) not in ("postgres", "postgresql"):
        return False
    parts = urlsplit(url)
    try:
        parse_qs(parts.query, strict_parsing=bool(parts.query))
    except ValueError:
        return False
    hosts = parts.netloc.rpartition("@")[2]
    return not parts.fragment and all(_is_host(host) for host in hosts.split(","))


def _is_host(host: str) -> bool:
    """A name or an address, with or without a port; nothing stands for the local socket."""
    name, separator, port = host.rpartition(":")
    if not separator or port.endswith("]"):
        name, port = host, ""
    labels = name.strip("[]").split(".")
    if any(len(label) > _HOST_LABEL_MAX for label in labels):
        return False
    return not port or (port.isascii() and port.isdecimal() and 0 < int(port) <= _PORT_MAX)
