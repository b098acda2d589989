"""The table of figures: counters that only grow, whichever process restarts."""

from sqlalchemy import BigInteger, CheckConstraint, Float
from sqlmodel import Field, SQLModel


class JobFigure(SQLModel, table=True):
    """How often something has been so with a kind, and how many seconds it took together."""

    __tablename__ = "job_figure"
    __table_args__ = (
        CheckConstraint("measure IN ('finished', 'run', 'wait')", "measure_is_known"),
        {"postgresql_with": {"fillfactor": 50}},
    )

    kind: str = Field(primary_key=True)
    measure: str = Field(primary_key=True)  #: see jobs.figures.counting.Measure
    label: str = Field(primary_key=True)  #: the outcome, or the number of the histogram's bucket
    times: int = Field(sa_type=BigInteger)
    seconds: float = Field(sa_type=Float)
