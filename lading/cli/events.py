"""`lading events`: what was published, and with `--follow` what is published from now on."""

from typing import Annotated

import typer

from lading.cli import exits
from lading.cli.connecting import AsJson, connect
from lading.cli.making import Limit
from lading.cli.showing import console, document_of, listing, show_all, show_json
from lading.cli.words import clock, plain
from lading.client import Client

COLUMNS = ("id", "event.type", "event.source", "received_at", "jobs", "error")


def events(  # noqa: PLR0917 - what can be asked of them
    context: typer.Context,
    limit: Limit = 50,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Those that come, until Ctrl-C.")
    ] = False,
    types: Annotated[
        list[str] | None,
        typer.Option("--type", metavar="PATTERN", help="user.created, user.*; may be repeated."),
    ] = None,
    after: Annotated[
        str | None, typer.Option(metavar="POSITION", help="Follow from there, or from `oldest`.")
    ] = None,
    consumer: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Follow under a name: the server keeps the position."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the events that were published, newest first, with the jobs that they made."""
    asked = types or []
    with connect(context) as client:
        if follow:
            _follow(client, asked, after, consumer, as_json=as_json)
            return
        if after is not None or consumer is not None or len(asked) > 1:
            raise typer.BadParameter("--after, --consumer and several --type go with --follow")
        wanted = asked[0] if asked else None
        found = [*client.published(type=wanted, limit=limit)]
    show_all(found, listing(found, COLUMNS), as_json=as_json)


def _follow(
    client: Client, types: list[str], after: str | None, consumer: str | None, *, as_json: bool
) -> None:
    lines = console()
    try:
        for event in client.follow_events(*types, after=after, consumer=consumer):
            if as_json:
                show_json(document_of(event))
                continue
            said = (event.event.get(name) for name in ("type", "source", "id"))
            words = " ".join(plain(str(each)) for each in said)
            lines.print(f"{clock(event.received_at)}  {words}", soft_wrap=True, markup=False)
    except KeyboardInterrupt:
        raise typer.Exit(exits.INTERRUPTED) from None
