"""Traces for OpenTelemetry; imported only where `[tracing]` is on."""
