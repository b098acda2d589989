"""Starts the table in order, keeps it running, and ends it in order.

First PostgreSQL and Valkey, then the migrations, then all others at once. At the end the other way
round, so that a worker can still write down what it leaves unfinished.
"""

import asyncio
import os
import time
from collections.abc import Coroutine, Iterable
from itertools import chain
from pathlib import Path
from typing import Any

from dev.child import Child, GaveUp
from dev.kept import DataDirectory
from dev.lines import for_people
from dev.options import Options
from dev.programs import Program
from dev.record import Record
from dev.reload import Sources
from dev.spawning import child_options
from dev.table import PIDS, ROOT, SOFT_SHUTDOWN, Plan
from dev.terminal import Tail, Terminal
from dev.watchdog import Watchdog

# All within the ten seconds that the contract allows.
APPLICATIONS_WITHIN = SOFT_SHUTDOWN + 3.5  # seconds, then they are killed; reports take their time
SERVERS_WITHIN = 1.5  # seconds; killed, they recover what they have committed
TWICE_AFTER = 1.0  # seconds; one `kill` may reach us twice, by the group and by make
RELAY_EVERY = 0.1  # seconds


class Supervisor:
    """One run of `make dev`; made inside the event loop."""

    def __init__(
        self,
        plan: Plan,
        options: Options,
        directory: DataDirectory,
        terminal: Terminal,
        watchdog: Watchdog,
    ) -> None:
        self._plan, self._options, self._directory = plan, options, directory
        self._terminal, self._watchdog = terminal, watchdog
        self._children: dict[str, Child] = {}
        self._keeps: dict[str, asyncio.Task[None]] = {}
        self._stop = asyncio.Event()
        self._stopped_at: float | None = None
        self._failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._key: str | None = None  #: known when all is ready

    async def run(self) -> None:
        """Returns when a stop was asked for and everything is gone.

        Raises DevError, everything gone too, when something does not start or stay up.
        """
        try:
            await self._until_stop(self._start())
            if not self._stop.is_set():
                self._terminal.say(self._record().banner())
                self._terminal.say(f"Logs are in {self._directory.logs}. Ctrl-C ends it.")
                await self._until_stop(self._serve())
        finally:
            self._directory.record.unlink(missing_ok=True)
            await self._end()

    def stop(self) -> None:
        """Asks for the end."""
        self._stopped_at = self._stopped_at or time.monotonic()
        self._stop.set()

    def interrupt(self) -> None:
        """Asks for the end; a second time, it is at once: what still runs is killed."""
        if self._stopped_at and time.monotonic() - self._stopped_at > TWICE_AFTER:
            for child in self._children.values():
                child.kill()
        self.stop()

    async def _until_stop(self, work: Coroutine[Any, Any, None]) -> None:
        """Returns when the work is done or a stop is asked for; raises what ends the run."""
        done, stop = asyncio.create_task(work), asyncio.create_task(self._stop.wait())
        try:
            either: tuple[asyncio.Future[Any], ...] = (done, stop, self._failure)
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            for each in (self._failure, done):
                if each.done():
                    each.result()
        finally:
            done.cancel()
            stop.cancel()
            await asyncio.wait({done, stop})

    async def _start(self) -> None:
        began = time.monotonic()
        await _all_ready([self._keep(program) for program in self._plan.servers])
        # Flower and the mail catcher know no tables.
        early = [self._keep(each) for each in self._plan.applications if not each.reloads]
        self._terminal.say("Migrating the database …")
        await self._migrate()
        self._terminal.say("Starting the API, the workers, the dispatcher, Flower and mail …")
        late = [self._keep(each) for each in self._plan.applications if each.reloads]
        find_key = asyncio.to_thread(self._plan.find_key)
        key, _ = await asyncio.gather(find_key, _all_ready([*early, *late]))
        self._key = key
        self._record().write(self._directory.record)
        self._terminal.say(f"… which took {time.monotonic() - began:.1f} s.\n")

    async def _serve(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._relay())
            if self._options.reload:
                kinds = os.environ.get("LADING_KINDS", "").split(",")
                sources = Sources(ROOT, filter(None, kinds))
                group.create_task(sources.watch(self._reload))

    async def _end(self) -> None:
        self._terminal.say("Stopping …")
        servers = {program.name for program in self._plan.servers}
        await self._stop_children(self._children.keys() - servers, APPLICATIONS_WITHIN)
        await self._stop_children(servers & self._children.keys(), SERVERS_WITHIN)
        self._terminal.say("Stopped; the next `make dev` goes on from here.")

    def _keep(self, program: Program) -> Child:
        """A child that is started now, and again when it dies."""
        child = Child(program, self._directory.log(program.name), self._changed)
        self._children[program.name] = child
        keep = asyncio.create_task(child.keep(wait_for_change=self._options.reload))
        keep.add_done_callback(self._kept)
        self._keeps[program.name] = keep
        return child

    def _kept(self, keep: asyncio.Task[None]) -> None:
        error = None if keep.cancelled() else keep.exception()
        if error and not self._failure.done() and not self._stop.is_set():
            self._failure.set_exception(error)

    def _changed(self, child: Child, previous: int | None, sentence: str) -> None:
        """A child has another pid, or has something to say."""
        if previous is not None:
            self._watchdog.forget(previous)
        if child.pid is not None:
            self._watchdog.watch(child.pid, child.program.death_signal)
        if self._key is not None:
            self._record().write(self._directory.record)
        if sentence:
            self._terminal.say(f"{child.name} {sentence}")

    def _record(self) -> Record:
        assert self._key is not None
        options, children = self._options, self._children
        return Record(
            api=options.url_of(options.port),
            flower=options.url_of(options.flower_port),
            flower_auth=self._plan.flower_auth,
            mail=options.mail_url,
            key=self._key,
            database_url=self._plan.database_url,
            broker_url=self._plan.broker_url,
            smtp=options.smtp,
            pids={"supervisor": os.getpid()}
            | {name: children[name].pid if name in children else None for name in PIDS},
        )

    async def _migrate(self) -> None:
        """The database has the newest tables; GaveUp with the migration's words if not."""
        log = self._directory.log("migrate")
        with log.open("ab") as file:
            process = await asyncio.create_subprocess_exec(
                *self._plan.migration,
                cwd=ROOT,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                env={**os.environ, **self._plan.environment},
                **child_options(),
            )
        try:
            if await process.wait():
                raise GaveUp("The migration", "has failed", log)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()

    async def _relay(self) -> None:
        """What the shown children log once they are ready goes to the terminal, too."""
        shown = [child for child in self._children.values() if child.program.shown]
        tails = {child: Tail(child.log) for child in shown}
        for tail in tails.values():
            tail.skip()
        while True:
            for child, tail in tails.items():
                if child.ready.is_set():
                    for line in chain.from_iterable(map(for_people, tail.read())):
                        self._terminal.relay(child.name, line)
                else:
                    tail.skip()
            await asyncio.sleep(RELAY_EVERY)

    async def _reload(self, path: Path) -> None:
        self._terminal.say(f"{path} has changed: reloading")
        children = [child for child in self._children.values() if child.program.reloads]
        await asyncio.gather(*(child.reload(APPLICATIONS_WITHIN) for child in children))

    async def _stop_children(self, names: Iterable[str], within: float) -> None:
        names = set(names)
        await asyncio.gather(*(self._children[name].stop(within) for name in names))
        if keeps := [self._keeps[name] for name in names]:
            await asyncio.wait(keeps)
        for name in names:
            if (pid := self._children[name].pid) is not None:
                self._watchdog.forget(pid)


async def _all_ready(children: Iterable[Child]) -> None:
    await asyncio.gather(*map(Child.wait_until_ready, children))
