"""Jobs at a constant rate for as long as one likes, of which some are followed to their end."""

import asyncio
import time
from array import array
from typing import NamedTuple

from bench.generator import FIRST_LOOK, LATEST, SLOWER, SPARE, Order
from bench.http import Connections, read_id, read_status

ACCEPTED = 202


class Load(NamedTuple):
    """What became of the submissions; times are monotonic seconds."""

    accepted: "array[float]"  #: when each was answered, in that order
    refused: int  #: answered with something else
    followed: list[tuple[float, float]]  #: when its POST was sent, and seconds to a final status
    latest: float  #: seconds, the most that one was sent after it was due


def load(
    order: Order, final: frozenset[str], *, rate: float, seconds: float, follow: float
) -> Load:
    """So many a second, `follow` of them followed, whatever becomes of those before.

    ConnectionError when the API closes instead of answering; TimeoutError when the last ones take
    longer than `LATEST`.
    """
    return asyncio.run(_load(order, final, rate, seconds, max(1, round(rate / follow))))


async def _load(
    order: Order, final: frozenset[str], rate: float, seconds: float, every: int
) -> Load:
    accepted, followed = array("d"), list[tuple[float, float]]()
    connections, request = Connections(order.address.port), order.submit()
    refused, latest = 0, 0.0
    await connections.open(SPARE)

    async def one(*, is_followed: bool) -> None:
        nonlocal refused
        sent = time.monotonic()
        answer, at = await connections.ask(request)
        if answer.status != ACCEPTED:
            refused += 1
            return
        accepted.append(at)
        if not is_followed:
            return
        look = order.look(read_id(answer))
        while read_status(answer) not in final:
            await asyncio.sleep(max(FIRST_LOOK, SLOWER * (at - sent)))
            answer, at = await connections.ask(look)
        followed.append((sent, at - sent))

    begin = time.monotonic()
    async with asyncio.timeout(seconds + LATEST), asyncio.TaskGroup() as group:
        for number in range(int(rate * seconds)):
            due = begin + number / rate
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            latest = max(latest, time.monotonic() - due)
            group.create_task(one(is_followed=number % every == 0))
    connections.close()
    return Load(accepted, refused, followed, latest)
