"""Logs of workers and dispatchers: one line an event on standard error, JSON unless it is a person.

Our own loggers say what matters from INFO on, whatever level is asked for; Celery's are held to
warnings, and where it tells of a dead process or a failed task we have said so already.
"""

import logging
import sys
from typing import Any, TextIO

import structlog
from celery.utils.log import get_multiprocessing_logger

from jobs.forks import busy

_OWN = ("worker", "jobs")
_QUIET = ("celery.app.trace", "celery.worker.strategy")  # each bell; each attempt that failed
_SAID = frozenset(  # by ourselves: templates of Celery's and billiard's
    {
        "Process %r pid:%r exited with %r",
        "Task handler raised error: %r",
        "Hard time limit (%ss) exceeded for %s[%s]",
    }
)


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
    handler = _Handler(sys.stderr)
    handler.setFormatter(_formatter(shared))
    handler.addFilter(_is_news)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in _OWN:
        logging.getLogger(name).setLevel(min(level, logging.INFO))
    if (billiard := get_multiprocessing_logger()) is not None:
        billiard.propagate = True
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(level, logging.WARNING))


class _Handler(logging.StreamHandler[TextIO]):
    """Writes between forks: the stream's lock is not one that a child of Python's gets anew."""

    def emit(self, record: logging.LogRecord) -> None:
        with busy():
            super().emit(record)


def _is_news(record: logging.LogRecord) -> bool:
    return not (isinstance(record.msg, str) and record.msg in _SAID)


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
