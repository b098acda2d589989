"""`DurableBackgroundTasks`: FastAPI's BackgroundTasks, but what is added is not lost.

Annotate a parameter with it and `Depends()`; the rest of the endpoint stays as it is. What was
added is submitted to Lading as one batch when the endpoint has returned, before its response is
sent. Needs the client's packages and FastAPI.
"""

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Annotated, Any
from weakref import WeakKeyDictionary

from fastapi import Depends, HTTPException, Request, Response
from pydantic import BaseModel

from lading.authoring import Kind, find_kind
from lading.client import AsyncClient, Job, NewJob, Unavailable, Unreachable

HEADER = b"x-job-id"
PATIENCE = 5.0  # seconds that a response waits for Lading; then it is 503, and nothing was accepted
RETRY_AFTER = "1"  # seconds

_clients: WeakKeyDictionary[asyncio.AbstractEventLoop, AsyncClient] = WeakKeyDictionary()


class _Outbox:
    """What one request has added, and not submitted yet."""

    def __init__(self, request: Request, response: Response) -> None:
        self._request, self._response = request, response
        self._jobs: list[NewJob] = []
        self._ids = bytearray()

    def add(self, job: NewJob) -> None:
        if HEADER not in {name for name, _ in self._response.raw_headers}:
            # FastAPI copies the headers before it lets dependencies end. The ids are known only
            # then, so what is copied is a value that can still be filled.
            self._response.raw_headers.append((HEADER, self._ids))  # type: ignore[arg-type]
        self._jobs.append(job)

    async def submit(self) -> Sequence[Job]:
        jobs, self._jobs = self._jobs, []
        if not jobs:
            return ()
        accepted = await _client(self._request).submit_many(jobs)
        known = [self._ids] if self._ids else []
        self._ids[:] = b", ".join([*known, *(str(job.id).encode() for job in accepted)])
        return accepted


async def _outbox(request: Request, response: Response) -> AsyncIterator[_Outbox]:
    outbox = _Outbox(request, response)
    yield outbox
    try:
        await outbox.submit()
    except (Unreachable, Unavailable) as error:
        headers = {"Retry-After": RETRY_AFTER}
        raise HTTPException(503, "the background tasks were not accepted", headers) from error


class DurableBackgroundTasks:
    """For a parameter: `tasks: Annotated[DurableBackgroundTasks, Depends()]`.

    Its client is `app.state.lading`, an AsyncClient, where the application has set one; else one
    that finds Lading by LADING_URL and LADING_API_KEY, or by a running `make dev`. The response
    gets `X-Job-Id` with the ids in order, unless the endpoint returns a Response of its own. When
    the endpoint raises, nothing is submitted; when Lading cannot be reached, the answer is 503.
    """

    def __init__(self, outbox: Annotated[_Outbox, Depends(_outbox, scope="function")]) -> None:
        self._outbox = outbox

    def add_task(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        """The handler, made with `@job`, runs with these args: once the endpoint has returned.

        The args are its model, or the model's fields in their order and by name. TypeError for
        anything that a worker could not find again (a lambda, a function made in another one, one
        without `@job`) and for args that are too many; ValidationError for those that do not fit.
        """
        kind = _durable(function)
        job = NewJob(kind.name, _bound(kind, args, kwargs))
        self._outbox.add(job)

    async def submit(self) -> Sequence[Job]:
        """What was added so far is accepted now, for endpoints that want to name the jobs."""
        return await self._outbox.submit()


def _durable(function: Callable[..., Any]) -> Kind:
    name = getattr(function, "__qualname__", repr(function))
    if name.endswith("<lambda>"):
        raise TypeError("a lambda cannot be found by a worker: write a function, and give it @job")
    if "<locals>" in name or inspect.ismethod(function):
        raise TypeError(
            f"{name} lives in another function or object, where no worker finds it:"
            " move it to its module's top level"
        )
    kind = find_kind(function)
    if kind is None:
        raise TypeError(f'{name} is not durable: give it @job("…"), and its args a Pydantic model')
    return kind


def _bound(kind: Kind, args: tuple[Any, ...], kwargs: dict[str, Any]) -> BaseModel:
    model = kind.args_model
    if len(args) == 1 and not kwargs and isinstance(args[0], model):
        return args[0]
    names = list(model.model_fields)
    if len(args) > len(names):
        raise TypeError(f"{kind.name} takes {len(names)} args, and got {len(args)}")
    given = dict(zip(names, args, strict=False))
    if twice := given.keys() & kwargs.keys():
        raise TypeError(f"{kind.name} got {', '.join(sorted(twice))} twice")
    if unknown := kwargs.keys() - set(names):
        raise TypeError(f"{kind.name} takes no {', '.join(sorted(unknown))}")
    return model.model_validate({**given, **kwargs}, by_name=True)


def _client(request: Request) -> AsyncClient:
    """The application's own, else one for this event loop, which keeps its connections open."""
    own = getattr(request.app.state, "lading", None)
    if isinstance(own, AsyncClient):
        return own
    loop = asyncio.get_running_loop()
    client = _clients.get(loop)
    if client is None:
        client = _clients[loop] = AsyncClient(patience=PATIENCE)
    return client
