"""A job's events as they happen: a bar with the log above it, or a line each."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Annotated, Protocol

import typer
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from lading.cli import exits
from lading.cli.connecting import AsJson, JobId, connect
from lading.cli.showing import STYLES, console, document_of, is_live, line_text, show_json
from lading.cli.words import clock, one_line, percent, plain
from lading.client import Client, Event

PATIENCE = 900.0  # seconds; a person presses Ctrl-C, and a deploy may take minutes


def follow(
    context: typer.Context,
    job: JobId,
    after: Annotated[int, typer.Option(min=0, help="Only events after this number.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Follow a job to its end. Ctrl-C leaves it running."""
    with connect(context) as client:
        raise typer.Exit(follow_job(client, job, after, as_json=as_json))


def follow_job(client: Client, job_id: str, after: int = 0, *, as_json: bool = False) -> int:
    """Everything after that event has been shown; the exit code for how the job ended."""
    job = client.get(job_id)  # so that a server that is not there is told from one that restarts
    seq, state = after, str(job.state)
    try:
        with _display(job.kind, as_json=as_json) as display:
            for event in client.follow(job, after=after, patience=PATIENCE):
                seq, state = event.seq, event.type
                display.show(event)
    except KeyboardInterrupt:
        exits.tell(f"The job goes on. Come back to it with: lading follow {job_id} --after {seq}")
        return exits.INTERRUPTED
    return exits.code_of_state(state)


class _Display(Protocol):
    def show(self, event: Event) -> None: ...


class _Json:
    def show(self, event: Event) -> None:
        show_json(document_of(event))


class _Lines:
    """For pipes and files: one line an event, and one a log line."""

    def __init__(self) -> None:
        self._console = console()

    def show(self, event: Event) -> None:
        for line in _lines(event):
            self._console.print(line, soft_wrap=True)


class _Bar:
    """For terminals: how far the attempt is, with what happened above."""

    def __init__(self, progress: Progress, kind: str) -> None:
        self._progress = progress
        self._task = progress.add_task(plain(kind), total=None, message="")

    def show(self, event: Event) -> None:
        match event.type:
            case "progress":
                done, message = event.data["fraction"], event.data.get("message")
                self._update(done, one_line(message or ""))
                return
            case "succeeded":
                self._update(1, "")
            case "started":
                self._update(None, "")
        for line in _lines(event):
            self._progress.console.print(line, soft_wrap=True)

    def _update(self, done: float | None, message: str) -> None:
        total = None if done is None else 1
        self._progress.update(self._task, completed=done or 0, total=total, message=message)


@contextmanager
def _display(kind: str, *, as_json: bool) -> Iterator[_Display]:
    if as_json:
        yield _Json()
    elif not is_live():
        yield _Lines()
    else:
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}%"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[message]}", markup=False),
        )
        with Progress(*columns, console=console()) as progress:
            yield _Bar(progress, kind)


def _lines(event: Event) -> Iterable[Text]:
    if event.type == "log" and "lines" in event.data:
        for line in event.data["lines"]:
            yield Text(f"{clock(event.at)}  {line_text(line)}")
        return
    words = plain(" ".join(filter(None, (f"{clock(event.at)} ", event.type, _remark(event)))))
    yield Text(words, STYLES.get(event.type, ""))


def _remark(event: Event) -> str:
    data = event.data
    match event.type:
        case "started":
            return f"(attempt {event.attempt})"
        case "progress":
            return f"{percent(data['fraction'])} {data.get('message') or ''}".rstrip()
        case "retrying" | "failed":
            error = data.get("error") or {}
            return f"– {error.get('type')}: {one_line(error.get('message', ''), 300)}"
        case "log":
            return f"– {data.get('dropped', 0)} lines are no longer kept"
        case _:
            found = (
                data.get("reason") or data.get("detail") or data.get("name") or data.get("cause")
            )
            return f"– {one_line(found, 300)}" if found else ""
