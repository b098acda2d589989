"""Celery's consumer, told to talk less, and to come back soon."""

from typing import Any

import structlog
from celery.worker import consumer
from celery.worker.state import maybe_shutdown

BEAT_EVERY = 10.0  # seconds between two events that say to Flower that the worker lives
RETRY_EVERY = 1.0  # seconds; kombu's own 2, 4, 6 … 30 s are too long after a long absence

_log = structlog.get_logger(__name__)


class Consumer(consumer.Consumer):
    """Neither gossips with its peers nor asks them for revoked tasks: PostgreSQL knows better."""

    def __init__(
        self, *args: Any, worker_options: dict[str, Any] | None = None, **kwargs: Any
    ) -> None:
        options = {**(worker_options or {}), "without_gossip": True, "without_mingle": True}
        options["heartbeat_interval"] = options.get("heartbeat_interval") or BEAT_EVERY
        kwargs["worker_options"] = options
        super().__init__(*args, **kwargs)

    def on_ready(self) -> None:
        """It hears bells, and the board shows from now on whether there is a slot for another."""
        super().on_ready()
        this: Any = self
        qos, board = this.task_consumer.channel.qos, this.app.board
        can_consume = qos.can_consume

        def can_consume_and_say_so() -> bool:
            can = bool(can_consume())
            board.say_all_taken(is_so=not can)
            return can

        qos.can_consume = can_consume_and_say_so

    def ensure_connected(self, conn: Any) -> Any:
        """The broker answers on `conn`, however long that takes; no process asks it meanwhile."""
        this: Any = self
        this.app.board.say_all_taken(is_so=False)
        is_told = False

        def tell(error: BaseException, _interval: float) -> None:
            nonlocal is_told
            if not is_told:
                _log.warning("no broker", reason=str(error), every_seconds=RETRY_EVERY)
            is_told = True

        conn.ensure_connection(
            tell,
            interval_start=RETRY_EVERY,
            interval_step=0,
            interval_max=RETRY_EVERY,
            callback=maybe_shutdown,
        )
        self.first_connection_attempt = False
        return conn
