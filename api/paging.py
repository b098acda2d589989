"""A page of a list: where a request stands in it, and its answer. All lists are read so.

A page begins behind the row that its cursor names, so that rows which come and go meanwhile make
nothing appear twice. A cursor is good for the list and the filters that it was made with.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple
from uuid import UUID

from fastapi import Request, Response
from pydantic import BaseModel, Field

from api.cursors import filters_of, page_link, read_cursor, write_cursor
from api.documents import json_response

USUAL_LIMIT, HIGHEST_LIMIT = 50, 200


class Page(BaseModel):
    """How much of a list, and from where on."""

    limit: int = Field(
        default=USUAL_LIMIT,
        ge=1,
        description=f"On a page; more than {HIGHEST_LIMIT} means {HIGHEST_LIMIT}",
    )
    cursor: str | None = Field(default=None, description="`next_cursor` of the page before")

    @property
    def size(self) -> int:
        """So many at most are answered."""
        return min(self.limit, HIGHEST_LIMIT)


class Place(NamedTuple):
    """Where a request stands in a list."""

    request: Request
    limit: int
    before: UUID | None  #: the last row of the page before; None: the list's beginning
    filters: str

    def answer(self, items: Sequence[Any], last_id: UUID | None, **more: Any) -> Response:
        """The page; `last_id` is where the next one goes on, None if there is none."""
        next_cursor = write_cursor(last_id, self.filters) if last_id else None
        return page_answer(self.request, items, next_cursor, **more)


def find_place(request: Request, asked: Page, *others: str) -> Place:
    """The place that `asked` means. Problem 422: no cursor; 400: one of another list.

    `others` are what of the query does not narrow the list.
    """
    filters = filters_of(request, *others)
    before = read_cursor(asked.cursor, filters) if asked.cursor else None
    return Place(request, asked.size, before, filters)


def page_answer(
    request: Request, items: Sequence[Any], next_cursor: str | None, **more: Any
) -> Response:
    """A page, with the Link to the next one."""
    document = {"items": items, "next_cursor": next_cursor, **more}
    return json_response(document, headers={"Link": page_link(request, next_cursor)})
