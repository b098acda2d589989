"""The commands against a real API: what they print, and how they exit."""

import io
import sys
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from lading import Client
from lading.cli.app import COMMANDS, GROUPS
from lading.cli.words import plain, seconds_of, span
from tests.api.serving import Api
from tests.kinds_for_tests import echo
from tests.lading.handwork import Background, Handwork
from tests.lading.shell import Run


def test_submit_prints_the_id(lading: Run, client: Client, tmp_path: Path) -> None:
    done = lading("submit", "test.echo", "--args", '{"value": 1}', "--label", "a=b=c")
    job = client.get(done.out.strip())
    assert (done.code, done.err) == (0, "")
    assert (job.args, job.labels) == ({"value": 1}, {"a": "b=c"})
    args = tmp_path / "args.json"
    args.write_text('{"value": "from a file"}')
    options = ("--priority", 9, "--delay", "1.5h", "--max-attempts", 2, "--queue", "q", "--json")
    made = lading("submit", "test.echo", "--args", f"@{args}", *options).json
    assert (made["args"], made["state"]) == ({"value": "from a file"}, "scheduled")
    assert (made["priority"], made["max_attempts"], made["queue"]) == (9, 2, "q")


def test_args_come_from_stdin_too(lading: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO('{"value": "piped"}'))
    assert lading("submit", "test.echo", "--args", "@-", "--json").json["args"] == {
        "value": "piped"
    }


def test_the_same_key_prints_the_same_id(lading: Run) -> None:
    command = ("submit", "test.echo", "--idempotency-key", uuid4())
    assert lading(*command).out == lading(*command).out


@pytest.mark.parametrize("end", ["run", "break_"])
def test_waiting_exits_by_how_the_job_ended(
    lading: Run, client: Client, by_hand: Handwork, background: Background, end: str
) -> None:
    label = f"waiting={uuid4()}"
    background(lambda: by_hand.when_there(client, label, getattr(by_hand, end)))
    done = lading("submit", "test.echo", "--label", label, "--wait", "--json")
    expected = (0, "succeeded") if end == "run" else (1, "failed")
    assert (done.code, done.json["state"]) == expected


def test_following_prints_a_line_an_event(lading: Run, client: Client, by_hand: Handwork) -> None:
    job = client.submit(echo)
    by_hand.start(job.id)
    by_hand.progress(job.id, 0.5, "half way")
    by_hand.log(job.id, "said \x1b[31m[red]so", n=1)
    by_hand.succeed(job.id)
    done = lading("follow", job.id)
    assert done.code == 0
    assert [line.split("  ", 1)[1].rstrip() for line in done.out.splitlines()] == [
        "created",
        "started (attempt 1)",
        "progress 50% half way",
        "info    said \ufffd[31m[red]so n=1",
        "succeeded",
    ]
    assert [event["seq"] for event in lading("follow", job.id, "--json").lines] == [1, 2, 3, 4, 5]
    assert [each["seq"] for each in lading("follow", job.id, "--after", 3, "--json").lines] == [
        4,
        5,
    ]
    assert lading("follow", job.id, "--after", 5) == (0, "", "")


def test_following_a_failed_job_says_why(lading: Run, client: Client, by_hand: Handwork) -> None:
    job = client.submit(echo)
    by_hand.break_(job.id)
    done = lading("follow", job.id)
    assert done.code == 1
    assert "failed – RuntimeError: no luck" in done.out
    assert lading("get", job.id).code == 0


def test_a_submission_can_be_followed_at_once(
    lading: Run, client: Client, by_hand: Handwork, background: Background
) -> None:
    label = f"followed={uuid4()}"
    background(lambda: by_hand.when_there(client, label, by_hand.run))
    done = lading("submit", "test.echo", "--label", label, "--follow", "--json")
    assert [event["type"] for event in done.lines] == ["created", "started", "succeeded"]


def test_get_shows_a_job(lading: Run, client: Client, by_hand: Handwork) -> None:
    job = client.submit(echo, {"value": "[bold]x"}, labels={"customer": "17"})
    by_hand.run(job.id, {"n": 7})
    shown = lading("get", job.id)
    for words in (str(job.id), "succeeded", "customer=17", '"[bold]x"', '"n": 7'):
        assert words in shown.out
    found = lading("get", job.id, "--json").json
    assert (found["id"], found["result"]) == (str(job.id), {"n": 7})


def test_list_shows_whole_ids_and_every_job_once(lading: Run, client: Client) -> None:
    label = f"listed={uuid4()}"
    name, _, value = label.partition("=")
    ids = [str(client.submit(echo, labels={name: value}).id) for _ in range(3)]
    shown = lading("list", "--label", label)
    assert [line.split()[0] for line in shown.out.splitlines()[1:]] == ids[::-1]
    assert [job["id"] for job in lading("list", "--label", label, "--json").lines] == ids[::-1]
    assert len(lading("list", "--label", label, "--limit", 2, "--json").lines) == 2
    assert lading("list", "--label", label, "--state", "failed", "--json").out == ""
    full = lading("list", "--label", label, "--full", "--json").lines
    assert [job["args"] for job in full] == [{}, {}, {}]


def test_jobs_are_moved(lading: Run, client: Client, by_hand: Handwork) -> None:
    one, two = client.submit(echo, delay=3600), client.submit(echo)
    done = lading("cancel", one.id, two.id, "--reason", "enough")
    assert done.out.splitlines() == [f"{one.id} cancelled", f"{two.id} cancelled"]
    assert lading("retry", one.id, "--json").json["state"] == "queued"
    refused = lading("retry", one.id)
    assert refused.code == 2
    assert "409 invalid-transition, request" in refused.err
    by_hand.log_and_run(one.id, "hello")
    assert "hello" in lading("logs", one.id).out
    assert lading("logs", one.id, "--json").json["message"] == "hello"
    again = lading("rerun", one.id, "--args", '{"value": 2}').out.strip()
    assert client.get(again).rerun_of == one.id
    assert lading("delete", one.id, two.id) == (0, "", "")
    assert lading("get", one.id).code == 2
    delayed = client.submit(echo, delay=3600)
    assert lading("run-now", delayed.id).out == f"{delayed.id} queued\n"


def test_files_go_up_and_come_down(lading: Run, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a\n1\n")
    (tmp_path / "b.csv").write_text("b\n2\n")
    ids = lading("upload", tmp_path / "a.csv", tmp_path / "b.csv").out.split()
    target = tmp_path / "back.csv"
    assert lading("download", ids[1], target).out == f"{target}\n"
    assert target.read_text() == "b\n2\n"
    (tmp_path / "in").mkdir()
    found = lading("download", ids[0], tmp_path / "in", "--json").json
    assert Path(found["path"]).read_text() == "a\n1\n"
    assert lading("download", ids[0], tmp_path / "in").code == 2  # it is there already
    assert lading("upload", tmp_path / "none").code == 2


def test_the_fleet_is_shown(lading: Run, client: Client, by_hand: Handwork) -> None:
    job = client.submit(echo)
    by_hand.start(job.id)
    assert "test.echo" in lading("kinds").out
    assert lading("kinds", "test.echo", "--json").json["args_schema"]["type"] == "object"
    assert lading("kinds", "test.unknown").code == 2
    assert {queue["name"] for queue in lading("queues", "--json").lines} >= {"default", "io"}
    assert "default" in lading("queues").out
    assert lading("workers", "--json").out == ""
    assert lading("schedules", "--json").out == ""
    assert str(job.id) in lading("top", "--once").out
    scene = lading("top", "--once", "--json").json
    assert str(job.id) in {each["id"] for each in scene["running"]}
    assert str(job.id) in lading("top").out  # once: this is no terminal


@pytest.mark.parametrize(
    "arguments",
    [
        ["submit"],
        ["nonsense"],
        ["submit", "test.echo", "--args", "{"],
        ["submit", "test.echo", "--args", "[]"],
        ["submit", "test.echo", "--args", "@/none/such"],
        ["submit", "test.echo", "--label", "novalue"],
        ["submit", "test.echo", "--delay", "soon"],
        ["submit", "test.echo", "--wait", "--follow"],
        ["submit", "test.unknown"],
        ["submit", "test.secret", "--args", '{"user": 1}'],
        ["submit", "test.echo", "--priority", "10"],
        ["get", str(UUID(int=1))],
        ["follow", "nothing"],
        ["--url", "ftp://x", "queues"],
    ],
    ids=" ".join,
)
def test_what_cannot_be_done_is_usage(lading: Run, arguments: list[str]) -> None:
    done = lading(*arguments)
    assert (done.code, done.out) == (2, "")
    assert done.err
    assert "Traceback" not in done.err


def test_every_flaw_is_named(lading: Run) -> None:
    said = lading("submit", "test.secret", "--args", '{"user": 1}').err
    assert "#/args/user: " in said
    assert "#/args/password: " in said


def test_a_wrong_key_is_usage(lading: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LADING_API_KEY", "wrong")
    done = lading("queues")
    assert (done.code, "401 unauthenticated" in done.err) == (2, True)


@pytest.mark.parametrize("command", [["queues"], ["follow", "x"], ["submit", "test.echo"]])
def test_no_server_is_unreachable(
    lading: Run, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    monkeypatch.setenv("LADING_URL", "http://127.0.0.1:1")
    done = lading("--patience", 0, *command)
    assert (done.code, done.out) == (3, "")
    assert "cannot be reached" in done.err


@pytest.mark.parametrize(
    "command",
    [*COMMANDS, *(f"{name} {each}" for name, (_, members) in GROUPS.items() for each in members)],
)
def test_every_command_helps(lading: Run, command: str) -> None:
    done = lading(*command.split(), "--help")
    assert done.code == 0
    assert "Usage: lading" in done.out


def test_kinds_are_completed(lading: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_LADING_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "lading submit test.ech")
    monkeypatch.setenv("COMP_CWORD", "2")
    assert lading().out.split() == ["test.echo", "test.echo_io"]
    monkeypatch.setenv("COMP_WORDS", "lading ge")
    monkeypatch.setenv("COMP_CWORD", "1")
    assert lading().out.split() == ["get"]


def test_durations_are_read_and_written() -> None:
    assert [seconds_of(each) for each in ("90", "1.5m", "2h", "7d", "250ms")] == [
        *(90, 90, 7200, 604800, 0.25)
    ]
    assert [span(each) for each in (0.04, 61, 7200, 864000)] == ["0.0 s", "1 min", "2.0 h", "10 d"]
    with pytest.raises(ValueError, match="duration"):
        seconds_of("-1")


def test_nothing_steers_the_terminal() -> None:
    assert plain("a\x1b[2Jb\x07\x9b\u202ec\td\n") == "a\ufffd[2Jb\ufffd\ufffd\ufffdc\td\n"


def test_publish_prints_the_jobs_that_an_event_makes(lading: Run, api: Api, tmp_path: Path) -> None:
    body = {"type": "cli.said", "kind": "test.flaky", "args": {"path": "data.path"}}
    assert api.http.post("/v1/triggers", json=body).status_code == 201
    data = tmp_path / "data.json"
    data.write_text('{"path": "x"}')
    done = lading("publish", "cli.said", "--data", f"@{data}", "--id", "1", "--subject", "s")
    assert done.code == 0
    assert api.job(done.out.strip())["args"] == {"path": "x"}
    again = lading("publish", "cli.said", "--data", "{}", "--id", "1", "--json").json
    assert (again["jobs"], again["event"]["subject"]) == ([done.out.strip()], "s")
    misfit = lading("publish", "cli.said", "--data", '{"path": 7}')
    assert (misfit.code, misfit.out.strip()) == (0, "")
    assert "made no job: #/args/path" in misfit.err
    assert lading("publish", "cli.unheard").out.strip() == ""
    assert lading("publish", "cli.said", "--data", "{").code == 2
