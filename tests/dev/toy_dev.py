"""`make dev` with real servers and toy programs: python -m tests.dev.toy_dev

The programs beat once, by a line in their log; at the end they leave a file behind if the database
still takes connections.
"""

import os
import sys
from collections.abc import Mapping
from functools import partial

from dev.__main__ import main
from dev.kept import DataDirectory
from dev.options import Options
from dev.programs import Program
from dev.table import Plan, make_plan

BEAT = """
import os, pathlib, signal, socket, sys, time, urllib.parse
def stop(*_):
    server = urllib.parse.urlsplit(os.environ["LADING_DATABASE_URL"])
    socket.create_connection((server.hostname, server.port)).close()
    pathlib.Path(os.environ["LADING_DATA_DIR"], "stopped-" + sys.argv[1]).touch()
    os._exit(0)
signal.signal(signal.SIGTERM, stop)
if os.environ.get("TOY_DIES"):
    sys.exit("this toy is broken")
print("beat", flush=True)
time.sleep(600)
"""


def make_toy_plan(
    options: Options, directory: DataDirectory, environment: Mapping[str, str]
) -> Plan:
    """The real plan's servers and mail catcher; toys instead of the rest."""
    real = make_plan(options, directory, environment)
    applications = []
    for program in real.applications:
        if program.name == "mail":
            applications.append(program)
            continue
        log = directory.logs / f"{program.name}.log"

        async def is_ready(_pid: int, log: object = log) -> bool:
            return "beat" in str(log.read_text())  # type: ignore[attr-defined]

        applications.append(
            Program(
                name=program.name,
                command=partial(list, [sys.executable, "-c", BEAT, program.name]),
                is_ready=is_ready,
                environment=real.environment,
                reloads=program.reloads,
                shown=program.shown,
            )
        )
    return Plan(
        servers=real.servers,
        applications=applications,
        migration=[sys.executable, "-c", os.environ.get("TOY_MIGRATION", "")],
        environment=real.environment,
        find_key=lambda: "toy-key",
        database_url=real.database_url,
        broker_url=real.broker_url,
        flower_auth=real.flower_auth,
    )


if __name__ == "__main__":
    sys.exit(main(make_toy_plan))
