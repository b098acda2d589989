"""Server-Sent Events (WHATWG HTML, section 9.2), of a job among others."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import structlog
from fastapi.sse import KEEPALIVE_COMMENT, EventSourceResponse, format_sse_event
from starlette.types import Message, Receive, Scope, Send

from api.follower import Follower
from api.revocation import Standing

KEEP_ALIVE = 15.0  # seconds of silence before a comment; proxies cut after 60
RECONNECT_AFTER = 2000  # milliseconds, when the connection was lost
BACK_AFTER = 1000  # milliseconds, when this server ends and another one takes over
STALLED = 60.0  # seconds in which a client takes nothing; then it is let go

BYE = format_sse_event(event="bye", data_str=f'{{"retry_after_ms":{BACK_AFTER}}}', retry=BACK_AFTER)
_log = structlog.get_logger(__name__)


class EventStream(EventSourceResponse):
    """A response of Server-Sent Events; who takes nothing of it for long is let go."""

    def __init__(self, chunks: AsyncIterator[bytes], resources: AsyncExitStack) -> None:
        """`resources` are closed with the response."""
        headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no", "Vary": "Accept"}
        super().__init__(chunks, headers=headers)
        self._resources = resources

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_in_time(message: Message) -> None:
            async with asyncio.timeout(STALLED):
                await send(message)

        async with self._resources:
            try:
                await super().__call__(scope, receive, send_in_time)
            except TimeoutError:
                _log.info("a client of an event stream takes nothing", path=scope["path"])


async def chunks_of(follower: Follower, key: Standing) -> AsyncIterator[bytes]:
    """What the follower reads, until it is over, or `bye` when the process is told to end.

    It just ends where its key is not good any more: whoever comes back is told so.
    """
    yield format_sse_event(retry=RECONNECT_AFTER)
    while True:
        events = await follower.read(KEEP_ALIVE)
        if events:
            yield b"".join(
                format_sse_event(data_str=event.json, event=event.type, id=str(event.seq))
                for event in events
            )
        elif follower.is_over or follower.is_gone or key.is_revoked:
            return
        elif follower.is_stopped:
            yield BYE
            return
        else:
            yield KEEPALIVE_COMMENT
