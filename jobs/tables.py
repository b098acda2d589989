"""All tables: importing this fills SQLModel's metadata, for migrations and their checks."""

from sqlmodel import SQLModel

import jobs.bus.models
import jobs.models
import jobs.schedules.models
import jobs.trail.models
import jobs.webhooks.models

METADATA = SQLModel.metadata
MODULES = (
    jobs.models,
    jobs.bus.models,
    jobs.schedules.models,
    jobs.trail.models,
    jobs.webhooks.models,
)  #: a part of the domain that has tables of its own stands here
