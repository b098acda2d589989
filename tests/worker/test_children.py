"""Child jobs: the ids they get."""

from uuid import uuid4

from jobs.ids import uuid7
from worker.children import child_id


def test_a_child_has_the_same_id_on_every_attempt() -> None:
    parent = uuid7()
    assert child_id(parent, 1) == child_id(parent, 1)
    others = {child_id(parent, 2), child_id(uuid7(), 1), child_id(parent, 1, "a step"), parent}
    assert child_id(parent, 1) not in others


def test_a_childs_id_is_a_version_7_of_its_parents_time() -> None:
    parent = uuid7()
    ids = [child_id(parent, number) for number in range(1, 200)]
    assert {each.version for each in ids} == {7}
    assert {each.variant for each in ids} == {parent.variant}
    assert {each.int >> 80 for each in ids} == {parent.int >> 80}
    assert len(set(ids)) == len(ids)


def test_any_parent_has_children() -> None:
    assert child_id(uuid4(), 2**40).version == 7
