"""The whole truth about a database: every promise that can be checked, checked in one snapshot."""

from jobs.audit.snapshot import CHECKS, Audit, Finding, audit

__all__ = ["CHECKS", "Audit", "Finding", "audit"]
