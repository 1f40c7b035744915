"""Work that survives the process that asked for it (docs/jobs.md)."""

from .jobs import Jobs

__all__ = ["Jobs"]
