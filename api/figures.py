"""What the database has counted of all jobs, as Prometheus wants it: counters and histograms.

Every process shows the same: whoever adds up processes counts them several times.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from jobs.figures.counting import BUCKETS, Figure, Measure

_HISTOGRAMS = {
    Measure.RUN: ("lading_attempt_seconds", "How long attempts ran that have ended"),
    Measure.WAIT: ("lading_queue_seconds", "How long jobs were in the queue before a start"),
}
_BOUNDS = [*(f"{bound:g}" for bound in BUCKETS), "+Inf"]


class FiguresCollector(Collector):
    """Shows what it was given last; nothing while the database does not answer."""

    def __init__(self) -> None:
        self.figures: Sequence[Figure] = ()

    def collect(self) -> Iterator[Metric]:
        yield self._finished()
        for measure, (name, words) in _HISTOGRAMS.items():
            yield self._histogram(measure, name, words)

    def _finished(self) -> Metric:
        words = "Jobs that have ended, over all processes, since this was first counted"
        family = CounterMetricFamily("lading_jobs_finished", words, labels=["kind", "outcome"])
        for each in self.figures:
            if each.measure is Measure.FINISHED:
                family.add_metric([each.kind, each.label], each.times)
        return family

    def _histogram(self, measure: Measure, name: str, words: str) -> Metric:
        family = HistogramMetricFamily(name, words, labels=["kind"])
        kinds: defaultdict[str, dict[int, Figure]] = defaultdict(dict)
        for each in self.figures:
            if each.measure is measure:
                kinds[each.kind][int(each.label)] = each
        for kind, found in kinds.items():
            times = [found[n].times if n in found else 0 for n in range(len(_BOUNDS))]
            buckets = [(bound, float(sum(times[: n + 1]))) for n, bound in enumerate(_BOUNDS)]
            family.add_metric([kind], buckets, sum(each.seconds for each in found.values()))
        return family
