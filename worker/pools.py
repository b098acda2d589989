"""Which of Celery's pools a worker runs, told without importing the others."""

from typing import Any

_PROCESSES = frozenset({"prefork", "processes"})  # Celery's names of the same one


def is_forking(pool: Any) -> bool:
    """Whether the pool, a name or a class, makes attempts in processes of their own."""
    name = pool if isinstance(pool, str) else pool.__module__
    return name.rpartition(".")[2] in _PROCESSES
