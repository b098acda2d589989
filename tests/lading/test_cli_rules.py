"""Commands of what decides on jobs, and of operators, against a real API."""

import json
import re
from pathlib import Path
from uuid import uuid4

import pytest

from lading import Client
from tests.kinds_for_tests import echo
from tests.lading.handwork import Handwork
from tests.lading.shell import Run


def test_schedules_are_made_changed_run_and_deleted(lading: Run, client: Client) -> None:
    name = f"daily {uuid4()}"
    options = ("--options", '{"unique": {"key": "k", "on_conflict": "return"}}', "--label", "a=b")
    made = lading("schedules", "create", name, "test.echo", "--cron", "0 7 * * *", *options)
    schedule = client.schedule(made.out.strip())
    assert (schedule.labels, schedule.unique and schedule.unique["key"]) == ({"a": "b"}, "k")
    assert str(schedule.id) in lading("schedules").out
    assert name in {each["name"] for each in lading("schedules", "--json").lines}
    changed = lading("schedules", "update", schedule.id, '{"every": 60, "labels": {}}', "--json")
    assert (changed.json["every"], changed.json["cron"], changed.json["labels"]) == (60, None, {})
    far = '{"at": "2090-01-01T00:00:00Z"}'
    lading("schedules", "update", schedule.id, far)
    shown = lading("schedules", "show", schedule.id).out
    assert re.search(r"next at .*\(in \d+ d\)", shown), shown
    assert lading("schedules", "pause", schedule.id, "--json").json["state"] == "paused"
    assert "active" in lading("schedules", "resume", schedule.id).out
    job = lading("schedules", "run", schedule.id, "--json").json
    assert job["schedule_id"] == str(schedule.id)
    assert lading("schedules", "ticks", schedule.id, "--json").json["job_id"] == job["id"]
    assert lading("schedules", "delete", schedule.id) == (0, "", "")
    assert lading("schedules", "show", schedule.id).code == 2
    assert lading("schedules", "create", name, "test.echo", "--options", "[").code == 2


def test_triggers_are_tried_and_replayed(lading: Run, client: Client) -> None:
    type_ = f"cli.t{uuid4().hex}"
    client.publish(type_, {"n": 1})
    args = ("--args", '{"value": "data.n"}', "--filter", '{"data.n": 1}', "--name", "mine")
    made = lading("triggers", "create", type_, "test.echo", *args).out.strip()
    assert lading("triggers", "--json").lines[0]["id"] == made
    shown = lading("triggers", "show", made).out
    assert '{"value":"data.n"}' in shown
    assert '{"data.n":1}' in shown
    event = json.dumps({"type": type_, "data": {"n": 1}})
    trial = lading("triggers", "test", made, event, "--json").json
    assert (trial["matches"], trial["args"]) == (True, {"value": 1})
    assert "1 events; do it with --confirm 1" in lading("triggers", "replay", made).out
    assert lading("triggers", "replay", made, "--confirm", 2).code == 2
    assert lading("triggers", "replay", made, "--confirm", 1, "--json").json["jobs"] == 1
    off = lading("triggers", "update", made, '{"enabled": false}', "--json").json
    assert off["enabled"] is False
    published = lading("events", "--limit", 1, "--json").json
    assert (published["event"]["type"], len(published["jobs"])) == (type_, 1)
    assert published["id"] in lading("events", "--limit", 1).out
    assert lading("triggers", "delete", made) == (0, "", "")


def test_what_is_limited_and_paused_is_explained(lading: Run, client: Client) -> None:
    key = f"k/{uuid4()}"
    name = f"key:{key}"
    limited = lading("limits", "set", name, "--concurrency", 1, "--rate", "5/1m", "--json").json
    assert (limited["concurrency"], limited["rate"]) == (1, {"limit": 5, "period": 60, "burst": 1})
    assert lading("limits", "show", name, "--json").json["name"] == name
    assert name in {each["name"] for each in lading("limits", "--json").lines}
    job = client.submit(echo, concurrency={"key": key})
    paused = lading("pause", name, "--reason", "moving", "--json").json
    assert (paused["paused"], paused["pause"]["reason"]) == (True, "moving")
    assert lading("explain", job.id, "--json").json["reasons"][0]["code"] == "paused"
    assert "moving" in lading("explain", job.id).out
    assert lading("resume", name, "--json").json["paused"] is False
    assert lading("limits", "delete", name).code == 0
    for scope in ("queue:default", "kind:test.echo"):
        assert lading("pause", scope, "--json").json["name"] == scope
        assert lading("resume", scope, "--json").json["paused"] is False
    for wrong in (
        ("pause", "default"),
        ("limits", "set", name, "--rate", "5"),
        ("pause", "kind:no"),
    ):
        assert lading(*wrong).code == 2


def test_webhooks_are_made_tried_and_rotated(lading: Run) -> None:
    url = "https://example.org/hooks"
    made = lading("webhooks", "create", url, "user.*", "job.failed", "--json").json
    assert made["secret"].startswith("whsec_")
    assert made["id"] in lading("webhooks").out
    rotated = lading("webhooks", "rotate", made["id"], "--overlap", "1h", "--json").json
    assert rotated["secret"] != made["secret"]
    sent = lading("webhooks", "test", made["id"], "--json").json
    assert lading("webhooks", "deliveries", made["id"], "--json").json["id"] == sent["id"]
    assert sent["id"] in lading("webhooks", "deliveries", made["id"]).out
    assert lading("webhooks", "replay", made["id"], sent["id"]).code == 2  # it is under way
    since = ("--since", "2026-01-01T00:00:00+00:00", "--json")
    assert lading("webhooks", "replay", made["id"], *since).json["replayed"] == 0
    assert lading("webhooks", "replay", made["id"]).code == 2
    assert lading("webhooks", "off", made["id"], "--json").json["enabled"] is False
    assert lading("webhooks", "delete", made["id"]).code == 0


def test_batches_are_submitted_and_added_to(lading: Run, tmp_path: Path) -> None:
    jobs = tmp_path / "jobs.json"
    jobs.write_text('[{"kind": "test.echo"}, {"kind": "test.echo", "after": ["#0"]}]')
    callback = ("--on-complete", '{"kind": "test.echo"}', "--open")
    made = lading("batches", "submit", f"@{jobs}", *callback).out.strip()
    assert len(lading("batches", "add", made, f"@{jobs}").out.split()) == 2
    shown = lading("batches", "show", made, "--json").json
    assert (shown["jobs"], shown["open"], shown["on_complete"] is None) == (4, False, False)
    assert lading("batches", "--json").lines[0]["id"] == made
    assert '{"queued":2,"waiting":2}' in lading("batches", "show", made).out
    assert lading("batches", "cancel", made, "--reason", "enough").code == 0
    for wrong in ("{}", '[{"kid": "x"}]', "[1]"):
        assert lading("batches", "submit", wrong).code == 2


def test_many_jobs_are_counted_before_they_are_changed(
    lading: Run, client: Client, by_hand: Handwork
) -> None:
    label = {"bulk": str(uuid4())}
    done = client.submit(echo, labels=label)
    by_hand.run(done.id)
    client.submit(echo, labels=label)
    chosen = ("--label", f"bulk={label['bulk']}", "--kind", "test.echo")
    assert lading("bulk", "preview", "cancel", *chosen, "--json").json["count"] == 1
    assert lading("bulk", "run", "cancel", *chosen, "--count", 2).code == 2
    made = lading("bulk", "run", "cancel", *chosen, "--count", 1, "--reason", "x").out.strip()
    assert lading("bulk", "show", made, "--json").json["total"] == 1
    assert lading("bulk", "stop", made, "--json").json["state"] == "stopped"
    assert "stopped: 0 done" in lading("bulk", "watch", made).out
    assert lading("bulk", "--json").lines[0]["id"] == made
    assert lading("bulk", "preview", "burn").code == 2
    told = lading("audit", "--target", made, "--json").lines
    assert [entry["action"] for entry in told] == ["bulk.stop", "bulk.start"]
    assert "bulk.stop" in lading("audit", "--action", "bulk.stop").out


def test_keys_are_made_and_deleted(lading: Run) -> None:
    made = lading("keys", "create", "theirs", "--role", "reader", "--kind", "test.*", "--json").json
    assert made["kinds"] == ["test.*"]
    assert made["key"]
    assert made["id"] in lading("keys").out
    assert lading("keys", "delete", made["id"]) == (0, "", "")


@pytest.mark.parametrize("command", ["schedules", "limits", "bulk", "consumers"])
def test_a_group_lists_what_there_is(lading: Run, command: str) -> None:
    assert lading(command, "--json").code == 0
    assert lading(command, "nonsense").code == 2


def test_projects_are_made_with_their_keys(lading: Run) -> None:
    made = lading("projects", "create", "cli-project", "--title", "Ours", "--json").json
    assert (made["id"], made["name"]) == ("cli-project", "Ours")
    assert lading("projects", "show", "cli-project", "--json").json == made
    assert "cli-project" in lading("projects").out
    assert lading("projects", "create", "cli-project").code != 0
    options = ("--role", "reader", "--project", "cli-project", "--rate", "10/50")
    key = lading("keys", "create", "first", *options, "--json").json
    assert key["rate"] == {"per_second": 10, "burst": 50}
    assert key["id"] not in lading("keys").out, "it belongs to the other project"
    assert lading("keys", "create", "wrong", "--rate", "often").code == 2
