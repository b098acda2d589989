"""Projects: whose jobs, files, keys and rules are whose. Nothing here commits."""

from datetime import datetime
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.dialects import postgresql
from sqlmodel import col

from jobs.errors import ProjectExists, ProjectMissing
from jobs.models import Project

OPERATOR = "default"  #: the project of whoever runs Lading; its admins make the others


class ProjectView(NamedTuple):
    """A project as readers see it."""

    id: str
    name: str
    created_at: datetime


_SHOWN = [col(getattr(Project, name)) for name in ProjectView._fields]


def create_project(connection: Connection, project_id: str, name: str) -> ProjectView:
    """There is one more project, without a key. ProjectExists."""
    statement = postgresql.insert(Project).values(id=project_id, name=name)
    statement = statement.on_conflict_do_nothing()
    made = connection.execute(statement.returning(*_SHOWN)).one_or_none()
    if made is None:
        raise ProjectExists(project_id)
    return ProjectView._make(made)


def get_project(connection: Connection, project_id: str) -> ProjectView:
    """The project. ProjectMissing."""
    row = connection.execute(sa.select(*_SHOWN).where(col(Project.id) == project_id)).one_or_none()
    if row is None:
        raise ProjectMissing(project_id)
    return ProjectView._make(row)


def page_projects(
    connection: Connection, only: str | None, *, limit: int, after: str = ""
) -> tuple[list[ProjectView], str | None]:
    """At most `limit` projects above that id, by id, and where to go on; or the `only` one."""
    statement = sa.select(*_SHOWN).where(col(Project.id) > after)
    if only is not None:
        statement = statement.where(col(Project.id) == only)
    rows = connection.execute(statement.order_by(col(Project.id)).limit(limit + 1))
    found = [ProjectView._make(row) for row in rows]
    return found[:limit], found[limit - 1].id if len(found) > limit else None
