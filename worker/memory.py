"""Whether the kernel killed for want of memory (its manual: cgroup-v2, memory.events)."""

from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")


class MemoryEvents:
    """Watches the kills in this process's control group; sees none where there is no cgroup v2."""

    def __init__(self) -> None:
        self._seen = self._count()

    def have_killed(self) -> bool:
        """Whether there was a kill since it was asked last."""
        before, self._seen = self._seen, self._count()
        return self._seen > before

    @staticmethod
    def _count() -> int:
        try:
            group = Path("/proc/self/cgroup").read_text().rpartition("0::")[2].strip()
            events = (_ROOT / group.lstrip("/") / "memory.events").read_text().split()
        except OSError:
            return 0
        return int(dict(zip(events[::2], events[1::2], strict=True)).get("oom_kill", 0))
