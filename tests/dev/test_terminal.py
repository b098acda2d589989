import os
from contextlib import suppress
from pathlib import Path

from dev.terminal import Tail, Terminal, last_lines


def test_lines_of_children_carry_their_names(tmp_path: Path) -> None:
    with (tmp_path / "out").open("w") as out:
        terminal = Terminal(("api", "worker"), out)
        terminal.say("Lading is ready")
        terminal.relay("api", "GET /")
        terminal.close()
    assert (tmp_path / "out").read_text() == "Lading is ready\napi    | GET /\n"


def test_a_closed_output_ends_the_printing_and_nothing_else() -> None:
    reader, writer = os.pipe()
    with os.fdopen(writer, "w") as out:
        terminal = Terminal((), out)
        os.close(reader)
        for number in range(5000):
            terminal.say(f"line {number}")
        terminal.close()


def test_a_terminal_that_takes_nothing_holds_nobody_up() -> None:
    reader, writer = os.pipe()
    out = os.fdopen(writer, "w")
    terminal = Terminal((), out)
    for _ in range(5000):
        terminal.say("x" * 1000)  # much more than the pipe holds
    terminal.close()
    os.close(reader)
    with suppress(BrokenPipeError):  # what it still holds has no reader
        out.close()


def test_a_tail_gives_whole_lines_once(tmp_path: Path) -> None:
    path = tmp_path / "log"
    tail = Tail(path)
    assert tail.read() == []
    with path.open("wb", buffering=0) as log:
        log.write(b"one\ntw")
        assert tail.read() == ["one"]
        log.write(b"o\n\xff\n")
        assert tail.read() == ["two", "�"]
        log.write(b"skipped\nhalf")
        tail.skip()
        log.write(b"\nfour\n")
        assert tail.read() == ["", "four"]
    tail.close()


def test_the_last_lines_of_a_missing_log_are_none(tmp_path: Path) -> None:
    assert last_lines(tmp_path / "log", 3) == []
    (tmp_path / "log").write_text("1\n2\n3\n4\n" + "x" * 100_000 + "\n5\n6\n7\n")
    assert last_lines(tmp_path / "log", 3) == ["5", "6", "7"]
