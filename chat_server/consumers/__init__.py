"""Consumers of every topic's log: ordered, at-least-once delivery behind a durable cursor."""
