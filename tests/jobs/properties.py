"""How property tests are run: a few examples, always the same; or as many as somebody asks for.

`LADING_PROPERTIES=5000` draws that many new ones for each of them, which takes tens of minutes. A
failure prints what reproduces it.
"""

import os

from hypothesis import HealthCheck, settings

_MANY = int(os.environ.get("LADING_PROPERTIES", "0"))


def examples(few: int, steps: int = 50) -> settings:
    """`few` in every test run, the same each time; LADING_PROPERTIES says how many instead.

    A stateful one has at most so many `steps`.
    """
    return settings(
        max_examples=_MANY or few,
        derandomize=not _MANY,
        deadline=None,  # a busy machine is no error
        database=None,
        print_blob=True,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
        stateful_step_count=steps,
    )
