"""The client that is awaited: the same verbs as in lading/client/blocking.py."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, closing
from typing import Any, Self, TypeVar

import anyio
import anyio.to_thread
import httpx2

from lading.client import wire
from lading.client.address import find_address
from lading.client.exchange import (
    Action,
    Answer,
    Call,
    Emit,
    Fetch,
    Hear,
    Listen,
    Lost,
    Message,
    Pause,
    Request,
    Send,
    Series,
    Work,
)
from lading.client.verbs import Verbs

T = TypeVar("T")
Item = TypeVar("Item")

CHUNK = 256 * 1024  # bytes; each is a trip to a thread


class AsyncClient(Verbs):
    """Lading, for programs that await. Close it, or use it in `async with`; see Client."""

    def __init__(
        self,
        url: str | None = None,
        api_key: str | None = None,
        *,
        timeout: float = 15.0,
        patience: float = 60.0,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        address = find_address(url, api_key)
        self.url = address.url
        self._http = httpx2.AsyncClient(transport=transport, **wire.defaults(address, timeout))
        self._timeout = timeout
        self._patience = patience

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Its connections are closed."""
        await self._http.aclose()

    async def _run(self, call: Call[T]) -> T:
        with closing(call):
            async with _Line(self._http, self._timeout) as line:
                reply: Any = None
                while True:
                    try:
                        action = call.send(reply)
                    except StopIteration as end:
                        result: T = end.value
                        return result
                    reply = await line.perform(action)

    async def _iterate(self, series: Series[Item]) -> AsyncIterator[Item]:
        with closing(series):
            async with _Line(self._http, self._timeout) as line:
                reply: Any = None
                while True:
                    try:
                        action = series.send(reply)
                    except StopIteration:
                        return
                    if isinstance(action, Emit):
                        yield action.item
                        reply = None
                    else:
                        reply = await line.perform(action)


class _Line:
    """Performs the actions of one call; it holds at most one open stream."""

    def __init__(self, http: httpx2.AsyncClient, timeout: float) -> None:
        self._http, self._timeout = http, timeout
        self._stream = AsyncExitStack()
        self._messages: AsyncIterator[httpx2.ServerSentEvent] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stream.aclose()

    async def perform(self, action: Action) -> Any:
        match action:
            case Pause(seconds):
                await anyio.sleep(seconds)
                return None
            case Work(function):
                return await anyio.to_thread.run_sync(function)
        try:
            return await self._exchange(action)
        except wire.BROKEN as error:
            return wire.lost(error)

    async def _exchange(self, action: Action) -> Answer | Lost | Message | None:
        match action:
            case Send(request):
                return await self._send(request)
            case Fetch(request, sink):
                return await self._fetch(request, sink.begin, sink.write)
            case Listen(request):
                return await self._listen(request)
            case Hear() if self._messages is not None:
                message = await anext(self._messages, None)
                return None if message is None else wire.message_of(message)
        raise AssertionError(action)

    async def _send(self, request: Request) -> Answer:
        with wire.opened(request.upload) as source:
            response = await self._http.request(**wire.sending(request, self._timeout, source))
        return wire.answer_of(response, response.content)

    async def _fetch(
        self,
        request: Request,
        begin: Callable[[int, Mapping[str, str]], None],
        write: Callable[[bytes], None],
    ) -> Answer:
        async with self._http.stream(**wire.sending(request, self._timeout, None)) as response:
            if not response.is_success:
                return wire.answer_of(response, await response.aread())
            answer = wire.answer_of(response)
            await anyio.to_thread.run_sync(begin, answer.status, answer.headers)
            async for chunk in response.aiter_bytes(CHUNK):
                await anyio.to_thread.run_sync(write, chunk)
        return answer

    async def _listen(self, request: Request) -> Answer:
        await self._stream.aclose()
        asked = wire.sending(request, self._timeout, None)
        asked["timeout"] = wire.LISTENING
        response = await self._stream.enter_async_context(self._http.stream(**asked))
        if not wire.is_stream(response):
            return wire.answer_of(response, await response.aread())
        self._messages = aiter(httpx2.EventSource(response, wire.LARGEST_EVENT))
        return wire.answer_of(response)
