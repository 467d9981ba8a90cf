"""The Python SDK: call a Luma Memory service over HTTP.

    with MemoryClient("http://127.0.0.1:8080", api_key=key) as memory:
        memory.ingest_block_async({"user_id": "ada", "content": "I moved to Lisbon."})
        print(memory.get_context("Where does Ada live?", user_id="ada").text)

`MemoryClient` blocks, `AsyncMemoryClient` is for asyncio; they have the same methods, because the
first is generated from the second. Results are the wire models, errors form one tree with stable
codes. No server module is imported: the client needs httpx2 and pydantic only. See docs/sdk.md.
"""

from luma_memory.client.asynchronous.client import AsyncMemoryClient
from luma_memory.client.responses import ProblemResponse
from luma_memory.client.retries import NO_RETRIES, Retries
from luma_memory.client.synchronous.client import MemoryClient
from luma_memory.client.webhook_events import verify_webhook
from luma_memory.domain.errors import (
    Conflict,
    Forbidden,
    Invalid,
    InvariantError,
    LumaMemoryError,
    NotFound,
    PreconditionFailed,
    ProviderPaused,
    ProviderRejected,
    ProviderResponseInvalid,
    ProviderTimeout,
    ProviderUnavailable,
    QuotaExceeded,
    RateLimited,
    RejectedError,
    RequestError,
    SearchTimeout,
    SetupError,
    StoreContended,
    StoreUnavailable,
    Unauthenticated,
    UnavailableError,
)
from luma_memory.protocol.blocks import (
    AcceptedBody,
    BatchItem,
    BatchItemError,
    BatchResponse,
    BlockBody,
    BlockEditBody,
    BlockPageBody,
    EntityBody,
    NewBlockBody,
    RevisionBody,
    RevisionPageBody,
)
from luma_memory.protocol.context import (
    CacheStatsBody,
    CitationBody,
    ContextBlockBody,
    ContextResponse,
)
from luma_memory.protocol.deletions import DeleteBlocksResponse
from luma_memory.protocol.health import HealthBody
from luma_memory.protocol.history import HistoryBody
from luma_memory.protocol.items import (
    ItemBatchResponse,
    ItemBody,
    ItemOperationResult,
    ItemPageBody,
    NamespacePageBody,
    WrittenItemBody,
)
from luma_memory.protocol.jobs import (
    CancelResponse,
    JobBody,
    JobPageBody,
    JobStatsBody,
    RetryResponse,
)
from luma_memory.protocol.keys import CurrentKeyBody, KeyBody, KeyPageBody
from luma_memory.protocol.problem import FieldProblem, Problem
from luma_memory.protocol.providers import ProviderBody, ProviderErrorBody
from luma_memory.protocol.relations import RelationBody, RelationPageBody
from luma_memory.protocol.search import SearchHitBody, SearchResponse
from luma_memory.protocol.settings import SettingBody
from luma_memory.protocol.summaries import HighlightBody, SummaryBody, SummaryPageBody
from luma_memory.protocol.usage import UsageBody
from luma_memory.protocol.users import (
    ImportedBody,
    ImportProblemBody,
    ImportReportBody,
    ImportSampleBody,
    ReceiptBody,
    SessionBody,
    SessionPageBody,
    TermBody,
    TermProfileBody,
    UserBody,
    UserCountsBody,
    UserEditBody,
    UserEntryBody,
    UserPageBody,
)
from luma_memory.protocol.webhooks import (
    DeliveryBody,
    DeliveryPageBody,
    EventBody,
    StreamedEventBody,
    WebhookBody,
)

__all__ = [
    "NO_RETRIES",
    "AcceptedBody",
    "AsyncMemoryClient",
    "BatchItem",
    "BatchItemError",
    "BatchResponse",
    "BlockBody",
    "BlockEditBody",
    "BlockPageBody",
    "CacheStatsBody",
    "CancelResponse",
    "CitationBody",
    "Conflict",
    "ContextBlockBody",
    "ContextResponse",
    "CurrentKeyBody",
    "DeleteBlocksResponse",
    "DeliveryBody",
    "DeliveryPageBody",
    "EntityBody",
    "EventBody",
    "FieldProblem",
    "Forbidden",
    "HealthBody",
    "HighlightBody",
    "HistoryBody",
    "ImportProblemBody",
    "ImportReportBody",
    "ImportSampleBody",
    "ImportedBody",
    "Invalid",
    "InvariantError",
    "ItemBatchResponse",
    "ItemBody",
    "ItemOperationResult",
    "ItemPageBody",
    "JobBody",
    "JobPageBody",
    "JobStatsBody",
    "KeyBody",
    "KeyPageBody",
    "LumaMemoryError",
    "MemoryClient",
    "NamespacePageBody",
    "NewBlockBody",
    "NotFound",
    "PreconditionFailed",
    "Problem",
    "ProblemResponse",
    "ProviderBody",
    "ProviderErrorBody",
    "ProviderPaused",
    "ProviderRejected",
    "ProviderResponseInvalid",
    "ProviderTimeout",
    "ProviderUnavailable",
    "QuotaExceeded",
    "RateLimited",
    "ReceiptBody",
    "RejectedError",
    "RelationBody",
    "RelationPageBody",
    "RequestError",
    "Retries",
    "RetryResponse",
    "RevisionBody",
    "RevisionPageBody",
    "SearchHitBody",
    "SearchResponse",
    "SearchTimeout",
    "SessionBody",
    "SessionPageBody",
    "SettingBody",
    "SetupError",
    "StoreContended",
    "StoreUnavailable",
    "StreamedEventBody",
    "SummaryBody",
    "SummaryPageBody",
    "TermBody",
    "TermProfileBody",
    "Unauthenticated",
    "UnavailableError",
    "UsageBody",
    "UserBody",
    "UserCountsBody",
    "UserEditBody",
    "UserEntryBody",
    "UserPageBody",
    "WebhookBody",
    "WrittenItemBody",
    "verify_webhook",
]

# Former names, for one version.
_RENAMED: dict[str, type] = {
    "BatchAnswer": BatchResponse,
    "ContextAnswer": ContextResponse,
    "ProblemAnswer": ProblemResponse,
    "RetryAnswer": RetryResponse,
    "SearchAnswer": SearchResponse,
}


def __getattr__(name: str) -> type:
    if name in _RENAMED:
        return _RENAMED[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
