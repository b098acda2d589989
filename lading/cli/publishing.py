"""`lading publish`: an event, from what stands on the command line."""

from typing import Annotated

import typer

from lading.cli import exits
from lading.cli.connecting import AsJson, connect
from lading.cli.reading import read_json
from lading.cli.showing import show


def publish(  # noqa: PLR0917 - what an event can have
    context: typer.Context,
    type_: Annotated[str, typer.Argument(metavar="TYPE", help="What happened: user.created.")],
    data: Annotated[
        str, typer.Option(metavar="JSON|@FILE", help="Its data; @- reads them from stdin.")
    ] = "null",
    event_id: Annotated[
        str | None, typer.Option("--id", help="The same source and id are one event.")
    ] = None,
    source: Annotated[str | None, typer.Option(metavar="URI", help="Who says it.")] = None,
    subject: Annotated[str | None, typer.Option(help="What it is about.")] = None,
    as_json: AsJson = False,
) -> None:
    """Publish an event, and print the ids of the jobs that it makes."""
    with connect(context) as client:
        published = client.publish(
            type_, read_json(data, "--data"), id=event_id, source=source, subject=subject
        )
        show(published, "\n".join(map(str, published.jobs)), as_json=as_json)
        failed = [firing for firing in published.firings if firing.job_id is None]
        for firing in failed:
            why = (firing.error or {}).get("message", "")
            exits.tell(f"Trigger {firing.trigger_id} made no job: {why}")
        if not published.firings:
            exits.tell_person(f"Accepted as {published.id}; no trigger waits for it.")
