"""An execution: the value that goes through the executor's pipeline."""

from dataclasses import dataclass

from jobs.lifecycle import Claim
from lading.authoring import Kind
from worker.link import Link
from worker.notes import Notes
from worker.runtime import Runtime
from worker.usage import Start


@dataclass(frozen=True, slots=True)
class Execution:
    """One attempt from its claim to its report."""

    runtime: Runtime
    claim: Claim
    kind: Kind
    link: Link
    notes: Notes
    start: Start  #: what its process had taken before
