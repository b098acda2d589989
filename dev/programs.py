"""What a supervised program is: a row of the table in dev/table.py."""

import asyncio
import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dev.embedded import EmbeddedServer
from dev.spawning import Account


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """One line of the Procfile, with what a Procfile cannot say."""

    name: str  #: as in dev.json
    command: Callable[[], Sequence[str]]  #: asked at every start, after `prepare`
    is_ready: Callable[[int], Awaitable[bool]]  #: given its pid; asked until it says yes
    poll_seconds: float = 0.05  #: between two questions
    environment: Mapping[str, str] = field(default_factory=dict)
    folder: Callable[[], Path] = Path.cwd  #: where it starts
    prepare: Callable[[], None] | None = None  #: before every start; may block
    standard_input: Callable[[], bytes | None] = lambda: None
    account: Account | None = None  #: None: whoever runs the supervisor
    stop_signal: signal.Signals = signal.SIGTERM
    death_signal: signal.Signals = signal.SIGKILL  #: what it gets when the supervisor has died
    shown: bool = False  #: its log is relayed to the terminal
    reloads: bool = False  #: it starts anew when a source file changes


def embedded(name: str, server: EmbeddedServer) -> Program:
    """The program that is an embedded server."""

    async def is_ready(_pid: int) -> bool:
        return await asyncio.to_thread(server.is_ready)

    return Program(
        name=name,
        command=server.command,
        is_ready=is_ready,
        folder=lambda: server.working_folder,
        prepare=server.prepare,
        standard_input=server.configuration,
        account=server.account,
        stop_signal=server.stop_signal,
        death_signal=server.death_signal,
    )
