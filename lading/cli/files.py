"""Files to the server, and back."""

from pathlib import Path
from typing import Annotated

import typer

from lading.cli.connecting import AsJson, connect
from lading.cli.showing import show, show_json


def upload(
    context: typer.Context,
    paths: Annotated[list[Path], typer.Argument(metavar="PATH…", help="What to upload.")],
    name: Annotated[str | None, typer.Option(help="Instead of the path's own.")] = None,
    media_type: Annotated[str | None, typer.Option(help="Instead of a guess by name.")] = None,
    as_json: AsJson = False,
) -> None:
    """Upload files for jobs to read, and print their ids."""
    if name is not None and len(paths) > 1:
        raise typer.BadParameter("one name is for one file", param_hint="--name")
    with connect(context) as client:
        for path in paths:
            file = client.upload(path, name=name, media_type=media_type)
            show(file, str(file.id), as_json=as_json)


def download(
    context: typer.Context,
    file: Annotated[str, typer.Argument(metavar="FILE", help="The file's id.")],
    path: Annotated[
        Path | None, typer.Argument(help="Where to; else its own name in the current folder.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Download a file, whole and checked, and print where it is."""
    with connect(context) as client:
        found = client.download(file, path)
    if as_json:
        show_json({"path": str(found)})
    else:
        print(found)  # noqa: T201
