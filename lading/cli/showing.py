"""What goes to stdout: JSON for programs, tables for people."""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import BaseModel
from pydantic_core import to_jsonable_python
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from lading.cli.words import ago, apart, json_line, one_line, percent, plain, span
from lading.client import Explanation, File, Job, Kind, LogLine, Queue, Worker

PIPE_WIDTH = 200  # columns, where there is no terminal that has a width
STYLES = {
    "queued": "cyan",
    "running": "blue",
    "retrying": "yellow",
    "succeeded": "green",
    "failed": "red",
    "cancelled": "magenta",
}


def console() -> Console:
    """For stdout as it is now: no colours and no control codes where there is no terminal."""
    width = None if sys.stdout.isatty() else PIPE_WIDTH
    return Console(highlight=False, markup=False, emoji=False, width=width)


def is_live() -> bool:
    """Whether what was written can be written over."""
    return sys.stdout.isatty() and not console().is_dumb_terminal


def document_of(model: BaseModel) -> dict[str, Any]:
    """The JSON object that the server sent."""
    return model.model_dump(mode="json", exclude_unset=True)


def show_json(document: Any) -> None:
    """One line of JSON, at once."""
    print(json_line(document), flush=True)  # noqa: T201


def show(model: BaseModel, table: RenderableType, *, as_json: bool) -> None:
    """One thing."""
    if as_json:
        show_json(document_of(model))
    else:
        console().print(table)


def show_all(models: Iterable[BaseModel], table: RenderableType, *, as_json: bool) -> None:
    """Several things: one line of JSON each, or one table."""
    if as_json:
        for model in models:
            show_json(document_of(model))
    else:
        console().print(table)


def table_of(columns: Sequence[str], rows: Iterable[Sequence[object]], title: str = "") -> Table:
    """A table; ids are never cut."""
    table = Table(title=title or None, title_justify="left", box=None, pad_edge=False)
    for column in columns:
        is_id = column == "id"
        table.add_column(column, no_wrap=is_id, min_width=36 if is_id else None)
    for row in rows:
        table.add_row(*(each if isinstance(each, Text) else plain(each) for each in row))
    return table


def state_text(state: str) -> Text:
    return Text(plain(state), STYLES.get(state, ""))


def listing(models: Iterable[BaseModel], columns: Sequence[str]) -> Table:
    """A table of these members; `actor.name` leads into another one."""
    heads = [column.replace("_", " ").removesuffix(" at").replace(".", " ") for column in columns]
    return table_of(heads, [[_cell(_member(each, name)) for name in columns] for each in models])


def facts_table(model: BaseModel) -> Table:
    """All that is known of one thing."""
    document = {name: getattr(model, name) for name in type(model).model_fields}
    return _facts_table({name.replace("_", " "): _cell(each) for name, each in document.items()})


def explanation_table(explanation: Explanation) -> Table:
    """Why a job does not run, the first reason first."""
    rows = [(each.code, each.detail, each.advice) for each in explanation.reasons]
    ahead = "" if explanation.ahead is None else f", {explanation.ahead} ahead of it"
    return table_of(("why", "what keeps it", "what to do"), rows, explanation.state + ahead)


def _member(model: Any, path: str) -> Any:
    for name in path.split("."):
        model = model.get(name) if isinstance(model, dict) else getattr(model, name, None)
    return model


def _cell(value: Any) -> str | Text:
    if value is None or value in ([], {}):  # as a pattern {} would fit any dict
        return ""
    match value:
        case bool():
            return "yes" if value else "no"
        case datetime():
            return _moment(value) or ""
        case [str(), *_] | [UUID(), *_] | [datetime(), *_]:
            return ", ".join(str(_cell(each)) for each in value)
        case list() | dict() | BaseModel():
            return json_line(to_jsonable_python(value))
    return state_text(value) if value in STYLES else str(value)


def jobs_table(jobs: Iterable[Job], title: str = "") -> Table:
    rows = (
        (
            job.id,
            job.kind,
            state_text(job.state),
            job.attempt,
            percent(job.progress.fraction) if job.progress else "",
            ago(job.created_at),
            one_line(labels_text(job.labels)),
        )
        for job in jobs
    )
    return table_of(("id", "kind", "state", "attempt", "done", "created", "labels"), rows, title)


def job_table(job: Job) -> Table:
    """Everything about one job."""
    return _facts_table(_facts(job))


def _facts_table(facts: Mapping[str, object]) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    for name, value in facts.items():
        if value not in (None, ""):
            table.add_row(name, value if isinstance(value, Text) else plain(value))
    return table


def _facts(job: Job) -> Mapping[str, object]:
    progress = job.progress
    budget = f"{job.failures} of {job.max_attempts} failures, {job.crashes} crashes"
    return {
        "id": job.id,
        "kind": job.kind,
        "state": state_text(job.state + (", cancel asked" if job.cancel_requested else "")),
        "queue": f"{job.queue}, priority {job.priority}",
        "attempt": f"{job.attempt} ({budget})",
        "progress": f"{percent(progress.fraction)} {progress.message or ''}" if progress else None,
        "labels": labels_text(job.labels),
        "created": _moment(job.created_at),
        "run at": _moment(job.run_at),
        "started": _moment(job.started_at),
        "finished": _moment(job.finished_at),
        "parent": job.parent_id,
        "rerun of": job.rerun_of,
        "args": _pretty(job.args) if job.args else None,
        "result": _pretty(job.result) if job.state == "succeeded" else None,
        "error": f"{job.error.type}: {job.error.message}" if job.error else None,
        "cause": job.error.cause if job.error else None,
        "traceback": job.error.traceback if job.error else None,
    }


def kinds_table(kinds: Iterable[Kind]) -> Table:
    rows = (
        (
            kind.name,
            kind.queue,
            kind.defaults.get("max_attempts", ""),
            span(kind.defaults.get("timeout")) or "–",
            one_line((kind.description or "").strip().partition("\n\n")[0], 100),
        )
        for kind in kinds
    )
    return table_of(("kind", "queue", "attempts", "timeout", "what it does"), rows)


def queues_table(queues: Iterable[Queue], title: str = "") -> Table:
    rows = (
        (
            queue.name,
            queue.queued,
            queue.running,
            queue.scheduled,
            span(queue.oldest_wait_seconds),
            queue.workers,
            Text("paused", "yellow") if queue.paused else "",
        )
        for queue in queues
    )
    columns = ("queue", "queued", "running", "scheduled", "oldest wait", "workers", "")
    return table_of(columns, rows, title)


def workers_table(workers: Iterable[Worker], title: str = "") -> Table:
    rows = (
        (
            worker.id,
            worker.host,
            worker.pid,
            worker.pool,
            ", ".join(worker.queues),
            f"{worker.running}/{worker.slots}",
            ago(worker.started_at),
            ago(worker.seen_at),
        )
        for worker in workers
    )
    columns = ("id", "host", "pid", "pool", "queues", "running", "started", "seen")
    return table_of(columns, rows, title)


def files_table(files: Iterable[File]) -> Table:
    rows = ((file.id, file.name, f"{file.size:,}", file.media_type) for file in files)
    return table_of(("id", "name", "bytes", "type"), rows)


def line_text(line: Mapping[str, Any] | LogLine) -> str:
    """A log line without its time: level, message, fields."""
    found = dict(line)
    fields = " ".join(f"{name}={json_line(each)}" for name, each in found["fields"].items())
    return plain(f"{found['level']:<7} {found['message']} {fields}".rstrip())


def labels_text(labels: Mapping[str, str]) -> str:
    return " ".join(f"{name}={value}" for name, value in labels.items())


def _pretty(document: Any) -> str:
    return json.dumps(document, ensure_ascii=False, indent=2)


def _moment(moment: Any) -> str | None:
    if moment is None:
        return None
    return f"{moment.astimezone():%Y-%m-%d %H:%M:%S %z} ({apart(moment)})"
