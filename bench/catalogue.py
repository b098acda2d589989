"""Ours, and the peers that are compared with it, in the order of the table.

Each as its documentation says, and tuned where its users would: concurrency above all. Two
processes of workers where a peer has processes; what has an event loop takes its concurrency from
the environment, BENCH_CONCURRENCY.
"""

from dataclasses import replace

from bench.peer import LADING, Members, Peer, Promise, Results, Rows

_AOF = "Redis, a second's writes at most"

_WORKER = "celery -A worker.celery_app worker"
OURS = Peer(
    name=LADING,
    title="**Lading**",
    folder=LADING,
    prepare="alembic upgrade head",
    api="api.main:app",
    api_options=" --ws-max-size 2097152 --ws-per-message-deflate false",  # as in the Dockerfile
    dispatcher="python -m worker.dispatcher",
    workers=(f"{_WORKER} -P prefork -c 2 -n worker@%h", f"{_WORKER} -P threads -c 100 -n io@%h"),
    io_workers=(f"{_WORKER} -P threads -c 1000 -n io@%h",),
    io_slots=1000,
    left=Rows("SELECT count(*) FROM job WHERE finished_at IS NULL"),
    promise=Promise(
        lives_in="PostgreSQL",
        worker_killed="made again when its lease is over",
        redis_lost="nothing is lost",
        status="every state, attempt and event, for as long as one likes",
    ),
    final=frozenset({"succeeded", "failed", "cancelled"}),
    path="/v1/jobs",
    batch_path="/v1/jobs/batch",
    kind="bench.noop",
    io_kind="bench.io",
    environment={"LADING_KINDS": "bench.kinds", "LADING_SOFT_SHUTDOWN_SECONDS": "3"},
)

_CELERY = "celery -A tasks worker --loglevel warning -n bench@%h"
_celery_sqlmodel = Peer(
    name="celery-sqlmodel",
    title="FastAPI + Celery + SQLModel status table",
    folder="celery_sqlmodel",
    prepare="python models.py",
    workers=(f"{_CELERY} -P prefork -c 2",),
    io_workers=(f"{_CELERY} -P threads -c 100",),
    io_slots=100,
    left=Rows("SELECT count(*) FROM job WHERE finished_at IS NULL"),
    promise=Promise(
        lives_in="PostgreSQL and Redis, in two writes",
        worker_killed="made again after the visibility timeout, an hour",
        redis_lost="stays queued for ever; so does what a crash separates from its message",
        status="queued, running, finished; no attempts",
    ),
    final=frozenset({"succeeded", "failed"}),
)
_celery_redis = Peer(
    name="celery-redis",
    title="FastAPI + Celery, results in Redis",
    folder="celery_redis",
    prepare=None,
    workers=(f"{_CELERY} -P prefork -c 2",),
    io_workers=(f"{_CELERY} -P threads -c 100",),
    io_slots=100,
    left=Results(),
    promise=Promise(
        lives_in=_AOF,
        worker_killed="made again after the visibility timeout, an hour",
        redis_lost="lost",
        status="PENDING, also of ids that never were, and SUCCESS, for a day",
    ),
    final=frozenset({"SUCCESS", "FAILURE"}),
)
_PGQ = "python worker.py --batch-size"  # `pgq run` fails with the Typer that it gets
_pgqueuer = Peer(
    name="pgqueuer",
    title="PgQueuer",
    folder="pgqueuer",
    prepare="pgq install",
    workers=(f"{_PGQ} 100",),
    io_workers=(f"{_PGQ} 500",),
    io_slots=1000,
    left=Rows("SELECT count(*) FROM pgqueuer"),
    promise=Promise(
        lives_in="PostgreSQL",
        worker_killed="made again after its heartbeat's 30 s",
        redis_lost="–",
        status="a log of its states; no attempts",
    ),
    final=frozenset({"successful", "exception", "canceled", "deleted", "failed"}),
)
_PROCRASTINATE = "procrastinate --log-level warning --app tasks.app worker --concurrency"
_procrastinate = Peer(
    name="procrastinate",
    title="Procrastinate",
    folder="procrastinate",
    prepare="procrastinate --app tasks.app schema --apply",
    workers=(f"{_PROCRASTINATE} 20",),
    io_workers=(f"{_PROCRASTINATE} 1000",),
    io_slots=1000,
    left=Rows("SELECT count(*) FROM procrastinate_jobs WHERE status IN ('todo', 'doing')"),
    promise=Promise(
        lives_in="PostgreSQL",
        worker_killed="stays `doing`, until a task that one writes finds it stalled",
        redis_lost="–",
        status="every state and event, until deleted",
    ),
    final=frozenset({"succeeded", "failed", "cancelled", "aborted"}),
)
_saq_postgres = Peer(
    name="saq-postgres",
    title="SAQ on PostgreSQL",
    folder="saq",
    prepare=None,
    workers=("saq tasks.settings --quiet",),
    io_workers=("saq tasks.settings --quiet",),
    io_slots=1000,
    left=Rows("SELECT count(*) FROM saq_jobs WHERE status IN ('new', 'queued', 'active')"),
    promise=Promise(
        lives_in="PostgreSQL",
        worker_killed="swept after its timeout of 10 s and made again, if `retries` allows",
        redis_lost="–",
        status="its state, for ten minutes",
    ),
    final=frozenset({"complete", "failed", "aborted"}),
    environment={"BENCH_SAQ": "{postgres}"},
)
_saq_redis = replace(
    _saq_postgres,
    name="saq-redis",
    title="SAQ on Redis",
    left=Members("saq:default:incomplete"),
    promise=Promise(
        lives_in=_AOF,
        worker_killed="swept after its timeout of 10 s and made again, if `retries` allows",
        redis_lost="lost",
        status="its state, for ten minutes",
    ),
    environment={"BENCH_SAQ": "{redis}/0"},
)
_arq = Peer(
    name="arq",
    title="arq",
    folder="arq",
    prepare=None,
    workers=("arq tasks.WorkerSettings --custom-log-dict tasks.LOGGING",),
    io_workers=("arq tasks.WorkerSettings --custom-log-dict tasks.LOGGING",),
    io_slots=1000,
    left=Members("arq:queue"),
    promise=Promise(
        lives_in=_AOF,
        worker_killed="made again after its timeout of 5 min",
        redis_lost="lost",
        status="its state, for an hour",
    ),
    final=frozenset({"complete"}),
)
_DRAMATIQ = "dramatiq tasks --processes 2 --threads"
_dramatiq = Peer(
    name="dramatiq",
    title="dramatiq",
    folder="dramatiq",
    prepare=None,
    workers=(f"{_DRAMATIQ} 8",),
    io_workers=(f"{_DRAMATIQ} 500",),
    io_slots=1000,
    left=Results(),
    promise=Promise(
        lives_in=_AOF,
        worker_killed="made again after a minute without heartbeat",
        redis_lost="lost",
        status="whether it has a result, for a day",
    ),
    final=frozenset({"done"}),
)
_TASKIQ = "taskiq worker tasks:broker --log-level WARNING --workers 2 --max-async-tasks"
_taskiq = Peer(
    name="taskiq",
    title="taskiq, Redis stream",
    folder="taskiq",
    prepare=None,
    workers=(f"{_TASKIQ} 100",),
    io_workers=(f"{_TASKIQ} 500",),
    io_slots=1000,
    left=Results(),
    promise=Promise(
        lives_in=_AOF,
        worker_killed="made again after ten idle minutes",
        redis_lost="lost",
        status="whether it has a result, for a day",
    ),
    final=frozenset({"done"}),
)

PEERS = (
    OURS,
    _celery_sqlmodel,
    _celery_redis,
    _pgqueuer,
    _procrastinate,
    _saq_postgres,
    _saq_redis,
    _arq,
    _dramatiq,
    _taskiq,
)
