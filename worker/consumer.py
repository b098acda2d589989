"""Celery's consumer, told to talk less."""

from typing import Any

from celery.worker import consumer


class Consumer(consumer.Consumer):
    """Neither gossips with its peers nor asks them for revoked tasks: PostgreSQL knows better."""

    def __init__(
        self, *args: Any, worker_options: dict[str, Any] | None = None, **kwargs: Any
    ) -> None:
        quiet = {"without_gossip": True, "without_mingle": True}
        kwargs["worker_options"] = {**(worker_options or {}), **quiet}
        super().__init__(*args, **kwargs)
