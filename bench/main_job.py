"""CPU-ms per job, end to end, on a running `make dev`: `python -m bench.main_job --jobs 2000`.

A no-op is submitted over HTTP, runs, and its final status can be read. What counts is user and
system time of every process of the platform, children included; the load generator does not.
`make bench` does the same on servers of its own, and beside peers.
"""

import argparse
import http.client
import json
import os
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from bench.accounting import cpu_seconds

MOST_JOBS = 20_000  # a run is over in minutes
PATIENCE = 300.0  # seconds until the last job must be final
FINAL = frozenset({"succeeded", "failed", "cancelled"})


class Measured(NamedTuple):
    """One run."""

    jobs: int
    submit_seconds: float  #: until the last 202
    total_seconds: float  #: until the last final status was read
    cpu_seconds: Mapping[str, float]  #: by program


def measure(dev: Mapping[str, Any], jobs: int, connections: int, kind: str) -> Measured:
    """`jobs` no-ops through `connections` connections. AssertionError when one does not succeed."""
    pids = {name: [pid] for name, pid in dev["pids"].items() if pid and name != "supervisor"}
    before, start = cpu_seconds(pids), time.monotonic()
    with ThreadPoolExecutor(connections) as pool:
        shares = [jobs // connections + (n < jobs % connections) for n in range(connections)]
        ids = [i for part in pool.map(lambda n: _submit(dev, kind, n), shares) for i in part]
    submitted = time.monotonic()
    _await_all(dev, ids)
    ended = time.monotonic()
    spent = {name: seconds - before[name] for name, seconds in cpu_seconds(pids).items()}
    return Measured(jobs, submitted - start, ended - start, spent)


def _submit(dev: Mapping[str, Any], kind: str, count: int) -> list[str]:
    connection = http.client.HTTPConnection(urlsplit(dev["api"]).netloc)
    body = json.dumps({"kind": kind, "args": {"seconds": 0, "steps": 1}})
    headers = {"Authorization": f"Bearer {dev['key']}", "Content-Type": "application/json"}
    ids = []
    for _ in range(count):
        connection.request("POST", "/v1/jobs", body, headers)
        answer = connection.getresponse()
        text = answer.read()
        assert answer.status == http.client.ACCEPTED, text
        ids.append(json.loads(text)["id"])
    connection.close()
    return ids


def _await_all(dev: Mapping[str, Any], ids: list[str]) -> None:
    connection = http.client.HTTPConnection(urlsplit(dev["api"]).netloc)
    end, waiting = time.monotonic() + PATIENCE, ids
    while waiting:
        assert time.monotonic() < end, f"{len(waiting)} jobs are not final"
        time.sleep(0.25)
        states: dict[str, str] = {}
        for some in _chunks(waiting, 100):
            path = f"/v1/jobs?ids={','.join(some)}&limit=200"
            connection.request("GET", path, headers={"Authorization": f"Bearer {dev['key']}"})
            items = json.loads(connection.getresponse().read())["items"]
            states |= {item["id"]: item["state"] for item in items}
            if any(state not in FINAL for state in states.values()):
                break  # the rest is younger: asking would only cost
        waiting = [job for job in waiting if states.get(job) not in FINAL]
    connection.close()


def _chunks(items: list[str], size: int) -> Iterator[list[str]]:
    rest = iter(items)
    while some := list(islice(rest, size)):
        yield some


def main() -> None:
    """Prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=2000)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--kind", default="demo.sleep")
    options = parser.parse_args()
    record = Path(os.environ.get("LADING_DATA_DIR", ".lading")) / "dev.json"
    dev = json.loads(record.read_text())
    measure(dev, 200, options.connections, options.kind)  # caches and pools fill
    found = measure(dev, min(options.jobs, MOST_JOBS), options.connections, options.kind)
    print(f"{found.jobs} jobs of {options.kind}, {options.connections} connections")
    print(f"submit      {found.jobs / found.submit_seconds:8.0f} /s")
    print(f"end to end  {found.jobs / found.total_seconds:8.0f} /s")
    for name, seconds in found.cpu_seconds.items():
        print(f"{name:11} {1000 * seconds / found.jobs:8.3f} CPU-ms per job")
    total = sum(found.cpu_seconds.values())
    print(f"{'all':11} {1000 * total / found.jobs:8.3f} CPU-ms per job")


if __name__ == "__main__":
    main()
