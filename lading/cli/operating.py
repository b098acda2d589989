"""What operators do: webhooks, batches, bulk operations, the audit trail, keys."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, cast

import typer

from lading.cli import exits
from lading.cli.connecting import AsJson, complete_kind, connect
from lading.cli.making import Command, Limit, Name, does, lists, shows, tell
from lading.cli.reading import duration_option, given, read_json, read_labels
from lading.cli.reading import time_option as time_
from lading.cli.showing import document_of, jobs_table, listing, show, show_all, show_json
from lading.client import Client, NewJob
from lading.client.listing import JobFilters
from lading.client.operating_verbs import BulkOp

Jobs = Annotated[
    str, typer.Argument(metavar="JSON|@FILE", help='[{"kind": "…", "args": {…}}, …], 1000 at most')
]
Op = Annotated[str, typer.Argument(metavar="OP", help="cancel, retry, delete or reprioritise")]
States = Annotated[list[str] | None, typer.Option(help="In this state; may be repeated.")]
KindOption = Annotated[str | None, typer.Option(autocompletion=complete_kind)]
Queue = Annotated[str | None, typer.Option()]
Labels = Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE")]
Of = Annotated[str | None, typer.Option(metavar="ID", help="Of this one.")]


def create_webhook(
    context: typer.Context,
    url: Annotated[str, typer.Argument(metavar="URL", help="Where events are POSTed.")],
    types: Annotated[list[str], typer.Argument(metavar="TYPE…", help="user.created, job.*, *")],
    description: Annotated[str, typer.Option(help="What people know it by.")] = "",
    as_json: AsJson = False,
) -> None:
    """Tell an address of events from now on; its secret is shown this once."""
    with connect(context) as client:
        tell(client.create_webhook(url, types, description=description), as_json=as_json)


def rotate_webhook(
    context: typer.Context,
    name: Name,
    overlap: Annotated[float | None, duration_option("The old secret signs on: 24h.")] = None,
    as_json: AsJson = False,
) -> None:
    """Make a new secret, which is shown this once."""
    with connect(context) as client:
        tell(client.rotate_webhook(name, overlap=overlap), as_json=as_json)


def deliveries(
    context: typer.Context,
    name: Name,
    state: Annotated[str | None, typer.Option(help="pending, delivered, failed, …")] = None,
    limit: Limit = 50,
    as_json: AsJson = False,
) -> None:
    """List a webhook's deliveries, newest first."""
    with connect(context) as client:
        found = [*client.deliveries(name, state=state, limit=limit)]
    columns = ("id", "event_type", "state", "attempts", "last_status", "last_error", "created_at")
    show_all(found, listing(found, columns), as_json=as_json)


def redeliver(
    context: typer.Context,
    name: Name,
    delivery: Annotated[str | None, typer.Argument(metavar="DELIVERY", help="This one.")] = None,
    since: Annotated[datetime | None, time_("All that have failed since then.")] = None,
    as_json: AsJson = False,
) -> None:
    """Deliver again: one delivery, or all that have failed --since."""
    if (delivery is None) == (since is None):
        raise typer.BadParameter("a DELIVERY or --since is needed, and one of them only")
    with connect(context) as client:
        if delivery is not None:
            tell(client.redeliver(name, delivery), as_json=as_json)
        elif since is not None:
            tell(client.redeliver_failed(name, since), as_json=as_json)


def submit_batch(  # noqa: PLR0917 - what a batch can have
    context: typer.Context,
    jobs: Jobs,
    on_complete: Annotated[str | None, typer.Option(metavar="JSON|@FILE")] = None,
    on_success: Annotated[str | None, typer.Option(metavar="JSON|@FILE")] = None,
    fail_fast: Annotated[bool, typer.Option("--fail-fast", help="A failure ends all.")] = False,
    is_open: Annotated[bool, typer.Option("--open", help="More jobs follow, by add.")] = False,
    as_json: AsJson = False,
) -> None:
    """Submit jobs as a batch, and print its id."""
    callbacks = {"on_complete": on_complete, "on_success": on_success}
    read = {name: text and _job(read_json(text, f"--{name}")) for name, text in callbacks.items()}
    with connect(context) as client:
        made = client.submit_batch(
            _jobs(jobs),
            on_complete=read["on_complete"] or None,
            on_success=read["on_success"] or None,
            failure_policy="fail_fast" if fail_fast else "continue",
            open=is_open,
        )
    show(made, str(made.id), as_json=as_json)


def add_to_batch(
    context: typer.Context,
    name: Name,
    jobs: Jobs,
    is_open: Annotated[bool, typer.Option("--open", help="Still more follow.")] = False,
    as_json: AsJson = False,
) -> None:
    """Add jobs to an open batch, and print their ids; its last ones, unless --open."""
    with connect(context) as client:
        made = client.add_to_batch(name, _jobs(jobs), open=is_open)
    show_all(made, "\n".join(str(job.id) for job in made), as_json=as_json)


def cancel_batch(
    context: typer.Context,
    name: Name,
    reason: Annotated[str | None, typer.Option(help="Stands in its jobs' histories.")] = None,
    as_json: AsJson = False,
) -> None:
    """End a batch's jobs."""
    with connect(context) as client:
        tell(client.cancel_batch(name, reason), as_json=as_json)


def preview_bulk(  # noqa: PLR0917 - what jobs are chosen by
    context: typer.Context,
    op: Op,
    state: States = None,
    kind: KindOption = None,
    queue: Queue = None,
    label: Labels = None,
    batch: Of = None,
    schedule: Of = None,
    as_json: AsJson = False,
) -> None:
    """Count the jobs that it would mean, and show some."""
    with connect(context) as client:
        wanted = _filters(state, kind, queue, label, batch, schedule)
        found = client.preview_bulk(_op(op), wanted)
    count = "1 job" if found.count == 1 else f"{found.count} jobs"
    title = f"{count}, such as" if found.sample else count
    show(found, jobs_table(found.sample, title), as_json=as_json)
    exits.tell_person(f"Do it with: lading bulk run {op} … --count {found.count}")


def run_bulk(  # noqa: PLR0917 - what jobs are chosen by
    context: typer.Context,
    op: Op,
    count: Annotated[int, typer.Option(min=0, help="As the preview has counted.")],
    state: States = None,
    kind: KindOption = None,
    queue: Queue = None,
    label: Labels = None,
    batch: Of = None,
    schedule: Of = None,
    rate: Annotated[float | None, typer.Option(help="Jobs a second, at most.")] = None,
    priority: Annotated[int | None, typer.Option(min=0, max=9, help="Of reprioritise.")] = None,
    reason: Annotated[str | None, typer.Option(help="Of cancel.")] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Show it until it has ended.")] = False,
    as_json: AsJson = False,
) -> None:
    """Do it to exactly the jobs that were counted, and print the operation's id."""
    with connect(context) as client:
        wanted = _filters(state, kind, queue, label, batch, schedule)
        made = client.start_bulk(
            _op(op), wanted, count, rate=rate, priority=priority, reason=reason
        )
        if watch:
            _watch(client, str(made.id), as_json=as_json)
        else:
            show(made, str(made.id), as_json=as_json)


def watch_bulk(context: typer.Context, name: Name, as_json: AsJson = False) -> None:
    """Show how far an operation is, until it has ended. Ctrl-C leaves it running."""
    with connect(context) as client:
        _watch(client, name, as_json=as_json)


def audit(  # noqa: PLR0917 - what entries are chosen by
    context: typer.Context,
    action: Annotated[str | None, typer.Option(help="As in job.cancel.")] = None,
    actor: Annotated[str | None, typer.Option(metavar="KEY", help="A key's id.")] = None,
    target: Annotated[str | None, typer.Option(metavar="ID", help="What it was done to.")] = None,
    since: Annotated[datetime | None, time_("Not earlier.")] = None,
    until: Annotated[datetime | None, time_("Not later.")] = None,
    limit: Limit = 50,
    as_json: AsJson = False,
) -> None:
    """List who did what, newest first."""
    with connect(context) as client:
        chosen = given(action=action, actor=actor, target=target, since=since, until=until)
        found = [*client.audit(limit=limit, **chosen)]
    columns = ("at", "actor.name", "action", "target", "times", "details")
    show_all(found, listing(found, columns), as_json=as_json)


def create_key(  # noqa: PLR0917 - what a key can have
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="What people know it by.")],
    role: Annotated[str | None, typer.Option(help="reader, submitter, operator, admin.")] = None,
    scope: Annotated[list[str] | None, typer.Option(help="May be repeated.")] = None,
    kind: Annotated[list[str] | None, typer.Option(help="Patterns of what it may run.")] = None,
    expires_at: Annotated[datetime | None, time_("From then on it opens nothing.")] = None,
    rate: Annotated[str | None, typer.Option(help="Requests a second, and at once: 10/50.")] = None,
    project: Annotated[str | None, typer.Option(help="Instead of the key's own.")] = None,
    as_json: AsJson = False,
) -> None:
    """Make a key, which is shown this once."""
    chosen = given(role=role, scopes=scope, kinds=kind, expires_at=expires_at, project=project)
    if rate is not None:
        chosen["rate"] = _requests(rate)
    with connect(context) as client:
        tell(client.create_key(name, **chosen), as_json=as_json)


def create_project(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="ID", help="Lower-case letters, digits, - and _.")],
    title: Annotated[str | None, typer.Option(help="What people know it by.")] = None,
    as_json: AsJson = False,
) -> None:
    """Make a project; `keys create --project` makes its first key."""
    with connect(context) as client:
        tell(client.create_project(name, title), as_json=as_json)


def _requests(text: str) -> tuple[float, int]:
    per_second, _, burst = text.partition("/")
    try:
        return float(per_second), int(burst)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no rate: 10/50") from None


def _watch(client: Client, operation: str, *, as_json: bool) -> None:
    try:
        for found in client.watch_bulk(operation):
            if as_json:
                show_json(document_of(found))
            else:
                done = f"{found.done} done, {found.skipped} skipped, {found.failed} failed"
                print(f"{found.state}: {done}, of {found.total}")  # noqa: T201
    except KeyboardInterrupt:
        exits.tell(f"It goes on. Stop it with: lading bulk stop {operation}")
        raise typer.Exit(exits.INTERRUPTED) from None


def _op(text: str) -> BulkOp:
    if text not in {"cancel", "retry", "delete", "reprioritise"}:
        raise typer.BadParameter(f"{text!r} is none of cancel, retry, delete and reprioritise")
    return cast("BulkOp", text)


def _filters(  # noqa: PLR0917 - one after the other
    state: Sequence[str] | None,
    kind: str | None,
    queue: str | None,
    label: Sequence[str] | None,
    batch: str | None,
    schedule: str | None,
) -> JobFilters:
    labels = read_labels(label or [])
    found = given(state=state, kind=kind, queue=queue, labels=labels)
    return cast("JobFilters", found | given(batch=batch, schedule=schedule))


def _jobs(text: str) -> list[NewJob]:
    found = read_json(text, "JOBS")
    if not isinstance(found, list):
        raise typer.BadParameter("jobs are a JSON list: [{…}, …]")
    return [_job(each) for each in found]


def _job(document: Any) -> NewJob:
    try:
        return NewJob(**document)
    except TypeError as error:
        raise typer.BadParameter(f"{document!r:.200} is no job: {error}") from None


WEBHOOKS: dict[str, Command] = {
    "": lists(
        "List the webhooks, newest first.",
        ("id", "url", "event_types", "enabled", "disabled_reason", "failing_since"),
        lambda client, limit: client.webhooks(limit=limit),
    ),
    "show": shows("Show a webhook.", lambda client, name: client.webhook(name)),
    "create": create_webhook,
    "rotate": rotate_webhook,
    "on": shows("Switch it on.", lambda client, name: client.update_webhook(name, enabled=True)),
    "off": shows("Switch it off.", lambda client, name: client.update_webhook(name, enabled=False)),
    "test": shows("Send it an event.", lambda client, name: client.test_webhook(name)),
    "deliveries": deliveries,
    "replay": redeliver,
    "delete": does(
        "Delete webhooks, with their deliveries.", lambda client, name: client.delete_webhook(name)
    ),
}
BATCHES: dict[str, Command] = {
    "": lists(
        "List the batches, newest first.",
        ("id", "state", "open", "jobs", "counts", "created_at", "finished_at"),
        lambda client, limit: client.batches(limit=limit),
    ),
    "show": shows("Show a batch.", lambda client, name: client.batch(name)),
    "submit": submit_batch,
    "add": add_to_batch,
    "cancel": cancel_batch,
}
BULK: dict[str, Command] = {
    "": lists(
        "List the bulk operations, newest first.",
        ("id", "op", "state", "total", "done", "skipped", "failed", "actor.name", "created_at"),
        lambda client, limit: client.bulk_operations(limit=limit),
    ),
    "show": shows("Show how far one is.", lambda client, name: client.bulk_operation(name)),
    "preview": preview_bulk,
    "run": run_bulk,
    "watch": watch_bulk,
    "stop": shows(
        "Stop one; what is done stays done.", lambda client, name: client.stop_bulk(name)
    ),
}
PROJECTS: dict[str, Command] = {
    "": lists(
        "List the projects that the key may see.",
        ("id", "name", "created_at"),
        lambda client, limit: client.projects(limit=limit),
    ),
    "show": shows("Show a project.", lambda client, name: client.project(name)),
    "create": create_project,
}
KEYS: dict[str, Command] = {
    "": lists(
        "List the keys, newest first.",
        ("id", "name", "scopes", "kinds", "expires_at", "last_used_at"),
        lambda client, limit: client.keys()[:limit],
    ),
    "create": create_key,
    "delete": does("Delete keys.", lambda client, name: client.delete_key(name)),
}
