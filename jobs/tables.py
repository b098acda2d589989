"""All tables: importing this fills SQLModel's metadata, for migrations and their checks."""

from sqlmodel import SQLModel

import jobs.bulk.models
import jobs.bus.models
import jobs.figures.models
import jobs.gating
import jobs.models
import jobs.schedules.models
import jobs.trail.models
import jobs.waiting.models
import jobs.webhooks.models

METADATA = SQLModel.metadata
#: A part of the domain that has tables of its own stands here.
MODULES = (
    jobs.gating,
    jobs.models,
    jobs.bulk.models,
    jobs.bus.models,
    jobs.figures.models,
    jobs.schedules.models,
    jobs.trail.models,
    jobs.waiting.models,
    jobs.webhooks.models,
)
