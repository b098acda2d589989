"""Who asks: the key of a request, checked against the database and remembered for a moment."""

import asyncio
import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from structlog.contextvars import get_contextvars

from api.database import Database
from api.problems import Problem
from jobs.errors import DatabaseUnavailable
from jobs.keys.limits import KeyLimits, allows
from jobs.keys.scopes import Scope, opened_by
from jobs.keys.store import UNLIMITED, delete_key, find_key, touch_key
from jobs.keys.text import KeyText, parse_key
from jobs.trail.record import Actor, Deed

REMEMBERED = 5.0  # seconds: so long may a key that another process deleted go on
TRUSTED = 600.0  # seconds: so long while the database is away, when nothing can be done anyway
MOST_REMEMBERED = 10_000  # keys

CHALLENGE = 'Bearer realm="lading"'


@dataclass(frozen=True, slots=True)
class Principal:
    """Whose jobs a request may touch, and how."""

    project_id: str
    key_id: str
    name: str  #: the key's
    scopes: frozenset[str]
    limits: KeyLimits = UNLIMITED

    def actor(self, address: str | None = None) -> Actor:
        """The same as the audit trail names them, in the request that is being answered."""
        request_id = get_contextvars().get("request_id")
        return Actor(self.project_id, self.key_id, self.name, request_id, address)

    def require(self, scope: Scope) -> None:
        """The key has that scope, or Problem 403."""
        if scope not in self.scopes:
            raise Problem("insufficient-scope", f"This needs a key with the scope {scope}.")

    def require_kind(self, kind: str) -> None:
        """The key may run jobs of the kind, or Problem 403."""
        if not allows(self.limits.kinds, kind):
            allowed = ", ".join(self.limits.kinds or ())
            detail = f"This key may not run {kind!r:.200}, only {allowed}."
            raise Problem("kind-not-allowed", detail, kind=kind)


class Keyring:
    """The keys that have been good within the last seconds. For the event loop's thread alone."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.monotonic) -> None:
        self._database, self._clock = database, clock
        #: By the SHA-256 of their headers; and when that was asked.
        self._good: dict[bytes, tuple[Principal, float]] = {}
        self._asked: dict[bytes, asyncio.Task[Principal | None]] = {}
        self._touching: set[asyncio.Task[None]] = set()

    async def authenticate(self, authorization: str | None) -> Principal:
        """The principal of an `Authorization` header. Problem 401; DatabaseUnavailable."""
        if not authorization:
            raise _refused("An API key is needed: Authorization: Bearer <key>.", CHALLENGE)
        # What is remembered is no key, and found without taking one apart.
        digest = hashlib.sha256(authorization.encode()).digest()
        principal, asked_at = self._good.get(digest, (None, 0.0))
        if principal is None or self._clock() - asked_at > REMEMBERED:
            principal = await self._ask(authorization, digest)
        if principal is None:
            raise invalid_key()
        return principal

    async def delete(self, actor: Actor, key_id: str) -> None:
        """The key is no more; this process knows at once, others within seconds. KeyMissing."""
        deed = Deed("key.delete", key_id)
        await self._database.change(actor, deed, delete_key, actor.project_id, key_id)
        self._good = {
            digest: known for digest, known in self._good.items() if known[0].key_id != key_id
        }

    async def _ask(self, authorization: str, digest: bytes) -> Principal | None:
        """However many requests bring the key at the same time, the database is asked once."""
        scheme, _, text = authorization.partition(" ")
        key = parse_key(text.strip()) if scheme.lower() == "bearer" else None
        if key is None:
            return None
        task = self._asked.get(digest)
        if task is None:
            task = self._asked[digest] = asyncio.create_task(self._look_up(key, digest))
            task.add_done_callback(lambda _: self._asked.pop(digest))
        return await asyncio.shield(task)

    async def _look_up(self, key: KeyText, digest: bytes) -> Principal | None:
        try:
            found = await self._database.run(find_key, key)
        except DatabaseUnavailable:
            known, asked_at = self._good.get(digest, (None, 0.0))
            if known is None or self._clock() - asked_at > TRUSTED or _has_expired(known):
                raise
            return known
        if found is None:
            self._good.pop(digest, None)
            return None
        scopes = opened_by(found.scopes)
        principal = Principal(found.project_id, found.id, found.name, scopes, found.limits)
        if len(self._good) >= MOST_REMEMBERED:
            self._good.clear()
        self._good[digest] = (principal, self._clock())
        touching = asyncio.create_task(self._touch(found.id))
        self._touching.add(touching)
        touching.add_done_callback(self._touching.discard)
        return principal

    async def _touch(self, key_id: str) -> None:
        """That the key was used is written beside the request, not in it."""
        try:
            await self._database.run(touch_key, key_id)
        except DatabaseUnavailable:
            return  # the next look-up writes it


def _has_expired(principal: Principal) -> bool:
    """By this machine's clock: the database's, which counts else, cannot be asked."""
    expires_at = principal.limits.expires_at
    return expires_at is not None and expires_at <= datetime.now(UTC)


def invalid_key() -> Problem:
    """What a key is told that does not exist, or does not any more."""
    detail = "The API key is not valid."
    return _refused(detail, f'{CHALLENGE}, error="invalid_token", error_description="{detail}"')


def _refused(detail: str, challenge: str) -> Problem:
    return Problem("unauthenticated", detail, headers={"WWW-Authenticate": challenge})
