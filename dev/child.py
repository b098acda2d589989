"""One supervised child: started, started again when it dies, stopped with all it has started."""

import asyncio
import contextlib
import os
import signal
import subprocess
import time
from collections import deque
from pathlib import Path
from typing import Protocol

from dev.errors import DevError
from dev.programs import Program
from dev.spawning import child_options
from dev.terminal import last_lines

DEATHS = 5  # of one child …
DEATHS_WITHIN = 60.0  # … in so many seconds: starting it again does not help
RESTART_AFTER = 0.2  # seconds
READY_WITHIN = 120.0  # seconds; eight imports at once on a busy machine have taken forty
LAST_LINES = 20


class GaveUp(DevError):
    """A child does not come up or stay up; the message ends with its last log lines."""

    def __init__(self, name: str, reason: str, log: Path) -> None:
        lines = "\n".join(f"  {line}" for line in last_lines(log, LAST_LINES))
        super().__init__(f"{name} {reason}. The end of {log}:\n{lines}")


class Notify(Protocol):
    """Told at every start, with the pid before it, and why; and when a child waits."""

    def __call__(self, child: "Child", previous: int | None, sentence: str, /) -> None: ...


class Child:
    """Keeps one program running, and tells `notify`."""

    def __init__(self, program: Program, log: Path, notify: Notify) -> None:
        self.program = program
        self.log = log
        self.pid: int | None = None  #: of the newest process
        self.ready = asyncio.Event()  #: it has answered since it was last started
        self._notify = notify
        self._process: asyncio.subprocess.Process | None = None
        self._deaths: deque[float] = deque(maxlen=DEATHS)
        self._stopping = False
        self._reloading = False
        self._changed = asyncio.Event()

    @property
    def name(self) -> str:
        return self.program.name

    async def keep(self, *, wait_for_change: bool = False) -> None:
        """It runs, again and again, until `stop`. Raises GaveUp at the fifth death in a minute.

        With `wait_for_change` a program that dies before it was ready is started again when
        `reload` is called: somebody is mending its source.
        """
        restarted = ""
        while True:
            previous = self.pid
            if (process := await self._spawn()) is None:
                return
            self._notify(self, previous, restarted)
            code = await self._outlive(process)
            if self._stopping:
                return
            if self._reloading:
                restarted = "has been reloaded"
            elif wait_for_change and self.program.reloads and not self.ready.is_set():
                await self._wait_for_change(code)
                restarted = "was started again"
            else:
                await self._count_death(code)
                restarted = f"{_cause(code)} and was started again"

    async def stop(self, within: float) -> None:
        """It is gone, with its whole process group; killed after `within` seconds."""
        self._stopping = True
        self._changed.set()
        if self._process is None:
            return
        await self._end(self._process, within)

    async def reload(self, within: float) -> None:
        """It has ended in good order and starts anew, which is no death."""
        if self._process is None or self._process.returncode is not None:
            self._changed.set()
            return
        self._reloading = True
        await self._end(self._process, within)

    def kill(self) -> None:
        """It is killed, with its whole process group; without `stop` it starts anew."""
        if self.pid is not None:
            _kill_group(self.pid)

    async def wait_until_ready(self) -> None:
        """Raises GaveUp where it does not answer within two minutes."""
        try:
            async with asyncio.timeout(READY_WITHIN):
                await self.ready.wait()
        except TimeoutError:
            reason = f"has not become ready within {READY_WITHIN:.0f} seconds"
            raise GaveUp(self.name, reason, self.log) from None

    async def _spawn(self) -> asyncio.subprocess.Process | None:
        """The new process; None where `stop` has been called."""
        program = self.program
        self.ready.clear()
        self._reloading = False
        if program.prepare:
            await asyncio.to_thread(program.prepare)
        if self._stopping:
            return None
        given = program.standard_input()
        with self.log.open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *program.command(),
                stdin=subprocess.DEVNULL if given is None else subprocess.PIPE,
                stdout=log,
                stderr=log,
                cwd=program.folder(),
                env={**os.environ, **program.environment},
                **child_options(program.account, program.death_signal),
            )
        self._process, self.pid = process, process.pid
        if self._stopping:  # `stop` has found no process
            self.kill()
        if process.stdin and given is not None:
            process.stdin.write(given)
            process.stdin.close()
        return process

    async def _outlive(self, process: asyncio.subprocess.Process) -> int:
        """Its exit code, once it and all of its group are gone."""
        death = asyncio.ensure_future(process.wait())
        readiness = asyncio.ensure_future(self._watch_readiness(process))
        try:
            await asyncio.wait({death, readiness}, return_when=asyncio.FIRST_COMPLETED)
            if not death.done():
                readiness.result()  # raises what the check has raised
            return await death
        finally:
            readiness.cancel()
            _kill_group(process.pid)  # what a killed leader has left behind
            await death

    async def _watch_readiness(self, process: asyncio.subprocess.Process) -> None:
        while not await self.program.is_ready(process.pid):  # noqa: ASYNC110 - another process
            await asyncio.sleep(self.program.poll_seconds)
        self.ready.set()

    async def _count_death(self, code: int) -> None:
        now = time.monotonic()
        self._deaths.append(now)
        if len(self._deaths) == DEATHS and now - self._deaths[0] < DEATHS_WITHIN:
            reason = f"has died {DEATHS} times within {DEATHS_WITHIN:.0f} seconds"
            raise GaveUp(self.name, f"{reason}, at last it {_cause(code)}", self.log)
        await asyncio.sleep(RESTART_AFTER)

    async def _wait_for_change(self, code: int) -> None:
        self._changed.clear()
        lines = "\n".join(f"  {line}" for line in last_lines(self.log, LAST_LINES))
        self._notify(self, None, f"{_cause(code)} and waits for a change of its source:\n{lines}")
        await self._changed.wait()

    async def _end(self, process: asyncio.subprocess.Process, within: float) -> None:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(self.program.stop_signal)
        try:
            async with asyncio.timeout(within):
                await process.wait()
        except TimeoutError:
            _kill_group(process.pid)
            await process.wait()
        _kill_group(process.pid)


def _kill_group(pid: int) -> None:
    """No process is left of the session that the child has led."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def _cause(code: int) -> str:
    """`was killed by SIGKILL` or `ended with exit code 1`."""
    if code < 0:
        return f"was killed by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"
