"""The least that a process can do for a followed job: bench/streams.py has it in the API's place.

The same event loop, the same hints taken from Redis in the same way, a look into a dict, and one
write of the same bytes to the right one of the sockets. It knows no history, keeps nothing, checks
nothing, asks nobody and pings nobody. What it costs is the kernel's, the event loop's and hiredis'
share of what the API costs; the rest is ours.
"""

import argparse
import asyncio
import json
from typing import cast

import uvloop
from websockets.utils import accept_key

from api.listening import Listening
from api.wire import frame_head
from dev.ports import LOOPBACK
from jobs.hints import EVENTS

START, END = b'{"type":"event","id":"s","event":', b"}"
KEY = b"sec-websocket-key: "
OPENING = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
JOB_ID = slice(len('{"job_id":"'), len('{"job_id":"') + 36)  # of a hint
TEXT = 0x81  # the first byte of a whole text frame

Followers = dict[bytes, asyncio.Transport]


class _Socket(asyncio.Protocol):
    """A reader of bench/stream_readers.py, whose frames are never split and masked with zeroes."""

    def __init__(self, followers: Followers) -> None:
        self._followers, self._is_open = followers, False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if not self._is_open:
            self._is_open = True
            self._open(data)
        elif data[0] == TEXT:
            self._follow(json.loads(data[data.index(b"{") :]))

    def _open(self, head: bytes) -> None:
        found = [line for line in head.split(b"\r\n") if line.lower().startswith(KEY)]
        if not found:  # is anybody there?
            self._transport.write(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
            self._transport.close()
            return
        answer = f"{OPENING}Sec-WebSocket-Accept: {accept_key(found[0][len(KEY) :].decode())}"
        self._transport.write(f"{answer}\r\n\r\n".encode())

    def _follow(self, frame: dict[str, str]) -> None:
        self._followers[frame["stream"].removeprefix("job:").encode()] = self._transport
        said = b'{"type":"subscribed","id":"s"}'
        self._transport.write(frame_head(len(said)) + said)


async def serve(port: int, redis_port: int) -> None:
    """Until it is ended: nobody is answered before hints come."""
    loop, followers = asyncio.get_running_loop(), Followers()
    is_open = asyncio.Event()

    def hear(hint: bytes) -> None:
        if (to := followers.get(hint[JOB_ID])) is not None:
            said = START + hint + END
            to.write(frame_head(len(said)) + said)

    redis, _ = await loop.create_connection(asyncio.Protocol, LOOPBACK, redis_port)
    listening = Listening(redis, on_open=is_open.set, on_message=hear)
    redis.write(f"SUBSCRIBE {EVENTS}\r\n".encode())
    await is_open.wait()
    server = await loop.create_server(lambda: _Socket(followers), LOOPBACK, port, backlog=2048)
    async with server:
        raise await listening.is_over


def main() -> None:
    """Serves until it is ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--redis-port", type=int, required=True)
    options = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(options.port, options.redis_port))


if __name__ == "__main__":
    main()
