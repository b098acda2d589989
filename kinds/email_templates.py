"""Mail templates: a folder each, with subject.txt and body.txt, body.html or both.

They are looked for in LADING_TEMPLATES_DIR, then here. Jinja2; values are escaped in .html, and one
that a template uses and nobody gave is an error. Folders inside one root share layouts beside them
(`{% extends "layout.html" %}`).
"""

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, TemplateError, select_autoescape

from kinds.email_addresses import one_line

BUILT_IN = Path(__file__).parent / "templates"
NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")  # a name, never a path


class TemplateRefusedError(ValueError):
    """The template cannot be rendered with these variables."""


@dataclass(frozen=True, slots=True)
class Rendered:
    """What a template brings."""

    subject: str
    text: str | None
    html: str | None


def find_template(name: str, own: Path | None) -> Path | None:
    """The folder of the template: the operator's `own`, else the built-in one, else None."""
    if NAME.fullmatch(name):
        for root in (own, BUILT_IN):
            if root is not None and (root / name / "subject.txt").is_file():
                return root / name
    return None


def render(folder: Path, variables: dict[str, Any]) -> Rendered:
    """The mail of the template in `folder`; TemplateRefusedError names the variable in the way."""
    environment = _environment(folder.parent)

    def part(file: str) -> str | None:
        if not (folder / file).is_file():
            return None
        return environment.get_template(f"{folder.name}/{file}").render(variables)

    try:
        subject = one_line(" ".join((part("subject.txt") or "").split()))
        return Rendered(subject, part("body.txt"), part("body.html"))
    except (
        TemplateError,
        ArithmeticError,
        AttributeError,
        LookupError,
        TypeError,
        ValueError,
    ) as e:
        raise TemplateRefusedError(f"the template {folder.name} does not take these: {e}") from e


@cache
def _environment(root: Path) -> Environment:
    return Environment(
        loader=FileSystemLoader(root),
        autoescape=select_autoescape(disabled_extensions=("txt",), default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
