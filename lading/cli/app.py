"""All commands together, and how one run of them ends."""

import importlib.metadata
from collections.abc import Sequence
from typing import Annotated

import typer

from lading.cli import exits, files, fleet, jobs, operating, rules
from lading.cli.connecting import PATIENCE, Connection
from lading.cli.events import events
from lading.cli.following import follow
from lading.cli.making import Command, group
from lading.cli.publishing import publish
from lading.cli.submitting import submit
from lading.client import LadingError

app = typer.Typer(
    name="lading",
    help="Durable jobs: submit, follow, look around. The server is found by LADING_URL and"
    " LADING_API_KEY, else in .lading/dev.json of this folder or one above.",
    epilog="Exit codes: 0 ok, 1 the job failed or was cancelled, 2 usage, 3 unreachable.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

COMMANDS: dict[str, Command] = {
    "submit": submit,
    "publish": publish,
    "get": jobs.get,
    "list": jobs.list_,
    "follow": follow,
    "logs": jobs.logs,
    "cancel": jobs.cancel,
    "retry": jobs.retry,
    "run-now": jobs.run_now,
    "rerun": jobs.rerun,
    "delete": jobs.delete,
    "upload": files.upload,
    "download": files.download,
    "kinds": fleet.kinds,
    "queues": fleet.queues,
    "workers": fleet.workers,
    "top": fleet.top,
    "explain": rules.explain,
    "pause": rules.pause,
    "resume": rules.resume,
    "events": events,
    "audit": operating.audit,
}
GROUPS: dict[str, tuple[str, dict[str, Command]]] = {
    "limits": ("What is limited or paused, and limits set.", rules.LIMITS),
    "schedules": ("What runs when.", rules.SCHEDULES),
    "triggers": ("Which events make which jobs.", rules.TRIGGERS),
    "consumers": ("Who follows events, and how far.", rules.CONSUMERS),
    "webhooks": ("Who is told of events.", operating.WEBHOOKS),
    "batches": ("Jobs that were submitted together.", operating.BATCHES),
    "bulk": ("One word said to many jobs.", operating.BULK),
    "keys": ("API keys.", operating.KEYS),
    "projects": ("Whose jobs, keys and rules are whose.", operating.PROJECTS),
}
for name, command in COMMANDS.items():
    app.command(name)(command)
for name, (words, commands) in GROUPS.items():
    app.add_typer(group(words, commands), name=name)


def _print_version(is_asked: bool) -> None:
    if is_asked:
        try:
            print(importlib.metadata.version("lading"))  # noqa: T201
        except importlib.metadata.PackageNotFoundError:
            print("not installed")  # noqa: T201 - run from a checkout
        raise typer.Exit


@app.callback()
def options(
    context: typer.Context,
    url: Annotated[
        str | None, typer.Option(metavar="URL", help="The server, instead of LADING_URL.")
    ] = None,
    patience: Annotated[
        float,
        typer.Option(metavar="SECONDS", min=0, help="How long to try when it does not answer."),
    ] = PATIENCE,
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print it, and end."
        ),
    ] = False,
) -> None:
    """Keep what stands before the command."""
    context.obj = Connection(url, patience)


def run(arguments: Sequence[str]) -> int:
    """One command is done; its exit code."""
    try:
        app(args=[*arguments], prog_name="lading")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else exits.USAGE
    except (LadingError, OSError) as error:
        return exits.report(error)
    return exits.OK
