"""Traces for OpenTelemetry; imported only if `[tracing]` is on."""
