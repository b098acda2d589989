"""The engine's process: `python -m kinds.data_process FOLDER`, started by kinds.data_engine only.

It reads its task from standard input, and ends, taking FOLDER with it, as soon as that does: then
the process that started it is gone. Only here Polars is loaded.
"""

import json
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from kinds.data_progress import Channel
from lading import Fail

REASON_LENGTH = 2000  # characters; names and values in it come from files
REMOVING = 10.0  # seconds
BETWEEN = 0.05  # seconds from one try to the next


def main() -> None:
    """The task is done and its result told; or the reason why it cannot be."""
    told = os.dup(1)
    os.dup2(2, 1)  # whatever a library prints is no message
    with suppress(OSError):  # Linux: when memory runs out, this process is the one to go
        Path("/proc/self/oom_score_adj").write_text("500")
    folder = Path(sys.argv[1])
    task = json.loads(_first_line(folder))
    threading.Thread(target=_end_with_parent, args=(folder,), daemon=True).start()
    channel = Channel(told)
    try:
        result = _find_task(task["task"])(task, folder, channel)
    except Fail as failure:
        channel.send({"fail": failure.reason[:REASON_LENGTH]})
    else:
        channel.send({"result": result})


def _find_task(name: str) -> Callable[[dict[str, Any], Path, Channel], dict[str, Any]]:
    if name == "transform":
        from kinds.data_transform import transform  # noqa: PLC0415 - Polars, and only here

        return transform
    from kinds.data_profile import profile  # noqa: PLC0415 - as above

    return profile


def _first_line(folder: Path) -> bytes:
    read = b""
    while not read.endswith(b"\n"):
        chunk = os.read(0, 65536)
        if not chunk:  # killed before it told the task
            _end(folder)
        read += chunk
    return read


def _end_with_parent(folder: Path) -> None:
    while os.read(0, 4096):
        pass
    _end(folder)


def _end(folder: Path) -> NoReturn:
    """End at once; what Polars' threads write into the folder meanwhile is removed too."""
    until = time.monotonic() + REMOVING
    while folder.exists() and time.monotonic() < until:
        shutil.rmtree(folder, ignore_errors=True)
        time.sleep(BETWEEN)
    os._exit(1)


if __name__ == "__main__":
    main()
