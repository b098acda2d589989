"""Where a command finds its server, and what all commands take."""

from typing import Annotated

import typer

from lading.client import Client, LadingError

PATIENCE = 5.0  # seconds that a person waits for a server that may be starting


class Connection:
    """What the options before the command say."""

    def __init__(self, url: str | None, patience: float) -> None:
        self.url, self.patience = url, patience

    def client(self) -> Client:
        try:
            return Client(self.url, patience=self.patience)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from None


def connect(context: typer.Context) -> Client:
    """The client for this command; NotConfigured when nobody said where the server is."""
    connection = context.find_object(Connection)
    assert connection is not None
    return connection.client()


def complete_kind(incomplete: str) -> list[str]:
    """Names of kinds, for the shell; none if the server does not answer at once."""
    try:
        with Client(timeout=1, patience=0) as client:
            return [kind.name for kind in client.kinds() if kind.name.startswith(incomplete)]
    except (LadingError, ValueError):
        return []


AsJson = Annotated[bool, typer.Option("--json", help="JSON, one document a line.")]
JobId = Annotated[str, typer.Argument(metavar="JOB", help="The job's id.")]
JobIds = Annotated[list[str], typer.Argument(metavar="JOB…", help="The jobs' ids.")]
