"""What an event costs beside a submission: `python -m bench.bus --count 3000`.

Submissions of a no-op, and events with one trigger that makes the same no-op, by turns, on one API
process with its own PostgreSQL and Valkey; no worker runs. CPU is that of the API and PostgreSQL.
"""

import argparse
import asyncio
import json
import time
from statistics import median
from typing import Any, NamedTuple

from bench.accounting import cpu_seconds
from bench.http import Address, Connection
from bench.stream_servers import Servers, servers

KIND = "demo.sleep"
ROUNDS = 3
ASKED: dict[str, tuple[str, dict[str, Any]]] = {
    "submission": ("/v1/jobs", {"kind": KIND, "args": {"seconds": 0}}),
    "event": ("/v1/events", {"type": "bench.done", "data": {"seconds": 0}}),
}
TRIGGER = {"type": "bench.done", "kind": KIND, "args": {"seconds": "data.seconds"}}


class Cost(NamedTuple):
    """Of one request."""

    milliseconds: float  #: of the run's time
    cpu_milliseconds: float


def main() -> None:
    """Prints the medians of both, and their ratio, for each number of connections."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=3000)
    parser.add_argument("--connections", type=int, nargs="*", default=[1, 16, 64])
    options = parser.parse_args()
    with servers(1) as running:
        asyncio.run(_ask(running, "/v1/triggers", TRIGGER, 1, 1))
        for connections in options.connections:
            costs: dict[str, list[Cost]] = {name: [] for name in ASKED}
            for _ in range(ROUNDS):
                for name, found in costs.items():
                    found.append(_measure(running, name, options.count, connections))
            _report(connections, {name: _middle(found) for name, found in costs.items()})


def _measure(running: Servers, name: str, count: int, connections: int) -> Cost:
    pids = {name: [pid] for name, pid in running.pids.items() if name != "redis"}
    cpu, began = sum(cpu_seconds(pids).values()), time.monotonic()
    asyncio.run(_ask(running, *ASKED[name], count, connections))
    seconds, cpu = time.monotonic() - began, sum(cpu_seconds(pids).values()) - cpu
    return Cost(1000 * seconds / count, 1000 * cpu / count)


async def _ask(
    running: Servers, path: str, document: dict[str, Any], count: int, connections: int
) -> None:
    address = Address(running.address.port, {"Authorization": f"Bearer {running.address.key}"})
    request = address.request("POST", path, json.dumps(document).encode())
    left = iter(range(count))

    async def drive() -> None:
        connection = await Connection.open(running.address.port)
        for _ in left:
            answer = await connection.ask(request)
            assert answer.status in {201, 202}, answer
        connection.close()

    await asyncio.gather(*(drive() for _ in range(connections)))


def _middle(costs: list[Cost]) -> Cost:
    return Cost(*(median(each) for each in zip(*costs, strict=True)))


def _report(connections: int, costs: dict[str, Cost]) -> None:
    one, other = costs["submission"], costs["event"]
    ratios = [found / base for found, base in zip(other, one, strict=True)]
    print(f"{connections} connections")
    for name, cost in costs.items():
        print(f"  {name:11} {cost.milliseconds:7.3f} ms {cost.cpu_milliseconds:7.3f} CPU-ms")
    print(f"  ratio       {ratios[0]:7.2f}    {ratios[1]:7.2f}", flush=True)


if __name__ == "__main__":
    main()
