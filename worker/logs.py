"""Logs of workers and dispatchers: one line an event on standard error, JSON unless it is a person.

Our own loggers say what matters from INFO on, whatever level is asked for; Celery's are held to
warnings, and where it tells of a dead process or a failed task we have said so already.
"""

import logging
import sys
from typing import Any

import structlog

_OWN = ("worker", "jobs")
_SILENT = {
    "celery.app.trace": logging.ERROR,  # each failed attempt, with its message
    "celery.worker.request": logging.CRITICAL,  # lost processes
    "celery.worker.strategy": logging.WARNING,  # each bell
    "billiard": logging.CRITICAL,
    "multiprocessing": logging.CRITICAL,  # billiard's other name
}


def configure(loglevel: int | None = None, **_: Any) -> None:
    """Everything logged from now on looks alike. Celery calls it by its setup_logging signal."""
    level = logging.WARNING if loglevel is None else loglevel
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_formatter(shared))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in _OWN:
        logging.getLogger(name).setLevel(min(level, logging.INFO))
    for name, least in _SILENT.items():
        logging.getLogger(name).setLevel(max(level, least))


def _formatter(shared: list[structlog.typing.Processor]) -> logging.Formatter:
    last: list[structlog.typing.Processor] = (
        [structlog.dev.ConsoleRenderer()]
        if sys.stderr.isatty()
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    )
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
    )
