"""Who follows events here under a consumer's name, and whether that is theirs still.

PostgreSQL has the word: another process may have let somebody else take the place. Who has lost it
is told within CHECK_EVERY, at once when a hint comes; what he acknowledges until then is refused.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Self

import structlog
from sqlalchemy.exc import DBAPIError

from api.background import Background
from api.database import Database
from api.hub import Hub, Topic
from jobs.bus import consumers
from jobs.bus.consumers import Consumer, Joined, Loss
from jobs.errors import ConsumerDeleted, ConsumerMissing, ConsumerTaken, DatabaseUnavailable
from jobs.feed import Position
from jobs.hints import Hints
from jobs.trail.record import Actor, Deed

CHECK_EVERY = 1.0  # seconds
GATHER = 0.05  # seconds in which hints share a look

_log = structlog.get_logger(__name__)


class Member:
    """Somebody who follows under a name."""

    def __init__(self, database: Database, project_id: str, name: str, joined: Joined) -> None:
        self.name, self.id = name, joined.id
        self.position = Position.parse(joined.position)  #: that was acknowledged when he came
        self.project_id = project_id
        self.loss: Loss | None = None  #: another has taken the place, or the consumer was deleted
        self.when_lost: Callable[[], None] = lambda: None
        self._database = database

    async def acknowledge(self, position: Position) -> Consumer:
        """Who follows under the name next begins there, or further on if he acknowledged that.

        ConsumerTaken, ConsumerMissing, PositionUnknown.
        """
        try:
            return await self._database.transact(
                consumers.acknowledge, self.project_id, self.name, self.id, position
            )
        except ConsumerTaken as loss:
            self.lose(loss)
            raise
        except ConsumerMissing:
            self.lose(ConsumerDeleted(self.name))
            raise

    async def restart(self, position: Position) -> None:
        """What he does not acknowledge comes again from there."""
        await self._database.transact(
            consumers.restart, self.project_id, self.name, self.id, position
        )

    def lose(self, loss: Loss) -> None:
        """The place is not his any more."""
        self.loss = loss
        self.when_lost()


class Members:
    """An async context manager, for as long as the process serves."""

    def __init__(self, database: Database, hub: Hub, hints: Hints) -> None:
        self._database, self._hub, self._hints = database, hub, hints
        self._members: set[Member] = set()
        self._wanted, self._due = asyncio.Event(), asyncio.Event()
        self._background = Background()

    async def __aenter__(self) -> Self:
        self._background.begin("members", self._check())
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._background.end()

    @asynccontextmanager
    async def join(
        self, actor: Actor, name: str, patterns: Sequence[str], position: Position
    ) -> AsyncIterator[Member]:
        """The consumer's newest member; if there is no such consumer, it begins at the position.

        DatabaseUnavailable before anything else.
        """
        created = Deed("consumer.create", name, {"types": [*patterns]})
        joined = await self._database.change(
            actor,
            lambda made: created if made.is_new else None,
            consumers.join,
            actor.project_id,
            name,
            patterns,
            position.text(),
        )
        member = Member(self._database, actor.project_id, name, joined)
        self._members.add(member)
        self._wanted.set()
        if not joined.is_new:
            self._hints.tell_published()  # so that who was it before looks
        try:
            yield member
        finally:
            self._members.discard(member)
            if not self._members:
                self._wanted.clear()

    async def _check(self) -> None:
        while True:
            await self._wanted.wait()
            with self._hub.hints(self._due.set, Topic.BUS):
                while self._wanted.is_set():
                    await self._pause()
                    with suppress(DatabaseUnavailable, DBAPIError):
                        await self._look()

    async def _pause(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(CHECK_EVERY):
                await self._due.wait()
                await asyncio.sleep(GATHER)
        self._due.clear()

    async def _look(self) -> None:
        asked = {member.id: member for member in self._members if member.loss is None}
        if not asked:
            return
        members = [(each.id, each.project_id, each.name) for each in asked.values()]
        for member_id, loss in (await self._database.run(consumers.find_lost, members)).items():
            _log.info("somebody follows no more", cause=str(loss))
            asked[member_id].lose(loss)
