"""An execution: the value that goes through the executor's pipeline."""

from dataclasses import dataclass

from jobs.lifecycle import Claim
from lading.authoring import Kind
from worker.link import Link
from worker.notes import Notes
from worker.runtime import Runtime


@dataclass(frozen=True, slots=True)
class Execution:
    """One attempt from its claim to its report."""

    runtime: Runtime
    claim: Claim
    kind: Kind
    link: Link
    notes: Notes
    cpu_at_start: float  #: seconds; see reporting.cpu_seconds
