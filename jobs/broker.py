"""The broker: Celery's settings as far as publisher and worker share them, and doorbells.

Redis or Valkey carries doorbells and nothing else: which attempts may be made, never what a job is
about. A bell may be lost or come twice; claims are guarded, and the dispatcher rings again.
"""

import json
import re
import socket
from base64 import b64decode
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any, NamedTuple
from uuid import UUID

import redis

from jobs import messages
from jobs.errors import BrokerUnavailable
from jobs.settings import Settings

DEFAULT_QUEUE = "default"
PRIORITIES = tuple(range(10))  # a list of its own for each; kombu's four would mix neighbours
FIRST_PRIORITY = 9  # ours, which Redis calls 0
SEPARATOR = "\x06\x16"  # kombu's, between a queue's name and the priority in a list's key
SOCKET_TIMEOUT = 5.0  # seconds; kombu's own is for ever, and a paused Redis would hold everybody
CONNECT_TIMEOUT = 2.0  # seconds
HEALTH_CHECK = 10  # seconds: a half-open connection is noticed after two of them
BATCH = 500  # bells a pipeline: half a MiB, a few milliseconds of Redis
MOST_HANGING = 10_000  # bells of one priority that are looked at; windows hold far fewer
EPOCH_KEY = "lading:epoch"
_RUN_ID = re.compile(rb"^run_id:(\w+)", re.MULTILINE)


class Bell(NamedTuple):
    """Says that these attempts may be made: `attempts` are (job id, number of the attempt)."""

    queue: str
    kind: str
    attempts: tuple[tuple[UUID, int], ...]
    priority: int  #: 0 … 9, 9 first
    is_limited: bool = False  #: others wait for the end of its attempt: the dispatcher is told


class Life(NamedTuple):
    """Which life of the broker this is: its process, and the mark that we left in its memory."""

    run_id: str
    epoch: UUID | None


def configuration(settings: Settings) -> dict[str, Any]:
    """The Celery settings that whoever rings and whoever hears must agree on."""
    return {
        "broker_url": settings.broker_url.get_secret_value(),
        "broker_transport_options": transport_options(),
        "broker_connection_timeout": CONNECT_TIMEOUT,
        "broker_connection_retry": True,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,  # a worker outlives any absence of the broker
        "broker_channel_error_retry": True,
        "task_serializer": "json",
        "accept_content": ["json"],
        "task_protocol": 2,
        "task_default_queue": DEFAULT_QUEUE,
        "task_ignore_result": True,  # PostgreSQL is the only source of status
        "enable_utc": True,
        "timezone": "UTC",
    }


def transport_options() -> dict[str, Any]:
    """What kombu's Redis transport is told."""
    return {
        # No list of unacknowledged messages: it costs two round trips a message, brings bells
        # back after an hour, and ends workers when Redis dies (kombu, virtual.QoS does neither).
        "ack_emulation": False,
        "priority_steps": list(PRIORITIES),
        "sep": SEPARATOR,
        "socket_timeout": SOCKET_TIMEOUT,
        "socket_connect_timeout": CONNECT_TIMEOUT,
        "socket_keepalive": True,
        "health_check_interval": HEALTH_CHECK,
    }


def task_id(job_id: UUID, attempt: int) -> str:
    """What an attempt is called in Celery and Flower."""
    return f"{job_id}:{attempt}"


def read_task_id(task: str) -> tuple[UUID, int]:
    """The attempt that a task id names; ValueError when it names none."""
    job_id, _, attempt = task.rpartition(":")
    return UUID(job_id), int(attempt)


def read_attempts(args: Sequence[Any]) -> tuple[tuple[UUID, int], ...]:
    """The attempts that a bell's task arguments name."""
    return tuple((UUID(job_id), int(attempt)) for job_id, attempt in args[0])


def read_bell(message: bytes) -> Bell | None:
    """What a message in one of kombu's lists says; None, if it is no bell of ours."""
    try:
        whole = json.loads(message)
        args, named, _ = json.loads(b64decode(whole["body"]))
        facts, kind = whole["properties"], whole["headers"]["task"]
        queue, priority = facts["delivery_info"]["routing_key"], FIRST_PRIORITY - facts["priority"]
        is_limited = bool(named.get("is_limited", False))
        return Bell(queue, kind, read_attempts(args), priority, is_limited)
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError):
        return None


def lists_of(queue: str) -> list[str]:
    """Where its bells hang, as Redis calls them, in the order in which they are heard."""
    return [_list(queue, place) for place in PRIORITIES]


class Broker:
    """A thread's way to the broker. It connects when needed, and again after a failure.

    Every method raises BrokerUnavailable when the broker does not answer as it should.
    """

    def __init__(self, settings: Settings) -> None:
        url = settings.broker_url.get_secret_value()
        self._redis = redis.Redis.from_url(
            url,
            socket_timeout=SOCKET_TIMEOUT,
            socket_connect_timeout=CONNECT_TIMEOUT,
            health_check_interval=HEALTH_CHECK,
        )
        self._asking = redis.Redis(connection_pool=self._redis.connection_pool)
        self._asking.set_response_callback("INFO", _run_id)  # a hundred lines, every second
        self._origin = f"dispatcher@{socket.gethostname()}"

    def ring(self, bells: Iterable[Bell]) -> None:
        """The bells hang in their queues, in this order where priorities are equal.

        After BrokerUnavailable nobody knows which of them do.
        """
        rest = iter(bells)
        with _translated():
            while some := [*islice(rest, BATCH)]:
                self._hang(some)

    def queue_length(self, queue: str) -> int:
        """How many bells of all priorities hang in the queue."""
        with _translated():
            pipeline = self._redis.pipeline(transaction=False)
            for key in lists_of(queue):
                pipeline.llen(key)
            return sum(pipeline.execute())

    def list_hanging(self, queues: Iterable[str]) -> list[tuple[UUID, int]]:
        """The attempts whose bells hang in these queues, in no order."""
        keys = [key for queue in queues for key in lists_of(queue)]
        with _translated():
            pipeline = self._redis.pipeline(transaction=False)
            for key in keys:
                pipeline.lrange(key, -MOST_HANGING, -1)  # the end that is heard first
            messages = [message for each in pipeline.execute() for message in each]
        bells = [bell for message in messages if (bell := read_bell(message)) is not None]
        return [attempt for bell in bells for attempt in bell.attempts]

    def life(self) -> Life:
        """A restart changes the run id, a wipe takes the epoch away."""
        with _translated():
            pipeline = self._asking.pipeline(transaction=False)
            pipeline.info("server").get(EPOCH_KEY)
            run_id, epoch = pipeline.execute()
            return Life(run_id, None if epoch is None else UUID(epoch.decode()))

    def begin_epoch(self, epoch: UUID) -> None:
        """The broker's memory carries this mark from now on."""
        with _translated():
            self._redis.set(EPOCH_KEY, str(epoch))

    def close(self) -> None:
        """Its connections are closed."""
        self._redis.close()

    def _hang(self, bells: Sequence[Bell]) -> None:
        lists: defaultdict[str, list[str]] = defaultdict(list)
        for bell in bells:
            place = FIRST_PRIORITY - bell.priority
            lists[_list(bell.queue, place)].append(self._message(bell, place))
        if len(lists) == 1:
            ((key, said),) = lists.items()
            self._redis.lpush(key, *said)
            return
        pipeline = self._redis.pipeline(transaction=False)
        for key, said in lists.items():
            pipeline.lpush(key, *said)
        pipeline.execute()

    def _message(self, bell: Bell, place: int) -> str:
        return messages.write(
            bell.queue,
            bell.kind,
            [(str(job_id), attempt) for job_id, attempt in bell.attempts],
            task=task_id(*bell.attempts[0]),
            place=place,
            is_limited=bell.is_limited,
            origin=self._origin,
        )


def _run_id(info: bytes, **_options: object) -> str:
    """Of what the broker says about itself."""
    found = _RUN_ID.search(info)
    if found is None:
        raise redis.InvalidResponse("no run_id")
    return found[1].decode()


def _list(queue: str, place: int) -> str:
    return f"{queue}{SEPARATOR}{place}" if place else queue


@contextmanager
def _translated() -> Iterator[None]:
    """Inside, whatever keeps the broker from answering is raised as BrokerUnavailable."""
    try:
        yield
    except (redis.RedisError, OSError) as error:
        raise BrokerUnavailable from error
