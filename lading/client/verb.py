"""A verb is written once, as a generator of steps, and run by either client in its way of waiting.

    class JobVerbs(Asking):
        @verb
        def get(self, job: JobRef) -> Call[Job]: ...

makes `client.get(job)` a Job on a Client, and something to await for one on an AsyncClient; a
`series` is an Iterator on the one and an AsyncIterator on the other.
"""

import functools
import inspect
from abc import abstractmethod
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, Self, TypeVar, overload

from lading.client.exchange import Call, Series

P = ParamSpec("P")
T = TypeVar("T")


class Blocking(Protocol):
    """A client that waits in its thread."""

    @abstractmethod
    def _run(self, call: Call[T]) -> T: ...

    @abstractmethod
    def _iterate(self, series: Series[T]) -> Iterator[T]: ...


class Awaited(Protocol):
    """A client that is awaited."""

    @abstractmethod
    async def _run(self, call: Call[T]) -> T: ...

    @abstractmethod
    def _iterate(self, series: Series[T]) -> AsyncIterator[T]: ...


class _Written(Generic[P, T]):
    """What stands in the class; `__signature__` and the words are those of the function."""

    def __init__(self, steps: Callable[..., Any]) -> None:
        self.steps = steps
        self.__signature__ = inspect.signature(steps)
        self.__name__, self.__doc__ = steps.__name__, steps.__doc__

    def _bound(self, client: object, run: Callable[[Any], Any]) -> Callable[..., Any]:
        @functools.wraps(self.steps)
        def call(*args: Any, **kwargs: Any) -> Any:
            return run(self.steps(client, *args, **kwargs))

        return call


class verb(_Written[P, T]):  # noqa: N801 - a decorator
    """A verb that gives one thing."""

    def __init__(self, steps: Callable[Concatenate[Any, P], Call[T]]) -> None:
        super().__init__(steps)

    @overload
    def __get__(self, client: Blocking, owner: type) -> Callable[P, T]: ...
    @overload
    def __get__(self, client: Awaited, owner: type) -> Callable[P, Coroutine[Any, Any, T]]: ...
    @overload
    def __get__(self, client: None, owner: type) -> Self: ...
    def __get__(self, client: Any, owner: type) -> Any:
        return self if client is None else self._bound(client, client._run)  # noqa: SLF001 - ours


class series(_Written[P, T]):  # noqa: N801 - a decorator
    """A verb that is iterated."""

    def __init__(self, steps: Callable[Concatenate[Any, P], Series[T]]) -> None:
        super().__init__(steps)

    @overload
    def __get__(self, client: Blocking, owner: type) -> Callable[P, Iterator[T]]: ...
    @overload
    def __get__(self, client: Awaited, owner: type) -> Callable[P, AsyncIterator[T]]: ...
    @overload
    def __get__(self, client: None, owner: type) -> Self: ...
    def __get__(self, client: Any, owner: type) -> Any:
        return self if client is None else self._bound(client, client._iterate)  # noqa: SLF001 - ours
