"""`python -m dev`, which is `make dev`: Lading with all it needs, until Ctrl-C."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Mapping

from dev.errors import DevError
from dev.kept import DataDirectory
from dev.make import follow_make
from dev.options import Options
from dev.supervisor import Supervisor
from dev.table import PIDS, Plan, make_plan
from dev.terminal import Terminal
from dev.watchdog import Watchdog

Planner = Callable[[Options, DataDirectory, Mapping[str, str]], Plan]


async def _run(planner: Planner, environment: Mapping[str, str], terminal: Terminal) -> None:
    directory = DataDirectory(Options.data_dir_of(environment))
    lock = directory.claim()  # first: a second `make dev` hears of the first one, not of its ports
    options = Options.from_environment(environment)
    for note in options.notes:
        terminal.say(note)
    watchdog = Watchdog(kept_open=lock)
    try:
        plan = planner(options, directory, environment)
        supervisor = Supervisor(plan, options, directory, terminal, watchdog)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, supervisor.interrupt)
        following = asyncio.create_task(follow_make(supervisor.stop))
        await supervisor.run()
        following.cancel()
    finally:
        watchdog.close()


def main(planner: Planner = make_plan) -> int:
    """The exit code: 0 after a stop that was asked for, 1 with a message where it cannot go on."""
    terminal = Terminal(PIDS)
    try:
        asyncio.run(_run(planner, os.environ, terminal))
    except DevError as error:
        terminal.say(str(error))
        return 1
    except KeyboardInterrupt:  # before anything was started
        return 1
    finally:
        terminal.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
