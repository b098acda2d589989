"""`@on`: a kind says itself which events make its jobs.

    @on("user.created", args={"to": ["data.email"], "template": "'welcome'"})
    @job("mail.welcome", queue="io")
    def welcome(context: JobContext, args: Welcome) -> None: ...

Nothing is registered at import: workers keep the server's list of these triggers when they start.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from lading.durations import as_timedelta
from lading.patterns import WRONG, is_pattern

FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])

DURATIONS = frozenset({"delay", "timeout", "expires_in"})
OPTIONS = DURATIONS | {"queue", "priority", "max_attempts", "labels"}
OPTIONS |= {"unique", "concurrency", "webhook"}
_ATTRIBUTE = "__lading_triggers__"


@dataclass(frozen=True)
class DeclaredTrigger:
    """What an `@on` says."""

    pattern: str
    filter: Mapping[str, Any] = field(default_factory=dict)
    args: Any = None
    options: Mapping[str, Any] = field(default_factory=dict)  #: durations in seconds
    project: str = "default"
    name: str | None = None


def on(
    pattern: str,
    *,
    filter: Mapping[str, Any] | None = None,  # noqa: A002 - what it is called everywhere
    args: Mapping[str, Any] | str | None = None,
    project: str = "default",
    name: str | None = None,
    **options: Any,
) -> Callable[[FunctionT], FunctionT]:
    """Events of that type make jobs of the decorated handler's kind, beside its `@job`.

    `pattern` is a type, its beginning (`user.*`) or `*`. `filter` and `args` are what they are in
    POST /v1/triggers: conditions on dotted paths, and JMESPath expressions; without `args` the
    event's data is the args. `options` are those of a submission: queue, priority, delay,
    max_attempts, timeout, expires_in (seconds or timedelta), labels, unique, concurrency, webhook;
    in the keys of unique and concurrency, expressions stand in braces: `{"key": "u-{data.id}"}`.
    A webhook in code has a `url` alone: a secret is no part of code.
    Only events of `project` count. A handler may have several; `name` tells two of the same pattern
    apart. ValueError.
    """
    if not is_pattern(pattern):
        raise ValueError(f"{pattern!r} is {WRONG}")
    if unknown := options.keys() - OPTIONS:
        raise ValueError(f"a job has no {', '.join(sorted(unknown))}")
    given = {key: value for key, value in options.items() if value is not None}
    if "secret" in given.get("webhook", {}):
        raise ValueError("a webhook in code has no secret: give a trigger over REST one")
    for key in DURATIONS & given.keys():
        given[key] = as_timedelta(given[key]).total_seconds()
    declared = DeclaredTrigger(pattern, dict(filter or {}), args, given, project, name)

    def decorate(function: FunctionT) -> FunctionT:
        known: tuple[DeclaredTrigger, ...] = getattr(function, _ATTRIBUTE, ())
        if any((each.pattern, each.project, each.name) == _key(declared) for each in known):
            raise ValueError(f"{pattern!r} stands here twice: give one a name")
        setattr(function, _ATTRIBUTE, (declared, *known))
        return function

    return decorate


def triggers_of(function: Callable[..., Any]) -> tuple[DeclaredTrigger, ...]:
    """What stands above a handler, in the order of the lines."""
    found: tuple[DeclaredTrigger, ...] = getattr(function, _ATTRIBUTE, ())
    return found


def _key(declared: DeclaredTrigger) -> tuple[str, str, str | None]:
    return declared.pattern, declared.project, declared.name
