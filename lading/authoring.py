"""`@job`: a function becomes the handler of a kind of jobs.

The decorated function stays what it was, and carries its Kind. Nothing is registered at import:
the server collects the kinds of the modules that it was told of.
"""

import inspect
import json
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property
from typing import Any, TypeVar, get_type_hints

from pydantic import BaseModel, ByteSize, TypeAdapter, ValidationError

from lading.durations import as_timedelta
from lading.retry import RetryPolicy
from lading.schedules import Schedule

Handler = Callable[[Any, Any], Any | Awaitable[Any]]
HandlerT = TypeVar("HandlerT", bound=Handler)

NAME = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*")  # dotted: `email.send`
QUEUE = re.compile(r"[a-z][a-z0-9_-]*(\.[a-z0-9_-]+)*")
NAME_LENGTH = 100  # characters, of a kind or a queue: they are labels of metrics and broker keys
_ATTRIBUTE = "__lading_kind__"


@dataclass(frozen=True)
class Kind:
    """A type of jobs: its name, its handler, the shape of its args, and its defaults."""

    name: str
    handler: Handler
    args_model: type[BaseModel]
    result_type: Any  #: the handler's return annotation
    queue: str = "default"
    max_attempts: int = 5
    timeout: timedelta | None = None  #: hard limit of one attempt; None: no limit
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    memory_limit: int | None = None  #: bytes that an attempt may add to its process; None: any
    schedule: Schedule | None = None
    concurrency: int | None = None  #: attempts at a time in a project; None: any number

    @property
    def is_async(self) -> bool:
        """Whether the handler was made with `async def`."""
        return inspect.iscoroutinefunction(self.handler)

    @cached_property
    def result_adapter(self) -> TypeAdapter[Any]:
        """What turns the handler's return value into JSON."""
        return TypeAdapter(self.result_type)


def job(
    name: str,
    *,
    queue: str = "default",
    max_attempts: int = 5,
    timeout: float | timedelta | None = None,
    retry: RetryPolicy | None = None,
    memory_limit: int | str | None = None,
    schedule: str | Schedule | None = None,
    timezone: str | None = None,
    concurrency: int | None = None,
) -> Callable[[HandlerT], HandlerT]:
    """The decorated function handles jobs of the kind `name`, and can still be called as before.

    It takes a context and one Pydantic model, by annotation, and returns a Pydantic model, a JSON
    value or None. `queue` decides the pool: `io` and `io.*` run on threads, all others on
    processes. `timeout` (seconds or timedelta) is the hard limit of one attempt. `memory_limit`
    (bytes, or text like "512MiB") is how much memory an attempt may add to its process, with the
    processes that it makes; one that takes more is killed, which counts as a crash. It is kept by
    pool processes on Linux: a kind of `io` cannot have one. `schedule` (cron: `0 7 * * 1-5`) makes
    a job with the args `{}` at these times of the IANA `timezone`, UTC if none is given; a
    `Schedule` says more of it. `concurrency` is how many attempts may run at a time, over all
    workers; an operator may set another limit. ValueError or TypeError when a name, a number or
    the signature is not as said.
    """
    _check(NAME, "kind", name)
    _check(QUEUE, "queue", queue)
    if not 1 <= max_attempts <= 1000:  # noqa: PLR2004 - a policy that never gives up is a mistake
        raise ValueError(f"max_attempts of {name} is 1 … 1000, not {max_attempts}")
    limit = None if timeout is None else as_timedelta(timeout)
    if limit == timedelta():
        raise ValueError(f"the timeout of {name} is longer than 0 s")
    planned = _schedule(name, schedule, timezone)
    if concurrency is not None and concurrency < 1:
        raise ValueError(f"the concurrency of {name} is 1 or more, not {concurrency}")
    most_memory = None if memory_limit is None else _size(name, memory_limit)

    def decorate(function: HandlerT) -> HandlerT:
        args_model, result_type = _signature(name, function)
        if planned is not None:
            _check_accepts(name, args_model, planned.args)
        policy = retry or RetryPolicy()
        kind = Kind(
            name,
            function,
            args_model,
            result_type,
            queue,
            max_attempts,
            limit,
            policy,
            most_memory,
            planned,
            concurrency,
        )
        setattr(function, _ATTRIBUTE, kind)
        return function

    return decorate


def find_kind(value: object) -> Kind | None:
    """The kind that a function was made the handler of, or None."""
    kind = getattr(value, _ATTRIBUTE, None)
    return kind if isinstance(kind, Kind) else None


def is_queue_name(value: object) -> bool:
    """Whether a queue can be called that."""
    return isinstance(value, str) and bool(QUEUE.fullmatch(value)) and len(value) <= NAME_LENGTH


def _check(pattern: re.Pattern[str], what: str, name: str) -> None:
    if not pattern.fullmatch(name) or len(name) > NAME_LENGTH:
        raise ValueError(
            f"{name!r} is no {what} name: {pattern.pattern}, ≤ {NAME_LENGTH} characters"
        )


def _schedule(name: str, given: str | Schedule | None, timezone: str | None) -> Schedule | None:
    if isinstance(given, str):
        return Schedule(cron=given, timezone=timezone or "UTC")
    if timezone is not None:
        where = (
            "no schedule that it could be of" if given is None else "a Schedule, where it belongs"
        )
        raise ValueError(f"{name} has a timezone, and {where}")
    return given


def _check_accepts(name: str, args_model: type[BaseModel], args: Mapping[str, Any]) -> None:
    text = json.dumps(dict(args))
    try:
        args_model.model_validate_json(text)
    except ValidationError as error:
        raise TypeError(
            f"{name} has a schedule, so {args_model.__name__} must accept {text}: {error}"
        ) from None


def _size(name: str, value: int | str) -> int:
    try:
        size = TypeAdapter(ByteSize).validate_python(value)
    except ValidationError as error:
        raise ValueError(
            f"the memory_limit of {name} is bytes, or text like '512MiB', not {value!r}"
        ) from error
    if size <= 0:
        raise ValueError(f"the memory_limit of {name} is more than 0 bytes")
    return int(size)


def _signature(name: str, function: Handler) -> tuple[type[BaseModel], Any]:
    hints = get_type_hints(function)
    result_type = hints.pop("return", Any)
    parameters = list(inspect.signature(function).parameters)
    args_model = hints.get(parameters[1]) if len(parameters) == 2 else None  # noqa: PLR2004
    if not (isinstance(args_model, type) and issubclass(args_model, BaseModel)):
        raise TypeError(f"the handler of {name} takes (context, args: a Pydantic model)")
    if args_model is BaseModel:
        raise TypeError(f"the args of {name} are a model of its own, not BaseModel itself")
    return args_model, result_type
