"""The board: places in shared memory, written by processes and read by their parent."""

import multiprocessing
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import billiard.process
import pytest

from jobs.attempts import Usage
from jobs.lifecycle import Success
from worker.board import Board, Running, Said, ThreadBoard
from worker.shared_board import KEPT_BYTES, RECORD_BYTES, SIDES, SharedBoard

JOB = uuid4()


@pytest.fixture
def shared(monkeypatch: pytest.MonkeyPatch) -> Iterator[SharedBoard]:
    monkeypatch.setattr(billiard.process.current_process(), "index", 0, raising=False)
    board = SharedBoard.create(8, is_forked=False)
    yield board
    board.close()


@pytest.fixture(params=["shared", "threads"])
def board(request: pytest.FixtureRequest, shared: SharedBoard) -> Board:
    return shared if request.param == "shared" else ThreadBoard()


def test_an_attempt_stands_on_the_board_while_it_is_made(board: Board) -> None:
    with board.place(JOB, 3) as running:
        assert board.running() == [running]
        assert running.key == (JOB, 3)
        assert running.pid == os.getpid()
        assert not running.is_claimed
        claimed = running._replace(is_claimed=True, since=12.5, limit=30.0)
        board.write(claimed)
        assert board.running() == [claimed]
        assert board.names(JOB, 3)
        assert not board.names(JOB, 4)
        assert not board.names(uuid4(), 3)
    assert board.running() == []


def test_the_next_attempt_stands_beside_the_one_before(board: Board) -> None:
    with board.place(JOB, 3) as first, board.place(JOB, 4) as second:
        assert {running.key for running in board.running()} == {first.key, second.key}
        board.say(second, Said(is_cancelled=True))
        assert not board.heard(*first.key).is_cancelled
        assert board.heard(*second.key).is_cancelled
        board.erase(first)
        assert board.running() == [second]
        with board.place(JOB, 5) as third:
            assert {running.key for running in board.running()} == {second.key, third.key}


def test_an_attempt_that_fails_leaves_the_board(board: Board) -> None:
    with pytest.raises(RuntimeError), board.place(JOB, 1):
        raise RuntimeError
    assert board.running() == []


def test_an_attempt_whose_process_ends_stays_for_its_parent(board: Board) -> None:
    with pytest.raises(SystemExit), board.place(JOB, 1):
        raise SystemExit
    assert [running.key for running in board.running()] == [(JOB, 1)]


def test_a_dead_processs_last_words_stay_until_they_have_been_read(shared: SharedBoard) -> None:
    dead = Running(1, JOB, 3, 0.0, 1.0)
    shared.write(dead)
    with ThreadPoolExecutor(1) as pool:
        successor = pool.submit(shared.succeed)
        with pytest.raises(TimeoutError):
            successor.result(0.1)
        shared.clear(dead._replace(attempt=2))
        assert shared.running() == [dead]
        shared.clear(dead)
        successor.result(30)
    assert shared.running() == []


def test_what_is_said_is_heard_by_that_attempt_alone(board: Board) -> None:
    with board.place(JOB, 3) as running:
        assert board.heard(JOB, 3) == Said()
        board.say(running, Said(is_cancelled=True))
        assert board.heard(JOB, 3).is_cancelled
        assert board.running() == [running]
        assert not board.heard(JOB, 4).is_cancelled
        assert not board.heard(uuid4(), 3).is_cancelled
    with board.place(JOB, 4):
        assert not board.heard(JOB, 4).is_cancelled


def test_what_is_said_too_late_is_heard_by_nobody(board: Board) -> None:
    with board.place(JOB, 3) as gone:
        pass
    with board.place(JOB, 4) as running:
        board.say(gone, Said(is_cancelled=True))
        board.say(running._replace(pid=1), Said(is_cancelled=True))
        assert not board.heard(JOB, 4).is_cancelled
    assert not board.heard(JOB, 3).is_cancelled


def test_children_find_the_board_by_the_environment(shared: SharedBoard) -> None:
    with shared.place(JOB, 1) as running:
        assert SharedBoard.inherited().running() == [running]


def test_nothing_is_left_of_a_closed_board(shared: SharedBoard) -> None:
    path = Path(os.environ["LADING_WORKER_BOARD"])
    assert path.stat().st_size == 8 * SIDES * (2 * RECORD_BYTES + KEPT_BYTES) + 1
    shared.close()
    assert not path.exists()


def test_forked_children_need_no_file() -> None:
    SharedBoard.create(8, is_forked=True)
    assert not Path(os.environ["LADING_WORKER_BOARD"]).exists()


def test_a_reader_never_sees_half_a_record(shared: SharedBoard) -> None:
    """One process writes two records in turn; every reading is one of them, or nothing."""
    spawn = multiprocessing.get_context("fork")
    ready, done = spawn.Event(), spawn.Event()
    writer = spawn.Process(target=_write, args=(shared, ready, done), daemon=True)
    writer.start()
    assert ready.wait(30)
    try:
        seen: set[tuple[Any, ...]] = set()
        readings, end = 0, time.monotonic() + 30
        while readings < 50_000 or (len(seen) < 2 and time.monotonic() < end):
            readings += 1
            seen.update(tuple(running) for running in shared.running())
    finally:
        done.set()
        writer.join(30)
    assert seen == {tuple(_record(0)), tuple(_record(1))}


def _record(number: int) -> Running:
    byte = 0x11 * (number + 1)
    return Running(
        byte, UUID(bytes=bytes([byte] * 16)), byte, float(byte), float(byte), is_claimed=True
    )


def _write(board: SharedBoard, ready: Event, done: Event) -> None:
    process: Any = billiard.process.current_process()
    process.index = 7
    while not done.is_set():
        for number in (0, 1) * 500:
            board.write(_record(number))
            board.erase(_record(number))
        ready.set()


def test_a_process_without_room_is_refused_before_it_claims(
    shared: SharedBoard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(billiard.process.current_process(), "index", 8)
    with pytest.raises(IndexError, match="no more room"), shared.place(JOB, 1):
        pass
    assert shared.running() == []


def test_a_success_is_kept_for_the_parent(shared: SharedBoard) -> None:
    usage = Usage(max_rss_bytes=1, cpu_seconds=None, run_seconds=0.5)
    with shared.place(JOB, 3) as running, shared.place(JOB, 4) as other:
        assert shared.keep(Success(JOB, 3, {"b": "ä"}, usage))
        assert shared.kept(running) == Success(JOB, 3, {"b": "ä"}, usage)
        assert shared.kept(other) is None
        assert not shared.keep(Success(JOB, 4, "x" * KEPT_BYTES, usage))
        assert shared.has_not_begun(other)
        shared.write(other._replace(is_claimed=True))
        assert not shared.has_not_begun(other)
    assert shared.kept(running) is None
