"""Reading jobs, and telling them what to do."""

from collections.abc import Callable
from typing import Annotated

import typer

from lading.cli.connecting import AsJson, JobId, JobIds, complete_kind, connect
from lading.cli.reading import read_labels, read_object
from lading.cli.showing import (
    console,
    document_of,
    job_table,
    jobs_table,
    line_text,
    show,
    show_all,
    show_json,
)
from lading.cli.words import clock
from lading.client import Client, Job
from lading.client.listing import JobFilters

STATES = (
    *("waiting", "scheduled", "queued", "running", "retrying"),
    *("succeeded", "failed", "cancelled"),
)


def _complete_state(incomplete: str) -> list[str]:
    return [state for state in STATES if state.startswith(incomplete)]


def get(context: typer.Context, job: JobId, as_json: AsJson = False) -> None:
    """Show a job."""
    with connect(context) as client:
        found = client.get(job)
    show(found, job_table(found), as_json=as_json)


def list_(  # noqa: PLR0917 - what a list can be narrowed by
    context: typer.Context,
    state: Annotated[
        list[str] | None,
        typer.Option(autocompletion=_complete_state, help="In this state; may be repeated."),
    ] = None,
    kind: Annotated[str | None, typer.Option(autocompletion=complete_kind)] = None,
    queue: Annotated[str | None, typer.Option()] = None,
    label: Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 50,
    full: Annotated[bool, typer.Option("--full", help="With args and results (JSON).")] = False,
    as_json: AsJson = False,
) -> None:
    """List jobs, newest first."""
    filters = JobFilters()
    if state:
        filters["state"] = state
    if kind:
        filters["kind"] = kind
    if queue:
        filters["queue"] = queue
    if label:
        filters["labels"] = read_labels(label)
    with connect(context) as client:
        found = client.list(limit=limit, full=full, **filters)
        if as_json:
            for job in found:
                show_json(document_of(job))
        else:
            console().print(jobs_table(found))


def logs(context: typer.Context, job: JobId, as_json: AsJson = False) -> None:
    """Show what a job's handler has written."""
    with connect(context) as client:
        lines = client.logs(job)
    if as_json:
        show_all(lines, "", as_json=True)
        return
    for line in lines:
        console().print(f"{clock(line.at)}  {line_text(line)}", soft_wrap=True)


def cancel(
    context: typer.Context,
    jobs: JobIds,
    reason: Annotated[str | None, typer.Option(help="Stands in the job's history.")] = None,
    as_json: AsJson = False,
) -> None:
    """Cancel jobs; running ones are asked to end."""
    _each(context, jobs, lambda client, job: client.cancel(job, reason), as_json=as_json)


def retry(context: typer.Context, jobs: JobIds, as_json: AsJson = False) -> None:
    """Start failed, cancelled or retrying jobs again, with fresh budgets."""
    _each(context, jobs, lambda client, job: client.retry(job), as_json=as_json)


def run_now(context: typer.Context, jobs: JobIds, as_json: AsJson = False) -> None:
    """Start scheduled or retrying jobs without waiting for their time."""
    _each(context, jobs, lambda client, job: client.run_now(job), as_json=as_json)


def rerun(
    context: typer.Context,
    job: JobId,
    args: Annotated[
        str | None, typer.Option(metavar="JSON|@FILE", help="Instead of the first job's.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Submit a job's work again, and print the new job's id."""
    with connect(context) as client:
        made = client.rerun(job, None if args is None else read_object(args, "--args"))
    show(made, str(made.id), as_json=as_json)


def delete(context: typer.Context, jobs: JobIds) -> None:
    """Delete jobs that have ended, with their histories."""
    with connect(context) as client:
        for job in jobs:
            client.delete(job)


def _each(
    context: typer.Context,
    jobs: list[str],
    move: Callable[[Client, str], Job],
    *,
    as_json: bool,
) -> None:
    """One after the other, so that what is done is shown when the next one cannot be."""
    with connect(context) as client:
        for job in jobs:
            moved = move(client, job)
            asked = moved.state == "running" and moved.cancel_requested
            state = "running, asked to end" if asked else moved.state
            show(moved, f"{moved.id} {state}", as_json=as_json)
