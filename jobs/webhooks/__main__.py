"""`python -m jobs.webhooks reseal`: all secrets are encrypted with the first LADING_SECRET_KEY.

After it the other keys can be taken out of the setting. It speaks to the database of
LADING_DATABASE_URL; exit 0 done, 1 a secret's key is not known, 3 unreachable.
"""

import argparse
import sys
from uuid import UUID

from sqlalchemy import Engine

from jobs import database
from jobs.errors import DatabaseUnavailable, SecretKeyMissing
from jobs.ids import FIRST
from jobs.settings import load_settings
from jobs.vault import SealedOtherwise, Vault
from jobs.webhooks.resealing import PLACES, reseal

SLICE = 500  # secrets a transaction
UNREACHABLE = 3  # exit status


def main(arguments: list[str] | None = None) -> int:
    """The command's exit status."""
    parser = argparse.ArgumentParser(prog="python -m jobs.webhooks", description=__doc__)
    parser.add_subparsers(dest="command", required=True).add_parser(
        "reseal", help="encrypt all secrets with the first key"
    )
    parser.parse_args(arguments)
    settings = load_settings()
    engine = database.make_engine(settings, name="webhooks", size=1)
    try:
        with database.translated():
            count = _reseal_all(engine, Vault.of(settings))
    except DatabaseUnavailable as error:
        sys.stderr.write(f"{error}: {error.__cause__}\n")
        return UNREACHABLE
    except (SecretKeyMissing, SealedOtherwise) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    finally:
        engine.dispose()
    sys.stdout.write(f"{count} secrets were encrypted anew\n")
    return 0


def _reseal_all(engine: Engine, vault: Vault) -> int:
    count = 0
    for place in PLACES:
        reach: UUID | None = FIRST
        while reach is not None:
            with engine.begin() as connection:
                reach, resealed = reseal(connection, vault, place, SLICE, reach)
            count += resealed
    return count


if __name__ == "__main__":
    sys.exit(main())
