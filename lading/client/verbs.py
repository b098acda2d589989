"""All that can be asked of Lading: each verb once, for both clients."""

from lading.client.event_verbs import EventVerbs
from lading.client.file_verbs import FileVerbs
from lading.client.job_verbs import JobVerbs
from lading.client.operating_verbs import OperatingVerbs
from lading.client.rule_verbs import RuleVerbs


class Verbs(JobVerbs, FileVerbs, RuleVerbs, EventVerbs, OperatingVerbs):
    """The verbs of a client."""
