"""Pings of the WebSocket protocol: a peer that does not answer one until the next is cut off.

One timer for all sockets, each of which has its turn every PING_EVERY. A ping rides on the next
frame that the socket gets anyway; where none comes within PATIENCE turns it goes alone. A peer that
is dead is found within two rounds, as by uvicorn's own pings, which have two timers a socket and
cost three times as much.
"""

import asyncio
import os
from typing import Self

from api.background import Background
from api.pongs import PAYLOAD
from api.wire import PING_EVERY, Wire

TURN = 1.0  # seconds; PING_EVERY of them are a round
PATIENCE = 4  # turns in which a ping waits for a frame


class Keepalive:
    """An async context manager, for as long as the process serves."""

    def __init__(self) -> None:
        self._slots = [set[Wire]() for _ in range(PING_EVERY)]
        self._begun = self._turn = 0  # sockets, which are spread over the round; and turns
        self._background = Background()

    async def __aenter__(self) -> Self:
        self._background.begin("keepalive", self._turns())
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._background.end()

    def begin(self, wire: Wire) -> None:
        """An accepted socket is pinged until `end`; not if its server does that in another way."""
        if wire.take_over_pings():
            self._slots[self._begun % PING_EVERY].add(wire)
            self._begun += 1

    def end(self, wire: Wire) -> None:
        """It is not pinged any more, if it was."""
        for slot in self._slots:
            slot.discard(wire)

    async def _turns(self) -> None:
        while True:
            # What is late is not made up for: peers have the whole time for their answers.
            await asyncio.sleep(TURN)
            self.turn()

    def turn(self) -> None:
        """Those whose turn it is want a ping; those who have wanted one for long get it."""
        self._turn += 1
        payload = os.urandom(PAYLOAD)
        for wire in self._slots[self._turn % PING_EVERY]:
            wire.want_ping(payload)
        for wire in self._slots[(self._turn - PATIENCE) % PING_EVERY]:
            wire.ping_now()
