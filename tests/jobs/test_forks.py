"""Forks beside threads, each in a process of its own: what guards a process does so for good."""

import subprocess
import sys

import pytest

WAITS = """
import os, threading, time
from jobs import forks

lock, held = threading.Lock(), threading.Event()

def use_a_library():
    with forks.busy(), lock:
        held.set()
        time.sleep({seconds})

forks.PATIENCE = 1.0
forks.guard()
thread = threading.Thread(target=use_a_library)
thread.start()
held.wait()
child = os.fork()
if not child:
    with forks.busy():
        os._exit(0 if lock.acquire(timeout=1) else 3)
with forks.busy():
    thread.join()
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.parametrize(
    ("seconds", "code"),
    [(0.5, 0), (2.5, 3)],
    ids=["waits for the thread's locks", "goes on without a thread that hangs"],
)
def test_a_fork(seconds: float, code: int) -> None:
    script = WAITS.format(seconds=seconds)
    ended = subprocess.run(
        [sys.executable, "-c", script], check=False, capture_output=True, text=True
    )
    assert (ended.stdout.strip(), ended.stderr) == (str(code), "")
