"""Jobs that survive the process that added them (docs/jobs.md)."""

from .jobs import Jobs

__all__ = ["Jobs"]
