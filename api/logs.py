"""Logs: JSON lines for machines, colours for a terminal; each line with its request's id."""

import logging
import sys

import structlog
from structlog.typing import Processor

# So uvicorn ends each refusal of a WebSocket's handshake, though the answer was complete.
_NO_ERROR = "ASGI callable returned without completing handshake."
_UVICORN = ("uvicorn", "uvicorn.error", "uvicorn.access")


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
    for name in _UVICORN:
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [], True
    logging.getLogger("uvicorn.error").addFilter(_is_news)


def _is_news(record: logging.LogRecord) -> bool:
    return record.msg != _NO_ERROR


def _rendering(*, is_for_people: bool) -> list[Processor]:
    """Tracebacks without the values of variables: some of them are secrets."""
    if is_for_people:
        return [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
    return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
