"""Redis and PostgreSQL die, forget, freeze, go away and cut their connections."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import psutil
import redis

from chaos.book import Entry
from chaos.cutting import Cutter
from chaos.faults import Fault
from chaos.platform import Layout
from chaos.scenario import mishap, scenario
from chaos.stage import Stage

RATE = 25.0  # jobs a second: what an outage of some seconds heaps up is soon done
REDIS_LIMIT = 5.0  # seconds from the broker's return until jobs run again
AWAY = 60.0  # seconds: two default leases
PAUSE = 10.0  # seconds
WAITING = 15  # jobs that wait when the broker forgets: some are rung, some are not
DURABLE = Layout(appendonly=True)
DEFAULTS = Layout(lease=None, soft_shutdown=None)  # a lease of 30 s
ANSWER_LIMIT = 3.0  # seconds for a 202, whatever Redis does
QUICK = "chaos.work"
CRASHED = (
    "SELECT job_id, attempt FROM job_attempt"
    " WHERE outcome IN ('crashed', 'lease_lost') AND job_id = ANY(%s::uuid[])"
)


def kill_redis(stage: Stage) -> Fault:
    """It is dead and comes back at once, with what it keeps on its disk."""
    fault = stage.outage("kill -9 of Redis")
    stage.platform.valkey.kill()
    stage.platform.valkey.start()
    fault.end()
    return fault


def _kill_redis_five_times(stage: Stage) -> None:
    load = stage.load(rate=RATE, seconds=27)
    stage.wait(2)
    waits = []
    for _ in range(5):
        waits.append(_seconds_to_start_again(stage, kill_redis))
        stage.wait(3)
    load.join()
    stage.measure("from Redis' return until all that waited had started", max(waits), REDIS_LIMIT)
    _measure_answers(stage, ANSWER_LIMIT)


@scenario(
    "redis-killed-5",
    title="`kill -9` of Redis, 5 times, nothing on its disk",
    plain="1,034 to 1,900 of 2,350 lost",
    seconds=40,
)
def kill_redis_without_a_disk(stage: Stage) -> None:
    _kill_redis_five_times(stage)


@scenario(
    "redis-aof-killed-5",
    title="`kill -9` of Redis, 5 times, with an append-only file",
    plain="hardened: 1 lost, 18 wrong",
    seconds=40,
    layout=DURABLE,
)
def kill_redis_with_a_disk(stage: Stage) -> None:
    _kill_redis_five_times(stage)


@scenario(
    "flushall",
    title="FLUSHALL under load, 3 times",
    plain="293 of 1,200 lost; hardened: 581 of 1,200 lost",
    seconds=20,
)
def flush_all(stage: Stage) -> None:
    load = stage.load(rate=RATE, seconds=12)
    waits = []
    for _ in range(3):
        stage.wait(1)
        waits.append(_seconds_to_start_again(stage, wipe_redis))
    load.join()
    stage.measure("from FLUSHALL until all that waited had started", max(waits), REDIS_LIMIT)


def _seconds_to_start_again(stage: Stage, strike: Callable[[Stage], Fault]) -> float:
    """From the fault's end until jobs that were accepted before have started, rung or not."""
    first = {"priority": 9}
    waiting = [stage.submit(QUICK, ms=100, options=first) for _ in range(WAITING)]
    fault = strike(stage)
    return max(stage.await_start(entry).at for entry in waiting) - fault.over_at


def wipe_redis(stage: Stage) -> Fault:
    """It has forgotten everything."""
    fault = stage.outage("FLUSHALL")
    with _redis(stage) as client:
        client.flushall()
    fault.end()
    return fault


@scenario(
    "redis-stopped-10s",
    title="Redis paused for 10 s (SIGSTOP), then for 10 s more (CLIENT PAUSE)",
    plain="0 lost, every request hangs up to 10 s; with clients that retry after 5 s: 32 run twice",
    seconds=45,
)
def pause_redis(stage: Stage) -> None:
    load = stage.load(rate=RATE / 1.5, seconds=34)
    stage.wait(2)
    waits = [_through_a_pause(stage, freeze_redis), _through_a_pause(stage, hold_redis)]
    load.join()
    stage.measure("from the pause's end until a new job ran", max(waits), 2 * REDIS_LIMIT)
    _measure_answers(stage, ANSWER_LIMIT)


def _through_a_pause(stage: Stage, pause: Callable[[Stage], None]) -> float:
    """What runs goes on and reports meanwhile."""
    running = [stage.submit(QUICK, ms=4000) for _ in range(2)]
    for entry in running:
        stage.await_start(entry)
    pause(stage)
    client = stage.client()
    states = {job["id"]: job["state"] for job in client.jobs([entry.id for entry in running])}
    client.close()
    late = [job for job, state in states.items() if state != "succeeded"]
    stage.check(not late, f"jobs have not reported while Redis was paused: {late}")
    return _seconds_until_one_runs(stage)


def freeze_redis(stage: Stage) -> None:
    """It stands still for ten seconds and holds its connections."""
    pid = stage.platform.valkey.pid
    assert pid is not None
    fault = stage.outage("Redis frozen")
    os.kill(pid, signal.SIGSTOP)
    stage.wait(PAUSE)
    os.kill(pid, signal.SIGCONT)
    fault.end()


def hold_redis(stage: Stage) -> None:
    """It takes every command and answers none for ten seconds."""
    fault = stage.outage("CLIENT PAUSE")
    with _redis(stage) as client:
        client.client_pause(int(PAUSE * 1000))
    stage.wait(PAUSE)
    fault.end()


@scenario(
    "connections-reset-10",
    title="all connections to Redis and PostgreSQL reset in mid-sentence, 10 times",
    plain="4 run twice; hardened: 4, and 13 with quick sweeps",
    seconds=70,
)
def reset_connections(stage: Stage) -> None:
    with _cutters(stage) as cutters:
        load = stage.load(rate=RATE / 2, seconds=28)
        stage.wait(2)
        waits = [_through_a_cut(stage, cutters) for _ in range(10)]
        load.join()
        stage.measure("from a reset until a new job ran", max(waits), REDIS_LIMIT)
        stage.measure("longest wait from the answer to the start", stage.slowest_start())
        _measure_answers(stage)
        stage.finish(stage.book.accepted)


def _through_a_cut(stage: Stage, cutters: list[Cutter]) -> float:
    fault = stage.outage("connections reset")
    count = sum(cutter.cut() for cutter in cutters)
    fault.end()
    stage.check(count >= len(stage.platform.keepers), f"only {count} connections were cut")
    waited = _seconds_until_one_runs(stage)
    stage.wait(2)
    return waited


@contextmanager
def _cutters(stage: Stage) -> Iterator[list[Cutter]]:
    """Inside, every process reaches both servers through a proxy that can cut its connections."""
    platform = stage.platform
    with Cutter(platform.postgres.port) as postgres, Cutter(platform.valkey.port) as valkey:
        usual = platform.environment
        through = {
            "LADING_DATABASE_URL": _elsewhere(platform.postgres.url, postgres.port),
            "LADING_BROKER_URL": _elsewhere(platform.valkey.url, valkey.port),
        }
        _restart_with(stage, through)
        try:
            yield [postgres, valkey]
        finally:
            _restart_with(stage, {name: usual[name] for name in through})


def _elsewhere(url: str, port: int) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.replace(f":{parts.port}", f":{port}")).geturl()


def _restart_with(stage: Stage, environment: dict[str, str]) -> None:
    for keeper in stage.platform.keepers:
        keeper.environment |= environment
        keeper.kill()  # no fault: nothing runs before the load, or after it
    stage.platform.heal()


def cut_connections(stage: Stage) -> None:
    """Both servers hang up on everybody."""
    fault = stage.outage("connections reset")
    with _redis(stage) as client:
        for kind in ("normal", "pubsub"):
            client.client_kill_filter(_type=kind, skipme=True)
    stage.platform.query(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
    )
    fault.end()


@scenario(
    "postgres-killed-3",
    title="`kill -9` of PostgreSQL, 3 times, then 3 fast restarts",
    plain="",
    seconds=45,
)
def kill_postgres(stage: Stage) -> None:
    _restart_often(stage)


@scenario(
    "postgres-killed-3-defaults",
    title="`kill -9` of PostgreSQL, 3 times, then 3 fast restarts; the default lease",
    plain="",
    seconds=45,
    layout=DEFAULTS,
)
def kill_postgres_with_defaults(stage: Stage) -> None:
    _restart_often(stage)


def _restart_often(stage: Stage) -> None:
    load = stage.load(rate=RATE / 1.5, seconds=38)
    held = stage.submit(QUICK, ms=20_000)
    stage.await_start(held)
    for strike in (crash_postgres, restart_postgres):
        for _ in range(3):
            strike(stage)
            stage.wait(4)
    load.join()
    _measure_answers(stage)


def crash_postgres(stage: Stage) -> None:
    """All its processes are dead, and it recovers from its log."""
    postgres = stage.platform.postgres
    assert postgres.pid is not None
    family = psutil.Process(postgres.pid).children(recursive=True)
    fault = _absence(stage, "kill -9 of PostgreSQL")
    postgres.kill()
    for process in family:
        _kill(process)
    psutil.wait_procs(family, timeout=10)
    postgres.start()
    fault.end()


def restart_postgres(stage: Stage) -> None:
    """It ends in its fast mode, and starts again."""
    fault = _absence(stage, "fast restart of PostgreSQL")
    stage.platform.postgres.stop()
    stage.platform.postgres.start()
    fault.end()


def _absence(stage: Stage, words: str) -> Fault:
    """A short lease's fence may rightly end attempts meanwhile; the default one's must not."""
    is_short = stage.platform.layout.lease is not None
    return stage.excuse(words) if is_short else stage.outage(words)


@scenario(
    "postgres-away-60s",
    title="PostgreSQL away for 60 s; the default lease",
    plain="",
    seconds=110,
    layout=DEFAULTS,
)
def take_postgres_away(stage: Stage) -> None:
    load = stage.load(rate=RATE / 2.5, seconds=AWAY + 15)
    stage.wait(2)
    brief = [stage.submit(QUICK, ms=6000) for _ in range(2)]
    long = [stage.submit(QUICK, ms=40_000) for _ in range(2)]
    deaf = [stage.submit("chaos.io", ms=40_000) for _ in range(2)]
    for entry in (*brief, *long, *deaf):
        stage.await_start(entry)
    fault = stage.excuse("PostgreSQL away")
    stage.platform.postgres.stop()
    stage.wait(AWAY)
    stage.platform.postgres.start()
    fault.end()
    waited = _seconds_until_one_runs(stage)
    load.join()
    stage.finish([*brief, *long, *deaf], within=150)
    stage.measure("from PostgreSQL's return until a new job ran", waited)
    for entry in brief:  # whose result has waited for its report
        _check_outcomes(stage, entry, ["succeeded"])
    for entry in (*long, *deaf):
        _check_outcomes(stage, entry, ["interrupted", "succeeded"])
    ids = [entry.id for entry in stage.book.accepted]
    crashed = stage.platform.query(CRASHED, ids)
    stage.check(not crashed, f"attempts have crashed, and nobody died: {crashed}")


def _check_outcomes(stage: Stage, entry: Entry, wanted: list[str]) -> None:
    client = stage.client()
    outcomes = [each["outcome"] for each in client.get(f"/v1/jobs/{entry.id}/attempts")["items"]]
    client.close()
    stage.check(outcomes == wanted, f"the attempts of {entry.id} are {outcomes}")


@mishap("kill Redis")
def kill_redis_once(stage: Stage) -> None:
    kill_redis(stage)


@mishap("FLUSHALL")
def wipe_redis_once(stage: Stage) -> None:
    wipe_redis(stage)


@mishap("freeze Redis")
def freeze_redis_once(stage: Stage) -> None:
    freeze_redis(stage)


@mishap("reset all connections")
def cut_connections_once(stage: Stage) -> None:
    cut_connections(stage)


@mishap("kill PostgreSQL")
def crash_postgres_once(stage: Stage) -> None:
    crash_postgres(stage)


@mishap("restart PostgreSQL")
def restart_postgres_once(stage: Stage) -> None:
    restart_postgres(stage)


def _seconds_until_one_runs(stage: Stage) -> float:
    """From now until a job that is submitted now has started."""
    began = time.monotonic()
    return stage.await_start(stage.submit(QUICK, options={"priority": 9})).at - began


def _measure_answers(stage: Stage, limit: float | None = None) -> None:
    stage.measure("slowest answer to a client", stage.slowest_answer(), limit)


@contextmanager
def _redis(stage: Stage) -> Iterator[redis.Redis]:
    client = redis.Redis.from_url(stage.platform.valkey.url)
    try:
        yield client
    finally:
        client.close()


def _kill(process: psutil.Process) -> None:
    try:
        process.kill()
    except psutil.NoSuchProcess:
        return
