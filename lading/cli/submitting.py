"""`lading submit`: a job, from what stands on the command line."""

from datetime import datetime
from typing import Annotated, Any

import typer

from lading.cli import exits
from lading.cli.connecting import AsJson, complete_kind, connect
from lading.cli.following import follow_job
from lading.cli.reading import duration_option, read_labels, read_object, time_option
from lading.cli.showing import job_table, show
from lading.client import Job, JobOptions


def submit(  # noqa: PLR0917 - what a job can have
    context: typer.Context,
    kind: Annotated[
        str, typer.Argument(metavar="KIND", autocompletion=complete_kind, help="What to run.")
    ],
    args: Annotated[
        str, typer.Option(metavar="JSON|@FILE", help="Its args; @- reads them from stdin.")
    ] = "{}",
    wait: Annotated[bool, typer.Option("--wait", help="Return when the job has ended.")] = False,
    follow: Annotated[bool, typer.Option("--follow", help="Show it until it has ended.")] = False,
    queue: Annotated[str | None, typer.Option(help="Instead of the kind's own.")] = None,
    priority: Annotated[int | None, typer.Option(min=0, max=9, help="9 goes first.")] = None,
    delay: Annotated[
        float | None, duration_option("Not before so long from now: 90, 1.5m, 2h.")
    ] = None,
    run_at: Annotated[datetime | None, time_option("Not earlier.")] = None,
    timeout: Annotated[float | None, duration_option("That one attempt may take.")] = None,
    expires_in: Annotated[
        float | None, duration_option("Cancelled if not started by then.")
    ] = None,
    max_attempts: Annotated[int | None, typer.Option(min=1, help="Failures that end it.")] = None,
    label: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="May be repeated.")
    ] = None,
    idempotency_key: Annotated[
        str | None, typer.Option(help="The same key makes no second job.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Submit a job, and print its id."""
    if wait and follow:
        raise typer.BadParameter("--wait and --follow exclude each other")
    options = JobOptions()
    given: dict[str, Any] = {
        "queue": queue,
        "priority": priority,
        "delay": delay,
        "run_at": run_at,
        "timeout": timeout,
        "expires_in": expires_in,
        "max_attempts": max_attempts,
        "labels": read_labels(label or []) or None,
    }
    options.update({name: each for name, each in given.items() if each is not None})  # type: ignore[typeddict-item]
    with connect(context) as client:
        read = read_object(args, "--args")
        job = client.submit(kind, read, idempotency_key=idempotency_key, **options)
        if follow:
            exits.tell_person(f"Submitted as {job.id}")
            raise typer.Exit(follow_job(client, str(job.id), as_json=as_json))
        if wait:
            job = _finished(client.wait, job)
            show(job, job_table(job), as_json=as_json)
            raise typer.Exit(exits.code_of_state(job.state))
        show(job, str(job.id), as_json=as_json)
        exits.tell_person(f"Follow it with: lading follow {job.id}")


def _finished(wait: Any, job: Job) -> Job:
    try:
        finished: Job = wait(job)
    except KeyboardInterrupt:
        exits.tell(f"The job goes on. Come back to it with: lading follow {job.id}")
        raise typer.Exit(exits.INTERRUPTED) from None
    return finished
