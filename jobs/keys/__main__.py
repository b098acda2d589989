"""`python -m jobs.keys create --name N` prints a new key; `… check` reads one, exit 0 or 1.

It speaks to the database of LADING_DATABASE_URL.
"""

import argparse
import sys

from sqlalchemy import Engine

from jobs import database
from jobs.errors import DatabaseUnavailable
from jobs.keys.store import create_key, find_key
from jobs.keys.text import parse_key
from jobs.settings import load_settings

UNREACHABLE = 3  # exit status; 1 is a key that is not good


def main(arguments: list[str] | None = None) -> int:
    """The command's exit status."""
    parser = argparse.ArgumentParser(prog="python -m jobs.keys", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    create = commands.add_parser("create", help="make a key and print it alone")
    create.add_argument("--name", required=True, help="what people know it by")
    create.add_argument("--project", default="default", help="whose jobs it opens")
    commands.add_parser("check", help="read a key from stdin; exit 0 if it is good, else 1")
    given = parser.parse_args(arguments)
    engine = database.make_engine(load_settings(), name="keys", size=1)
    try:
        with database.translated():
            if given.command == "create":
                return _create(engine, given.project, given.name)
            return _check(engine, sys.stdin.read().strip())
    except DatabaseUnavailable as error:
        sys.stderr.write(f"{error}: {error.__cause__}\n")
        return UNREACHABLE
    finally:
        engine.dispose()


def _create(engine: Engine, project_id: str, name: str) -> int:
    with engine.begin() as connection:
        _, text = create_key(connection, project_id, name)
    sys.stdout.write(f"{text}\n")
    return 0


def _check(engine: Engine, text: str) -> int:
    key = parse_key(text)
    if key is None:
        return 1
    with engine.connect() as connection:
        return 0 if find_key(connection, key) else 1


if __name__ == "__main__":
    sys.exit(main())
