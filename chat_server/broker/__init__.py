"""The stores of events, with the way of events to other workers: memory, Redis, Redis Cluster."""
