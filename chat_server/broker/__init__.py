"""Where events are stored, and how they reach other workers: memory, Redis, Redis Cluster."""
