"""A `with` block that is not run. Python has no word for that (PEP 377 was rejected).

So it is traced: at the block's entry a trace function is set on the caller's frame, which raises at
the block's first instruction; the block's own exit swallows that, and puts back what traced before.
Where the caller's frame is not seen to stand at a `with` (compiled code, an ExitStack, a generator,
a Python that compiles otherwise), nothing is traced, and the block is given a `Closed` in place of
what it works with: any use of it raises the same.
"""

import dis
import inspect
import sys
from types import CodeType, FrameType
from typing import Any, Final, NoReturn

_GENERATOR: Final = inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR


class Skipped(BaseException):
    """Ends a block that an earlier attempt has done; never seen outside of it."""


class Closed:
    """Stands for what a skipped block works with."""

    def __init__(self, signal: Skipped) -> None:
        object.__setattr__(self, "_signal", signal)

    def __getattribute__(self, name: str) -> NoReturn:
        raise object.__getattribute__(self, "_signal")

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise object.__getattribute__(self, "_signal")

    def __contains__(self, value: object) -> NoReturn:
        raise object.__getattribute__(self, "_signal")

    def __iter__(self) -> NoReturn:
        raise object.__getattribute__(self, "_signal")


class Skipping:
    """One block that is skipped, from its entry to its exit."""

    def __init__(self) -> None:
        self._signal = Skipped()
        self._frame: FrameType | None = None
        self._from, self._at = 0, 0
        self._before: tuple[Any, Any, bool] = (None, None, False)

    def begin(self, frame: FrameType) -> Closed:
        """The block that `frame` enters is left at its first instruction, or at its first use."""
        at = find_body(frame)
        if at is not None:
            self._before = (sys.gettrace(), frame.f_trace, frame.f_trace_opcodes)
            self._frame, self._from, self._at = frame, frame.f_lasti, at
            frame.f_trace = self._trip
            frame.f_trace_opcodes = True  # before settrace: Python 3.12 looks at it there
            sys.settrace(_ignore)
        return Closed(self._signal)

    def end(self, error: BaseException | None) -> bool:
        """Whether `error` is what ended the block; whatever traced before does so again."""
        self._restore()
        self._signal.__traceback__ = None  # it holds the frame
        return error is self._signal

    def _trip(self, frame: FrameType, _event: str, _argument: object) -> None:
        if frame.f_lasti == self._at:
            raise self._signal  # which ends the tracing, too
        if not self._from <= frame.f_lasti < self._at:
            self._restore()  # the entry failed after all: an alarm came in between, say

    def _restore(self) -> None:
        if self._frame is None:
            return
        frame, self._frame = self._frame, None
        before, frame.f_trace, frame.f_trace_opcodes = self._before
        sys.settrace(before)


def find_body(frame: FrameType) -> int | None:
    """Where the block begins that the frame's current instruction enters; None if it enters none.

    An offset into its code. The instruction after the entry is the first that is covered by an
    exception handler which calls `__exit__`; in an `async with` the end of the await lies between.
    Generators are left alone: one that ends before it yields would break `@contextmanager`.
    """
    code = frame.f_code
    if code.co_flags & _GENERATOR:
        return None
    instructions = [*dis.get_instructions(code)]
    index = max(n for n, each in enumerate(instructions) if each.offset <= frame.f_lasti)
    entry = instructions[index]
    if entry.opname == "SEND":  # it awaits, and goes on where this jumps to
        index = next(n for n, each in enumerate(instructions) if each.offset == entry.argval) - 1
    body = next((each for each in instructions[index + 1 :] if each.opname != "END_SEND"), None)
    if body is None:
        return None
    handler = _handler(code, body.offset)
    names = [each.opname for each in instructions if each.offset in (handler, (handler or 0) + 2)]
    if names != ["PUSH_EXC_INFO", "WITH_EXCEPT_START"] or _handler(code, entry.offset) == handler:
        return None
    return body.offset


def _handler(code: CodeType, offset: int) -> int | None:
    """Where an exception of that instruction is handled."""
    entries = dis.Bytecode(code).exception_entries  # type: ignore[attr-defined] # since 3.11
    return next((each.target for each in entries if each.start <= offset < each.end), None)


def _ignore(_frame: FrameType, _event: str, _argument: object) -> None:
    """Nothing else is traced."""
