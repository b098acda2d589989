"""Logs: JSON lines for machines, colours for a terminal; each line with its request's id."""

import logging
import sys
from datetime import UTC, datetime

import structlog
from pydantic_core import to_json
from structlog.contextvars import get_contextvars
from structlog.typing import Processor

# So uvicorn ends each refusal of a WebSocket's handshake, though the answer was complete.
_NO_ERROR = "ASGI callable returned without completing handshake."
_ACCESS = "uvicorn.access"
_UVICORN = ("uvicorn", "uvicorn.error", _ACCESS)


def configure_logs() -> None:
    """Every logger of this process writes to stderr in one form, uvicorn's included."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *_rendering(is_for_people=sys.stderr.isatty()),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.INFO)
    is_silent = _is_silent(logging.getLogger(_ACCESS))
    for name in _UVICORN:
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [], True
    logging.getLogger("uvicorn.error").addFilter(_is_news)
    if is_silent:
        logging.getLogger(_ACCESS).propagate = False  # so uvicorn does not even ask for the line
    elif not sys.stderr.isatty():
        _log_access_quickly()


def _is_news(record: logging.LogRecord) -> bool:
    return record.msg != _NO_ERROR


def _is_silent(access: logging.Logger) -> bool:
    """Whether uvicorn was told to log no requests, or nothing below warnings."""
    return not (access.handlers or access.propagate) or not access.isEnabledFor(logging.INFO)


def _log_access_quickly() -> None:
    """Each request is a line: written without structlog, and without asking who calls."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_AccessLine())
    logger = logging.getLogger(_ACCESS)
    logger.handlers, logger.propagate = [handler], False
    # What no line of ours shows is not found out (Python's Logging HOWTO, "Optimization").
    logging._srcfile = None  # noqa: SLF001
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False


class _AccessLine(logging.Formatter):
    """The same line as structlog's; that costs five times as much, a tenth of a submission."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "event": record.getMessage(),
            **get_contextvars(),
            "logger": record.name,
            "level": record.levelname.lower(),
            "timestamp": datetime.fromtimestamp(record.created, UTC),
        }
        return to_json(line).decode()


def _rendering(*, is_for_people: bool) -> list[Processor]:
    """Tracebacks without the values of variables: some of them are secrets."""
    if is_for_people:
        return [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
    return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
