"""`python -m dev.check_migrations`: the migrations make exactly the tables that the models say.

Runs `alembic upgrade head` and `alembic check` on a server of its own; exits as they do.
"""

import os
import subprocess
import sys
from pathlib import Path

from dev.errors import DevError
from dev.postgres import temporary_postgres

ROOT = Path(__file__).parent.parent


def main() -> int:
    try:
        with temporary_postgres() as server:
            needed = {
                "LADING_DATABASE_URL": server.url,
                "LADING_BROKER_URL": "redis://127.0.0.1:1/0",  # asked for, never used
            }
            for command in (["upgrade", "head"], ["check"]):
                alembic = [sys.executable, "-m", "alembic", *command]
                done = subprocess.run(alembic, check=False, cwd=ROOT, env={**os.environ, **needed})
                if done.returncode:
                    return done.returncode
    except DevError as error:
        print(error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
