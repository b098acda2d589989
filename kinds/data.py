"""data.transform and data.profile: one SQL query over files, and what a file holds.

Both read CSV, TSV, Parquet and JSON Lines, also inside .zip and .gz; a file's name says which. What
is wrong with the query or a file fails the job for good, in words that name the column or the line.

This module holds what a submission needs to know. The work is Polars', in a process of its own
(kinds.data_engine): the api imports this module, and a forked child must not inherit Polars'
threads.
"""

import re
import time
from pathlib import PurePath
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from kinds.data_scratch import scratch_folder
from lading import JobContext, job

LONGEST = 3600  # seconds of one attempt: tens of gigabytes on two cores
MOST_INPUTS = 16  # files of one query; each is read through before it starts
SQL_LENGTH = 20_000  # characters; generated queries are long, a megabyte of SQL is a mistake
READERS = re.compile(r"(read|scan)_", re.IGNORECASE)  # how Polars names its table functions


def _no_reader(name: str) -> str:
    if READERS.match(name):
        raise ValueError("an input is not named like a function that reads files")
    return name


InputName = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,62}$"), AfterValidator(_no_reader)
]


class TransformArgs(BaseModel):
    """The query and what it reads."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "inputs": {"flights": "01930f4e-7c1a-7d2b-9c64-1f0a8a2f7b11"},
                    "sql": "SELECT carrier, AVG(dep_delay) AS delay FROM flights GROUP BY carrier",
                    "format": "csv",
                }
            ]
        },
    )

    inputs: dict[InputName, UUID] = Field(
        min_length=1,
        max_length=MOST_INPUTS,
        description="The tables of the query: their names, and the id of a stored file each",
    )
    sql: str = Field(
        min_length=1,
        max_length=SQL_LENGTH,
        description="One SELECT in Polars' SQL; it can read the inputs and nothing else",
    )
    format: Literal["csv", "parquet"] = Field(description="Of the file that is made")


class TransformResult(BaseModel):
    """The file that was made."""

    file_id: UUID
    rows_in: dict[str, int] = Field(description="The rows of each input")
    rows_out: int
    columns: dict[str, str] = Field(alias="schema", description="Its columns and their types")
    seconds: float = Field(description="How long this attempt took")

    model_config = ConfigDict(populate_by_name=True, serialize_by_alias=True)


class ProfileArgs(BaseModel):
    """The file to look at."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"file_id": "01930f4e-7c1a-7d2b-9c64-1f0a8a2f7b11"}]},
    )

    file_id: UUID = Field(description="A stored table")


class ProfileResult(BaseModel):
    """What the file holds."""

    rows: int
    columns: dict[str, dict[str, Any]] = Field(
        description="By name: type, nulls, distinct (approximate in large files), and where they"
        " have a meaning min, max, mean, std, quantiles, lengths and top values"
    )
    report_file_id: UUID = Field(description="The same as a page to look at, with plots")


MEDIA_TYPES = {"csv": "text/csv", "parquet": "application/vnd.apache.parquet"}


@job("data.transform", timeout=LONGEST)
def transform(context: JobContext, args: TransformArgs) -> TransformResult:
    """Run the query, and store what it yields."""
    from kinds.data_engine import work  # noqa: PLC0415 - psutil; the api needs none

    start = time.monotonic()
    with scratch_folder() as folder:
        task = {
            "task": "transform",
            "inputs": {name: _source(context, file_id) for name, file_id in args.inputs.items()},
            "sql": args.sql,
            "format": args.format,
        }
        made = work(context, task, folder)
        stored = context.save_file(
            folder / made["file"],
            name=f"result.{args.format}",
            media_type=MEDIA_TYPES[args.format],
        )
    return TransformResult(
        file_id=stored.id,
        rows_in=made["rows_in"],
        rows_out=made["rows_out"],
        columns=made["schema"],
        seconds=round(time.monotonic() - start, 3),
    )


@job("data.profile", timeout=LONGEST)
def profile(context: JobContext, args: ProfileArgs) -> ProfileResult:
    """Look through the file, column by column, and store a report."""
    from kinds.data_engine import work  # noqa: PLC0415 - psutil; the api needs none

    with scratch_folder() as folder:
        source = _source(context, args.file_id)
        made = work(context, {"task": "profile", "inputs": {"file": source}}, folder)
        stored = context.save_file(
            folder / made["file"],
            name=f"{PurePath(source['name']).name.split('.')[0] or 'file'}.profile.html",
            media_type="text/html",
        )
    return ProfileResult(rows=made["rows"], columns=made["columns"], report_file_id=stored.id)


def _source(context: JobContext, file_id: UUID) -> dict[str, str]:
    stored = context.file(file_id)
    return {"path": str(stored.path.absolute()), "name": stored.name}
