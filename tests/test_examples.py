import pytest

from jobs.registry import load_registry
from lading import testing
from tests.conftest import ROOT


def test_the_example_kind_greets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "examples/kinds")
    kind = load_registry(["greetings"])["example.greet"]
    run = testing.run(kind.handler, {"names": ["Ann", "Bob"]}, steps={"greet 1": "Hi Ann!"})
    assert run.result == {"greetings": ["Hi Ann!", "Hello Bob!"]}
    assert run.progress[-1] == (1.0, "greeted Bob")
