"""Celery: runs attempts; and the dispatcher, which says when they may be made."""
