"""What of the documentation is made from the code: `python -m dev.reference` writes it.

A test compares what stands in the repository with what the code says now.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic_core import PydanticUndefined

from jobs.settings import Settings
from jobs.states import FINAL, JobState, Move

ROOT = Path(__file__).parent.parent
_SECRETS = {
    "database_url": "postgresql://lading:change-me@postgres:5432/lading",
    "broker_url": "redis://redis:6379/0",
}
_COMPOSE = """\
# Copy to .env and change what says change-me: `cp .env.example .env`. docker compose reads it.
POSTGRES_PASSWORD=change-me
FLOWER_USER=lading
FLOWER_PASSWORD=change-me
# For webhooks: `openssl rand -hex 32`, and kept for as long as the database is.
LADING_SECRET_KEY=
# Where people reach the two from outside:
LADING_PORT=8000
LADING_FLOWER_PORT=5555
LADING_FLOWER_URL=http://127.0.0.1:5555
# Kinds of your own: a folder, and the modules in it, comma-separated.
LADING_KINDS_DIR=./examples/kinds
LADING_KINDS=greetings
# Attempts at a time, of each pool:
LADING_WORKER_CONCURRENCY=2
LADING_WORKER_IO_CONCURRENCY=100

# Everything below has the default that stands here.
"""


def lifecycle_page() -> str:
    """docs/job-lifecycle.md: the diagram, the states and the moves."""
    page = (ROOT / "docs/job-lifecycle.md").read_text()
    page = _replaced(page, "diagram", f"```mermaid\n{_diagram()}\n```")
    page = _replaced(page, "states", _states())
    return _replaced(page, "moves", _moves())


def settings_page() -> str:
    """docs/reference/settings.md: every setting with its default."""
    page = (ROOT / "docs/reference/settings.md").read_text()
    rows = ["| variable | default | what it does |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        default = "required" if field.is_required() else f"`{_default(field.default)}`"
        rows.append(f"| `LADING_{name.upper()}` | {default} | {field.description} |")
    return _replaced(page, "settings", "\n".join(rows))


def env_example() -> str:
    """.env.example: what compose needs, and every setting as a comment."""
    lines = [_COMPOSE.rstrip("\n")]
    for name, field in Settings.model_fields.items():
        value = _SECRETS.get(name) or _default(field.default)
        lines.append(f"# {field.description}\n# LADING_{name.upper()}={value}")
    return "\n".join(lines) + "\n"


PAGES = {
    Path("docs/job-lifecycle.md"): lifecycle_page,
    Path("docs/reference/settings.md"): settings_page,
    Path(".env.example"): env_example,
}


def write() -> None:
    """The pages say what the code says."""
    for path, make in PAGES.items():
        (ROOT / path).write_text(make())


def _diagram() -> str:
    arrows: dict[tuple[JobState, JobState], list[str]] = {}
    for move in Move:
        for source in move.sources:
            if source is not move.target:
                arrows.setdefault((source, move.target), []).append(_title(move))
    lines = [
        "stateDiagram-v2",
        "    [*] --> queued",
        "    [*] --> scheduled",
        "    [*] --> waiting",
    ]
    lines += [f"    {a} --> {b}: {', '.join(names)}" for (a, b), names in arrows.items()]
    return "\n".join([*lines, *(f"    {state} --> [*]" for state in JobState if state in FINAL)])


def _states() -> str:
    source = (ROOT / "jobs/states.py").read_text()
    said = dict(re.findall(r'= "(\w+)"  #: (.*)', source))
    rows = [f"| `{state}` | {said[state]} |" for state in JobState]
    return "\n".join(["| state | |", "|---|---|", *rows])


def _moves() -> str:
    rows = ["| move | from | to | event | when |", "|---|---|---|---|---|"]
    for move in Move:
        sources = ", ".join(f"`{state}`" for state in move.sources)
        rows.append(
            f"| {_title(move)} | {sources} | `{move.target}` | `{move.event}` | {move.because} |"
        )
    return "\n".join(rows)


def _title(move: Move) -> str:
    return move.name.lower().replace("_", " ")


def _default(value: Any) -> str:
    match value:
        case _ if value is PydanticUndefined or value is None or value == ():
            return ""
        case Mapping() | tuple():
            return ",".join(map(str, value))
        case _:
            return str(value)


def _replaced(page: str, section: str, text: str) -> str:
    """The page with the section between its two comments made anew."""
    start, end = f"<!-- {section}: made by dev/reference.py -->", f"<!-- end of {section} -->"
    before, _, rest = page.partition(start)
    _, _, after = rest.partition(end)
    return f"{before}{start}\n{text}\n{end}{after}"


if __name__ == "__main__":
    write()
