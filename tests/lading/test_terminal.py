"""What people see: a live bar, an answer to Ctrl-C, and no codes where there is no terminal."""

import re
import signal
import subprocess

from lading import Client
from tests.api.serving import Api
from tests.conftest import ROOT
from tests.eventually import eventually
from tests.kinds_for_tests import echo
from tests.lading.gateway import gateway
from tests.lading.handwork import Handwork
from tests.lading.terminal import command, surroundings, terminal

COLOUR = re.compile(r"\x1b\[(?:\d+;)*3\dm")
LATE = 30.0  # seconds that a loaded machine may take to start a Python


def test_a_terminal_shows_a_bar_with_the_log_above(
    api: Api, client: Client, by_hand: Handwork
) -> None:
    job = client.submit(echo)
    with terminal(api, "follow", job.id) as shown:
        eventually(lambda: "created" in shown.text, within=LATE)
        by_hand.start(job.id)
        by_hand.progress(job.id, 0.5, "half way")
        eventually(lambda: "50%" in shown.text and "half way" in shown.text)
        assert "━" in shown.text
        by_hand.log(job.id, "a line of the log")
        eventually(lambda: "a line of the log" in shown.text)
        by_hand.succeed(job.id)
        assert shown.end() == 0
        assert "100%" in shown.text
        assert COLOUR.search(shown.text)


def test_no_color_is_heeded(api: Api, client: Client, by_hand: Handwork) -> None:
    job = client.submit(echo)
    by_hand.run(job.id, steps=2)
    with terminal(api, "follow", job.id, NO_COLOR="1") as shown:
        assert shown.end() == 0
        assert "succeeded" in shown.text
        assert not COLOUR.search(shown.text)


def test_ctrl_c_leaves_the_job_running_and_says_how_to_come_back(
    api: Api, client: Client, by_hand: Handwork
) -> None:
    job = client.submit(echo)
    by_hand.start(job.id)
    with terminal(api, "follow", job.id) as shown:
        eventually(lambda: "started" in shown.text, within=LATE)
        shown.interrupt()
        assert shown.end() == 130
        assert f"lading follow {job.id} --after 2" in shown.text
        assert "Traceback" not in shown.text
    assert client.get(job).state == "running"


def test_a_submission_that_waits_can_be_left_as_well(api: Api) -> None:
    with (
        gateway(api.url) as between,
        terminal(api, "submit", "test.echo", "--wait", LADING_URL=between.url) as shown,
    ):
        eventually(lambda: any("wait=" in each.path for each in between.seen), within=LATE)
        shown.interrupt()
        assert shown.end() == 130
        assert "The job goes on" in shown.text


def test_a_pipe_gets_no_codes(api: Api, client: Client, by_hand: Handwork) -> None:
    job = client.submit(echo)
    by_hand.run(job.id, {"n": 1}, steps=3)
    for arguments in (["follow", job.id], ["list"]):
        done = subprocess.run(
            command(*arguments),
            check=False,
            cwd=ROOT,
            env=surroundings(api, TERM="xterm-256color"),
            capture_output=True,
            timeout=60,
        )
        assert (done.returncode, done.stderr) == (0, b""), done.stderr
        assert b"\x1b" not in done.stdout
        assert done.stdout


def test_top_goes_on_until_ctrl_c(api: Api, client: Client, by_hand: Handwork) -> None:
    first = client.submit(echo)
    by_hand.start(first.id)
    with terminal(api, "top", "--interval", "0.2") as shown:
        eventually(lambda: str(first.id) in shown.text, within=LATE)
        second = client.submit(echo)
        by_hand.start(second.id)
        eventually(lambda: str(second.id) in shown.text)
        shown.interrupt()
        assert shown.end() == 0
        assert "Traceback" not in shown.text


def test_a_reader_that_leaves_early_gets_no_traceback(api: Api, client: Client) -> None:
    for _ in range(3):
        client.submit(echo)
    process = subprocess.Popen(
        command("top", "--json", "--interval", "0.2"),
        cwd=ROOT,
        env=surroundings(api),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline()
    process.stdout.close()
    assert process.wait(LATE) != -signal.SIGKILL
    assert b"Traceback" not in process.stderr.read()
    process.stderr.close()
