"""Consumers of every topic's log: in order, at least once, each behind a cursor that lasts."""
