"""What makes jobs by itself, and what keeps them from starting: schedules, triggers, limits."""

from datetime import datetime
from typing import Annotated, cast

import typer

from lading.cli.connecting import AsJson, JobId, complete_kind, connect
from lading.cli.making import Command, Name, does, lists, lists_of, shows, tell
from lading.cli.reading import duration, duration_option, given, read_json, read_labels, read_object
from lading.cli.reading import time_option as time_
from lading.cli.showing import explanation_table, show
from lading.client import ScheduleChanges, ScheduleOptions, TriggerChanges, TriggerOptions

Kind = Annotated[
    str, typer.Argument(metavar="KIND", autocompletion=complete_kind, help="Of the jobs.")
]
Args = Annotated[str, typer.Option(metavar="JSON|@FILE", help="Of each job; @-: from stdin.")]
Options = Annotated[
    str,
    typer.Option(metavar="JSON|@FILE", help="More of it, as the API has it: unique, timeout, …"),
]
Changes = Annotated[
    str, typer.Argument(metavar="JSON|@FILE", help='As the API has them: {"priority": 9}')
]
Labels = Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE", help="May be repeated.")]
Scope = Annotated[
    str, typer.Argument(metavar="NAME", help="queue:…, kind:… or key:… (a concurrency key)")
]


def create_schedule(  # noqa: PLR0917 - what a schedule can have
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Unique in the project.")],
    kind: Kind,
    args: Args = "{}",
    cron: Annotated[str | None, typer.Option(help="'0 7 * * 1-5'")] = None,
    every: Annotated[float | None, duration_option("From one tick to the next.")] = None,
    at: Annotated[datetime | None, time_("Once.")] = None,
    timezone: Annotated[str | None, typer.Option(help="IANA: Europe/Berlin; else UTC.")] = None,
    misfire: Annotated[str | None, typer.Option(help="skip, last or all.")] = None,
    overlap: Annotated[str | None, typer.Option(help="allow, skip or cancel_old.")] = None,
    queue: Annotated[str | None, typer.Option(help="Instead of the kind's own.")] = None,
    priority: Annotated[int | None, typer.Option(min=0, max=9, help="9 goes first.")] = None,
    label: Labels = None,
    options: Options = "{}",
    as_json: AsJson = False,
) -> None:
    """Make a schedule: one of --cron, --every and --at says when."""
    said = given(cron=cron, every=every, at=at, timezone=timezone, misfire=misfire, overlap=overlap)
    said |= given(queue=queue, priority=priority, labels=read_labels(label or []))
    said |= read_object(options, "--options")
    with connect(context) as client:
        read = read_object(args, "--args")
        made = client.create_schedule(name, kind, read, **cast("ScheduleOptions", said))
    show(made, str(made.id), as_json=as_json)


def update_schedule(
    context: typer.Context, name: Name, changes: Changes, as_json: AsJson = False
) -> None:
    """Change what is named; null takes the default."""
    said = cast("ScheduleChanges", read_object(changes, "CHANGES"))
    with connect(context) as client:
        tell(client.update_schedule(name, **said), as_json=as_json)


def create_trigger(  # noqa: PLR0917 - what a trigger can have
    context: typer.Context,
    type_: Annotated[str, typer.Argument(metavar="TYPE", help="Of events: user.created, user.*")],
    kind: Kind,
    args: Annotated[
        str, typer.Option(metavar="JSON|@FILE", help="Expressions over the event; else its data.")
    ] = "null",
    filter_: Annotated[
        str, typer.Option("--filter", metavar="JSON|@FILE", help='{"data.plan": "pro"}')
    ] = "{}",
    name: Annotated[str | None, typer.Option(help="What people know it by.")] = None,
    off: Annotated[bool, typer.Option("--off", help="Not switched on yet.")] = False,
    options: Options = "{}",
    as_json: AsJson = False,
) -> None:
    """Make a trigger: events of the type make jobs of the kind from now on."""
    said = cast("TriggerOptions", read_object(options, "--options"))
    passing = read_object(filter_, "--filter")
    with connect(context) as client:
        read = read_json(args, "--args")
        made = client.create_trigger(
            type_, kind, read, filter=passing, name=name, enabled=not off, **said
        )
    show(made, str(made.id), as_json=as_json)


def update_trigger(
    context: typer.Context, name: Name, changes: Changes, as_json: AsJson = False
) -> None:
    """Change what is named; {"enabled": false} switches it off."""
    said = cast("TriggerChanges", read_object(changes, "CHANGES"))
    with connect(context) as client:
        tell(client.update_trigger(name, **said), as_json=as_json)


def try_trigger(
    context: typer.Context,
    name: Name,
    event: Annotated[str, typer.Argument(metavar="JSON|@FILE", help='{"type": "user.created"}')],
    as_json: AsJson = False,
) -> None:
    """Show what a trigger would make of an event; nothing is done."""
    with connect(context) as client:
        tell(client.test_trigger(name, read_object(event, "EVENT")), as_json=as_json)


def replay(  # noqa: PLR0917 - what events are chosen by
    context: typer.Context,
    name: Name,
    after: Annotated[datetime | None, time_("Events that came after this.")] = None,
    before: Annotated[datetime | None, time_("Events that came before this.")] = None,
    confirm: Annotated[int | None, typer.Option(min=0, help="Do it, to so many events.")] = None,
    as_json: AsJson = False,
) -> None:
    """Count the events that a trigger has not met; with --confirm COUNT, let it meet them."""
    with connect(context) as client:
        if confirm is None:
            found = client.preview_replay(name, received_after=after, received_before=before)
            show(
                found, f"{found.count} events; do it with --confirm {found.count}", as_json=as_json
            )
            return
        done = client.replay(name, confirm, received_after=after, received_before=before)
        tell(done, as_json=as_json)


def set_limit(  # noqa: PLR0917 - what a limit can have
    context: typer.Context,
    name: Scope,
    concurrency: Annotated[int | None, typer.Option(min=1, help="So many at a time.")] = None,
    rate: Annotated[
        str | None, typer.Option(metavar="N/DURATION", help="So many starts: 100/60, 5/1h.")
    ] = None,
    burst: Annotated[int | None, typer.Option(min=1, help="Starts at once, after silence.")] = None,
    as_json: AsJson = False,
) -> None:
    """Set how many jobs run at a time, or start in a time; what was set before is replaced."""
    with connect(context) as client:
        limited = client.set_limit(name, concurrency=concurrency, rate=_rate(rate), burst=burst)
        tell(limited, as_json=as_json)


def pause(
    context: typer.Context,
    name: Scope,
    reason: Annotated[str | None, typer.Option(help="People see it where jobs wait.")] = None,
    as_json: AsJson = False,
) -> None:
    """Start nothing more of a queue, a kind or a key. What runs goes on."""
    _check(name)
    with connect(context) as client:
        tell(client.pause(name, reason), as_json=as_json)


def resume(context: typer.Context, name: Scope, as_json: AsJson = False) -> None:
    """Let a queue, a kind or a key go on."""
    _check(name)
    with connect(context) as client:
        tell(client.resume(name), as_json=as_json)


def explain(context: typer.Context, job: JobId, as_json: AsJson = False) -> None:
    """Say why a job does not run, and what can be done about it."""
    with connect(context) as client:
        found = client.explain(job)
    show(found, explanation_table(found), as_json=as_json)


def _check(name: str) -> None:
    if name.partition(":")[0] not in {"queue", "kind", "key"} or ":" not in name:
        raise typer.BadParameter(f"{name!r} is none of queue:…, kind:… and key:…")


def _rate(text: str | None) -> tuple[int, float] | None:
    if text is None:
        return None
    starts, slash, period = text.partition("/")
    if not (slash and starts.isdecimal()):
        raise typer.BadParameter(f"{text!r} is no rate: 100/60, 5/1h", param_hint="--rate")
    return int(starts), duration(period)


SCHEDULES: dict[str, Command] = {
    "": lists(
        "List the schedules, newest first.",
        ("id", "name", "kind", "state", "sentence", "timezone", "next_at", "last_tick_at"),
        lambda client, limit: client.schedules(limit=limit),
    ),
    "show": shows("Show a schedule.", lambda client, name: client.schedule(name)),
    "create": create_schedule,
    "update": update_schedule,
    "pause": shows(
        "Let no tick make a job until it is resumed.",
        lambda client, name: client.pause_schedule(name),
    ),
    "resume": shows("Let it go on.", lambda client, name: client.resume_schedule(name)),
    "run": shows(
        "Make one more job now, beside the plan.", lambda client, name: client.run_schedule(name)
    ),
    "ticks": lists_of(
        "List what became of its ticks, newest first.",
        ("tick_at", "outcome", "reason", "ticks", "job_id"),
        lambda client, name, limit: client.ticks(name, limit=limit),
    ),
    "delete": does(
        "Delete schedules; their jobs stay.", lambda client, name: client.delete_schedule(name)
    ),
}
TRIGGERS: dict[str, Command] = {
    "": lists(
        "List the triggers, newest first.",
        ("id", "type", "kind", "enabled", "origin", "name"),
        lambda client, limit: client.triggers(limit=limit),
    ),
    "show": shows("Show a trigger.", lambda client, name: client.trigger(name)),
    "create": create_trigger,
    "update": update_trigger,
    "test": try_trigger,
    "replay": replay,
    "delete": does(
        "Delete triggers; their jobs stay.", lambda client, name: client.delete_trigger(name)
    ),
}
CONSUMERS: dict[str, Command] = {
    "": lists(
        "List the names under which events are followed, newest first.",
        ("name", "types", "position", "joined_at", "acknowledged_at"),
        lambda client, limit: client.consumers(limit=limit),
    ),
    "show": shows("Show how far a consumer has come.", lambda client, name: client.consumer(name)),
    "delete": does(
        "Forget names and their positions.", lambda client, name: client.delete_consumer(name)
    ),
}
LIMITS: dict[str, Command] = {
    "": lists(
        "List what is limited or paused, by name.",
        ("name", "concurrency", "rate", "running", "rung", "free", "paused", "pause.reason"),
        lambda client, limit: client.limits(limit=limit),
    ),
    "show": shows(
        "Show what limits queue:…, kind:… or key:….", lambda client, name: client.limit(name)
    ),
    "set": set_limit,
    "delete": does(
        "Take limits away; a pause stands.", lambda client, name: client.delete_limit(name)
    ),
}
