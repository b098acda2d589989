"""Who starts when: limits, rates and pauses, and why a job waits."""
