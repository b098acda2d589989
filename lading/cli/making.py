"""Commands that are no more than a verb, what it is said to, and how its answer is shown."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any

import typer
from pydantic import BaseModel

from lading.cli.connecting import AsJson, connect
from lading.cli.showing import facts_table, listing, show, show_all
from lading.client import Client

Command = Callable[..., None]
Limit = Annotated[int, typer.Option(min=1, help="At most so many.")]
Name = Annotated[str, typer.Argument(metavar="ID", help="Its id or name.")]
Names = Annotated[list[str], typer.Argument(metavar="ID…", help="Their ids or names.")]


def lists(
    words: str, columns: Sequence[str], ask: Callable[[Client, int], Iterable[BaseModel]]
) -> Command:
    """A command that lists some things, newest first, as a table with these columns."""

    def command(context: typer.Context, limit: Limit = 50, as_json: AsJson = False) -> None:
        if context.invoked_subcommand is not None:
            return
        with connect(context) as client:
            found = [*ask(client, limit)]
        show_all(found, listing(found, columns), as_json=as_json)

    command.__doc__ = words
    return command


def lists_of(
    words: str, columns: Sequence[str], ask: Callable[[Client, str, int], Iterable[BaseModel]]
) -> Command:
    """The same of what belongs to one thing."""

    def command(
        context: typer.Context, name: Name, limit: Limit = 50, as_json: AsJson = False
    ) -> None:
        with connect(context) as client:
            found = [*ask(client, name, limit)]
        show_all(found, listing(found, columns), as_json=as_json)

    command.__doc__ = words
    return command


def shows(words: str, ask: Callable[[Client, str], BaseModel]) -> Command:
    """A command that says a verb to one thing, and shows what it is like then."""

    def command(context: typer.Context, name: Name, as_json: AsJson = False) -> None:
        with connect(context) as client:
            tell(ask(client, name), as_json=as_json)

    command.__doc__ = words
    return command


def does(words: str, ask: Callable[[Client, str], Any]) -> Command:
    """A command that says a verb to some things, one after the other, and shows nothing."""

    def command(context: typer.Context, names: Names) -> None:
        with connect(context) as client:
            for name in names:
                ask(client, name)

    command.__doc__ = words
    return command


def tell(found: BaseModel, *, as_json: bool) -> None:
    """All that is known of it."""
    show(found, facts_table(found), as_json=as_json)


def group(words: str, commands: Mapping[str, Command]) -> typer.Typer:
    """Commands behind a common word; what stands at no word is done where none follows."""
    made = typer.Typer(help=words, invoke_without_command=True, rich_markup_mode=None)
    for name, command in commands.items():
        if name:
            made.command(name)(command)
        else:
            made.callback(invoke_without_command=True, help=words)(command)
    return made
