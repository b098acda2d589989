"""Notes: what a handler says is bounded, cleaned and never lost while it waits."""

from typing import Any
from uuid import uuid4

import pytest

from lading.context import Attempt
from worker.link import Link
from worker.notes import MAX_FIELDS_BYTES, MAX_MESSAGE, Notes


@pytest.fixture
def notes() -> Notes:
    return Notes(Link(Attempt(uuid4(), "test.echo", 1, 0, 5, {}), None))


@pytest.mark.parametrize(
    ("said", "shown"), [(0.5, 0.5), (-1, 0.0), (7, 1.0), (float("inf"), 1.0), (float("nan"), 0.0)]
)
def test_progress_lies_between_nothing_and_all(notes: Notes, said: float, shown: float) -> None:
    notes.show(said, None)
    assert notes.take_progress() == (shown, None)
    assert notes.take_progress() is None


def test_the_newest_progress_wins(notes: Notes) -> None:
    notes.show(0.1, "first")
    notes.show(0.2, "second")
    taken = notes.take_progress()
    assert taken == (0.2, "second")
    notes.show(0.3, "third")
    assert taken is not None
    notes.give_back(taken)
    assert notes.take_progress() == (0.3, "third")


def test_lines_wait_in_batches_of_a_hundred_until_they_have_arrived(notes: Notes) -> None:
    for index in range(150):
        notes.add("info", str(index), {})
    first = notes.next_batch()
    assert [line["message"] for line in first] == [str(index) for index in range(100)]
    assert notes.next_batch() == first
    assert notes.arrived(2) == []
    assert len(notes.next_batch()) == 50
    assert not notes.is_empty
    notes.arrived(3)
    assert notes.is_empty


def test_the_oldest_events_give_way_beyond_ten_thousand_lines(notes: Notes) -> None:
    gone = []
    for seq in range(2, 104):
        for _ in range(100):
            notes.add("info", "line", {})
        notes.next_batch()
        gone.append(notes.arrived(seq))
    assert gone[:100] == [[]] * 100
    assert gone[100:] == [[(2, 100)], [(3, 100)]]


def test_what_nobody_takes_does_not_fill_the_memory(notes: Notes) -> None:
    for index in range(10_007):
        notes.add("info", str(index), {})
    assert notes.dropped == 7
    assert notes.next_batch()[0]["message"] == "7"


@pytest.mark.parametrize(
    ("field", "stored"),
    [
        ({"a": (1, 2)}, {"a": [1, 2]}),
        ({"id": 2**70}, {"id": 2**70}),
        ({"nul": "\0"}, {"nul": "\ufffd"}),
        ({"set": {1}}, {"set": [1]}),
        ({"odd": Ellipsis}, {"odd": "Ellipsis"}),
    ],
)
def test_fields_become_json(notes: Notes, field: dict[str, Any], stored: dict[str, Any]) -> None:
    notes.add("info", "line", field)
    assert notes.next_batch()[0]["fields"] == stored


def test_fields_are_copied_at_once(notes: Notes) -> None:
    found = [1]
    notes.add("info", "line", {"found": found})
    found.append(2)
    assert notes.next_batch()[0]["fields"] == {"found": [1]}


def test_long_messages_and_fields_are_cut(notes: Notes) -> None:
    circle: list[Any] = []
    circle.append(circle)
    notes.add("info", "x" * 10_000, {"data": "y" * 10_000})
    notes.add("info", "line", {"circle": circle})
    long, odd = notes.next_batch()
    assert len(long["message"]) == MAX_MESSAGE
    assert len(str(long["fields"])) < MAX_FIELDS_BYTES
    assert set(long["fields"]) == set(odd["fields"]) == {"cut"}
