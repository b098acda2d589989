"""Forks beside threads, each in a process of its own: what guards a process does so for good."""

import subprocess
import sys

import pytest

WAITS = """
import os, threading, time
from jobs import forks

lock, held, is_forked = threading.Lock(), threading.Event(), threading.Event()

def use_a_library():
    with forks.busy(), lock:
        held.set()
        {work}

forks.PATIENCE = {patience}
forks.guard()
thread = threading.Thread(target=use_a_library)
thread.start()
held.wait()
child = os.fork()
if not child:
    with forks.busy():
        os._exit(0 if lock.acquire(timeout=1) else 3)
is_forked.set()
with forks.busy():
    thread.join()
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.parametrize(
    ("work", "patience", "code"),
    [("time.sleep(0.5)", 60.0, 0), ("is_forked.wait()", 0.5, 3)],
    ids=["waits for the thread's locks", "goes on without a thread that hangs"],
)
def test_a_fork(work: str, patience: float, code: int) -> None:
    script = WAITS.format(work=work, patience=patience)
    ended = subprocess.run(
        [sys.executable, "-c", script], check=False, capture_output=True, text=True
    )
    assert (ended.stdout.strip(), ended.stderr) == (str(code), "")
