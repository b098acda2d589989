"""Figures: how the jobs of each kind have ended, how long they ran, and how long they waited."""
