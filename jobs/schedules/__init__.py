"""Schedules: what is to run when, and what became of each of its ticks."""
