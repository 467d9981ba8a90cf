"""Erase a user permanently and issue a receipt; verify receipts."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from typing import Final

from luma_memory.concurrency.retries import jittered
from luma_memory.domain.clock import Clock
from luma_memory.domain.erasure import Erasure, Receipt, Verdict
from luma_memory.domain.errors import StoreContended
from luma_memory.domain.ids import IdMaker
from luma_memory.domain.scope import Scope
from luma_memory.ports.archive import EraserStore
from luma_memory.ports.cache import ScopeCache

# A job of the user may be completing concurrently, which takes milliseconds.
RETRY_SECONDS: Final = 20.0
_WAIT_SECONDS: Final = 0.05


class Erasing:
    """secret: of this installation; it signs the receipts. caches: other copies of users' data."""

    def __init__(
        self, store: EraserStore, *, secret: bytes, caches: tuple[ScopeCache, ...], clock: Clock
    ) -> None:
        self._store = store
        self._secret = secret
        self._caches = caches
        self._clock = clock
        self._ids = IdMaker()

    async def erase(self, scope: Scope, *, key: str | None) -> Receipt:
        """Delete all data of a user, also while other processes write to it.

        key: identifies this request; a repetition returns the first receipt and erases nothing.
        Data sent for the user afterwards is new. Raises StoreUnavailable; then repeat the call.
        """
        key_digest = self._key_digest(key)
        if key_digest is not None and (done := await self._found(scope, key_digest)):
            return done
        started_at, erasure_id = self._clock.now(), self._ids.make()
        swept, last_job = await self._store.sweep_jobs(scope)
        cached = await self._forget(scope)
        give_up_at = self._clock.monotonic() + RETRY_SECONDS
        while True:
            try:
                erasure = await self._store.erase(
                    scope,
                    erasure_id=erasure_id,
                    key_digest=key_digest,
                    started_at=started_at,
                    last_job=last_job,
                    swept=swept,
                    cached=cached,
                )
                break
            except StoreContended:
                if self._clock.monotonic() > give_up_at:
                    raise
            await asyncio.sleep(jittered(_WAIT_SECONDS))
        # A context that was being computed may have been cached after the first call.
        await self._forget(scope)
        if erasure is None:
            assert key_digest is not None
            done = await self._found(scope, key_digest)
            assert done is not None
            return done
        return Receipt(erasure, scope, self._signature(erasure, scope))

    async def verify(self, receipt: Receipt) -> Verdict:
        """Whether this installation issued the receipt, and what data of the user is left."""
        scope = receipt.scope
        expected = self._signature(receipt.erasure, scope)
        recorded = await self._store.find(scope, erasure_id=receipt.erasure.id, key=None)
        is_signed = hmac.compare_digest(expected, receipt.signature)
        remains = await self._store.remains(scope)
        since = remains.stored_since
        return Verdict(
            is_genuine=is_signed and recorded == receipt.erasure,
            remaining=remains.counts,
            stored_again_at=since if since and since > receipt.erasure.erased_at else None,
        )

    async def _found(self, scope: Scope, key_digest: bytes) -> Receipt | None:
        erasure = await self._store.find(scope, erasure_id=None, key=key_digest)
        return Receipt(erasure, scope, self._signature(erasure, scope)) if erasure else None

    async def _forget(self, scope: Scope) -> int:
        return sum([await cache.forget(scope) for cache in self._caches])

    def _key_digest(self, key: str | None) -> bytes | None:
        return None if key is None else self._hmac("key", key)

    def _signature(self, erasure: Erasure, scope: Scope) -> str:
        return self._hmac(
            "receipt",
            str(erasure.id),
            scope.project_id,
            scope.user_id,
            json.dumps(erasure.counts, sort_keys=True),
            erasure.started_at.isoformat(),
            erasure.erased_at.isoformat(),
        ).hex()

    def _hmac(self, *parts: str) -> bytes:
        # As JSON, so that different lists never have the same encoding.
        return hmac.digest(self._secret, json.dumps(parts).encode(), hashlib.sha256)
