"""The tests of attempts again, with the workers in containers."""

import pytest

from tests.worker.test_attempts import (  # noqa: F401 - they are collected here once more
    test_a_doorbell_may_name_several_attempts,
    test_a_handler_may_ask_for_a_retry_after_a_while,
    test_a_handler_saves_and_opens_files,
    test_a_later_attempt_submits_no_child_again,
    test_a_plain_success_writes_three_events,
    test_a_pool_process_tells_what_it_took,
    test_a_stale_doorbell_changes_nothing,
    test_a_stored_step_is_not_run_again,
    test_an_exception_is_retried_until_the_budget_is_spent,
    test_what_a_handler_says_is_stored_before_its_end,
)
from tests.worker.test_limits import (  # noqa: F401 - see above
    test_a_cancel_reaches_a_running_handler,
    test_a_handler_is_told_before_its_limit,
    test_after_a_crash_the_job_runs_again,
    test_an_overrun_is_retried_by_the_policy,
    test_the_third_crash_fails_the_job,
)

pytestmark = [pytest.mark.docker, pytest.mark.usefixtures("celery_setup")]
