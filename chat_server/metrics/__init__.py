"""What has happened in a worker, in numbers; and those of all workers as Prometheus reads them.

Where something happens, an integer is raised (`numbers`). When somebody asks, the integers become
samples (`samples`), which the supervisor adds up over its workers, and these become text
(`exposition`). `families` names every number; docs/metrics.md has the same table.
"""
