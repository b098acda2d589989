"""The client that waits in its thread."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing
from typing import Any, Self, TypeVar

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


class Client(Verbs):
    """Lading, for programs. It may be shared by threads; close it, or use it in `with`.

    Without `url` and `api_key` it looks for LADING_URL and LADING_API_KEY, then for the
    `.lading/dev.json` that `make dev` writes. A call that fails in a way that may pass is sent
    again for up to `patience` seconds, each try of which may take `timeout` seconds. `transport`
    is httpx2's, for proxies and certificates of one's own.

    Every verb raises LadingError: a subclass for what the server says, or Unreachable.
    """

    def __init__(
        self,
        url: str | None = None,
        api_key: str | None = None,
        *,
        timeout: float = 15.0,
        patience: float = 60.0,
        transport: httpx2.BaseTransport | None = None,
    ) -> None:
        address = find_address(url, api_key)
        self.url = address.url
        self._http = httpx2.Client(transport=transport, **wire.defaults(address, timeout))
        self._timeout = timeout
        self._patience = patience

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Its connections are closed."""
        self._http.close()

    def _run(self, call: Call[T]) -> T:
        with closing(call), _Line(self._http, self._timeout) as line:
            reply: Any = None
            while True:
                try:
                    action = call.send(reply)
                except StopIteration as end:
                    result: T = end.value
                    return result
                reply = line.perform(action)

    def _iterate(self, series: Series[Item]) -> Iterator[Item]:
        with closing(series), _Line(self._http, self._timeout) as line:
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
                    reply = line.perform(action)


class _Line:
    """Performs the actions of one call; it holds at most one open stream."""

    def __init__(self, http: httpx2.Client, timeout: float) -> None:
        self._http, self._timeout = http, timeout
        self._stream = ExitStack()
        self._messages: Iterator[httpx2.ServerSentEvent] = iter(())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()

    def perform(self, action: Action) -> Any:
        match action:
            case Pause(seconds):
                time.sleep(seconds)
                return None
            case Work(function):
                return function()
        try:
            return self._exchange(action)
        except wire.BROKEN as error:
            return wire.lost(error)

    def _exchange(self, action: Action) -> Answer | Lost | Message | None:
        match action:
            case Send(request):
                return self._send(request)
            case Fetch(request, sink):
                return self._fetch(request, sink.begin, sink.write)
            case Listen(request):
                return self._listen(request)
            case Hear():
                message = next(self._messages, None)
                return None if message is None else wire.message_of(message)
        raise AssertionError(action)

    def _send(self, request: Request) -> Answer:
        with wire.opened(request.upload) as source:
            response = self._http.request(**wire.sending(request, self._timeout, source))
        return wire.answer_of(response, response.content)

    def _fetch(
        self,
        request: Request,
        begin: Callable[[int, Mapping[str, str]], None],
        write: Callable[[bytes], None],
    ) -> Answer:
        with self._http.stream(**wire.sending(request, self._timeout, None)) as response:
            if not response.is_success:
                return wire.answer_of(response, response.read())
            answer = wire.answer_of(response)
            begin(answer.status, answer.headers)
            for chunk in response.iter_bytes():
                write(chunk)
        return answer

    def _listen(self, request: Request) -> Answer:
        self._stream.close()
        asked = wire.sending(request, self._timeout, None)
        asked["timeout"] = wire.LISTENING
        response = self._stream.enter_context(self._http.stream(**asked))
        if not wire.is_stream(response):
            return wire.answer_of(response, response.read())
        self._messages = iter(httpx2.EventSource(response, wire.LARGEST_EVENT))
        return wire.answer_of(response)
