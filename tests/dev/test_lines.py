import json

import pytest

from dev.lines import for_people


def entry(**fields: object) -> str:
    return json.dumps({"timestamp": "2026-11-21T22:59:02.627326Z", "level": "info"} | fields)


def test_an_entry_is_a_time_a_sentence_and_its_fields() -> None:
    (line,) = for_people(
        entry(event="worker ready", pool="prefork", slots=2, logger="worker.x", request_id=1)
    )
    clock, _, words = line.partition(" ")
    assert len(clock) == len("22:59:02")
    assert words == "worker ready pool=prefork slots=2"


def test_what_is_worse_than_information_is_called_so_and_shows_its_traceback() -> None:
    lines = for_people(entry(event="broken", level="error", exception="Traceback:\n  KeyError: 1"))
    assert lines[0].endswith("ERROR broken")
    assert lines[1:] == ["Traceback:", "  KeyError: 1"]


@pytest.mark.parametrize("line", ["", "plain words", "{not json", "{}", '{"timestamp": 1}', "[1]"])
def test_any_other_line_stays_as_it_is(line: str) -> None:
    assert for_people(line) == [line]
