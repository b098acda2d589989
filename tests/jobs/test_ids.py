"""Ids are born once: in threads, and on both sides of a fork."""

import multiprocessing
import sys
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection

import pytest

from jobs.ids import uuid7

CHANCE = (1 << 62) - 1  # the bits of an id that no clock has made


def test_an_id_is_a_uuid_of_version_7_and_later_ones_are_greater() -> None:
    ids = [uuid7() for _ in range(2000)]
    assert {each.version for each in ids} == {7}
    assert [each.int >> 64 for each in ids] == sorted(each.int >> 64 for each in ids)


def test_threads_never_share_chance() -> None:
    with ThreadPoolExecutor(4) as pool:
        made = [*pool.map(lambda _: [uuid7().int & CHANCE for _ in range(3000)], range(4))]
    assert len({each for some in made for each in some}) == 4 * 3000


def _tell(pipe: Connection) -> None:
    pipe.send([uuid7().int & CHANCE for _ in range(100)])


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no forks")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of forks beside threads
def test_children_of_one_parent_have_chance_of_their_own() -> None:
    uuid7()  # the parent has some in stock
    fork, heard = multiprocessing.get_context("fork"), [uuid7().int & CHANCE for _ in range(100)]
    for _ in range(2):
        here, there = fork.Pipe()
        child = fork.Process(target=_tell, args=(there,))
        child.start()
        heard += here.recv()
        child.join(30)
    assert len({*heard}) == 300
