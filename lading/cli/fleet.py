"""Kinds, queues and workers; and all that moves, live."""

import itertools
import time
from typing import Annotated, NamedTuple

import typer
from rich.console import Group
from rich.live import Live
from rich.text import Text

from lading.cli.connecting import AsJson, complete_kind, connect
from lading.cli.showing import (
    console,
    document_of,
    is_live,
    jobs_table,
    kinds_table,
    queues_table,
    show_all,
    show_json,
    workers_table,
)
from lading.cli.words import plain
from lading.client import Client, Job, Queue, Unreachable, Worker

MOST_RUNNING = 30  # jobs; more do not fit a screen


def kinds(
    context: typer.Context,
    kind: Annotated[
        str | None, typer.Argument(autocompletion=complete_kind, help="Only this one.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the kinds; as JSON with the schemas of their args and results."""
    with connect(context) as client:
        found = [each for each in client.kinds() if kind in {None, each.name}]
    if not found and kind is not None:
        raise typer.BadParameter(f"there is no kind {kind!r}")
    show_all(found, kinds_table(found), as_json=as_json)


def queues(context: typer.Context, as_json: AsJson = False) -> None:
    """List the queues."""
    with connect(context) as client:
        found = client.queues()
    show_all(found, queues_table(found), as_json=as_json)


def workers(context: typer.Context, as_json: AsJson = False) -> None:
    """List the workers that are alive."""
    with connect(context) as client:
        found = client.workers()
    show_all(found, workers_table(found), as_json=as_json)


class _Scene(NamedTuple):
    queues: list[Queue]
    workers: list[Worker]
    running: list[Job]


def top(
    context: typer.Context,
    once: Annotated[bool, typer.Option("--once", help="Show it once, and end.")] = False,
    interval: Annotated[float, typer.Option(min=0.2, help="Seconds between looks.")] = 1.0,
    as_json: AsJson = False,
) -> None:
    """Watch queues, workers and running jobs, until Ctrl-C."""
    with connect(context) as client:
        try:
            if as_json:
                _print_json(client, interval, once=once)
            elif once or not is_live():
                console().print(_picture(_look(client)))
            else:
                _watch(client, interval)
        except KeyboardInterrupt:
            return


def _print_json(client: Client, interval: float, *, once: bool) -> None:
    for turn in itertools.count():
        if turn:
            time.sleep(interval)
        scene = _look(client)
        show_json({name: [*map(document_of, each)] for name, each in scene._asdict().items()})
        if once:
            return


def _watch(client: Client, interval: float) -> None:
    """Until Ctrl-C; a server that is away is waited for."""
    scene = _look(client)
    with Live(_picture(scene), console=console(), screen=True, auto_refresh=False) as live:
        while True:
            time.sleep(interval)
            try:
                scene, trouble = _look(client), ""
            except Unreachable as error:
                trouble = str(error)
            live.update(_picture(scene, trouble), refresh=True)


def _look(client: Client) -> _Scene:
    running = client.list(state="running", limit=MOST_RUNNING)
    return _Scene([*client.queues()], [*client.workers()], [*running])


def _picture(scene: _Scene, trouble: str = "") -> Group:
    parts = [
        queues_table(scene.queues, "Queues"),
        workers_table(scene.workers, "Workers"),
        jobs_table(scene.running, "Running"),
    ]
    spaced = [each for part in parts for each in (part, Text())]
    return Group(*([Text(plain(trouble), "red"), Text()] if trouble else []), *spaced[:-1])
