"""Bulk operations: one word said to many jobs at once, counted before, visible and stoppable."""
