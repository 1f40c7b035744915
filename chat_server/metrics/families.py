"""The table of all metrics: name, kind, labels and meaning."""

from typing import Literal, NamedTuple

Kind = Literal["counter", "gauge", "histogram"]


class Family(NamedTuple):
    """Metrics of one name.

    Args:
        name: the name in Prometheus, without the `_total` of counters.
        kind: a counter only grows, a gauge goes up and down, a histogram counts by size.
        meaning: the help text, one line.
        labels: names of labels. Clients must not be able to multiply their values.
    """

    name: str
    kind: Kind
    meaning: str
    labels: tuple[str, ...] = ()


FAMILIES = (
    Family("chat_build_info", "gauge", "The version; always 1.", ("version", "python")),
    Family("chat_workers", "gauge", "Workers that run."),
    Family("chat_workers_ended", "counter", "Workers that ended, replaced ones too."),
    # Connections.
    Family("chat_connections", "gauge", "Open WebSockets.", ("transport", "encoding")),
    Family("chat_connections_opened", "counter", "WebSockets opened.", ("transport", "encoding")),
    Family("chat_connections_closed", "counter", "WebSockets closed, by close code.", ("code",)),
    Family(
        "chat_handshakes_refused",
        "counter",
        "Handshakes refused, by reason and status.",
        ("reason", "status"),
    ),
    Family(
        "chat_sockets_refused",
        "counter",
        "Connections answered by 503, for the worker has no room.",
    ),
    Family("chat_tokens_refused", "counter", "Tokens refused.", ("reason",)),
    Family("chat_users", "gauge", "Users connected; counted once in each worker."),
    Family("chat_slow_readers", "counter", "Times that a client's buffer was full."),
    # Topics.
    Family("chat_topics", "gauge", "Topics with subscribers; counted once in each worker."),
    Family("chat_subscriptions", "gauge", "Subscriptions of connections."),
    Family("chat_resumes", "counter", "Subscriptions that resumed, by outcome.", ("outcome",)),
    Family("chat_replayed_events", "counter", "Events that subscribers had missed, and were sent."),
    Family("chat_gaps", "counter", "Gaps that subscribers were told of, by reason.", ("reason",)),
    # Messages.
    Family("chat_messages_received", "counter", "Messages of clients, by WebSocket."),
    Family("chat_received_bytes", "counter", "Bytes of these messages, uncompressed."),
    Family("chat_messages_sent", "counter", "Messages written to one WebSocket by itself."),
    Family("chat_sent_bytes", "counter", "Bytes of these, with their frames."),
    Family("chat_deliveries", "counter", "Pushes of topics, once for each subscriber."),
    Family("chat_delivered_bytes", "counter", "Bytes of these, with their frames."),
    Family(
        "chat_commands",
        "counter",
        "Commands carried out; the outcome is ok or the error's code.",
        ("command", "outcome"),
    ),
    Family("chat_errors", "counter", "Errors that WebSockets were sent, by code.", ("code",)),
    Family("chat_http_responses", "counter", "Responses by HTTP, by status.", ("status",)),
    Family(
        "chat_publish_seconds",
        "histogram",
        "From taking a publication to its `ok`; by WebSocket one of 16 counts.",
    ),
    Family(
        "chat_delivery_seconds",
        "histogram",
        "From an event's time in the store to its delivery by a worker; one batch of 16 counts.",
    ),
    Family("chat_rate_limited", "counter", "Refusals by a limit, by limit.", ("limit",)),
    Family(
        "chat_hooks",
        "counter",
        "Hooks that were run, and of these refused, failed or were late.",
        ("hook", "outcome"),
    ),
    Family(
        "chat_webhooks",
        "counter",
        "Requests that an endpoint has taken or that failed, and times that it was parked.",
        ("webhook", "outcome"),
    ),
    # The store.
    Family("chat_store_up", "gauge", "Workers that reach their store and hear it."),
    Family("chat_store_commands", "counter", "Commands sent to Redis."),
    Family("chat_store_errors", "counter", "Errors of Redis, by kind.", ("kind",)),
    Family("chat_store_seconds", "histogram", "A pipeline's way to Redis and back."),
    Family("chat_store_deaf_seconds", "counter", "Seconds in which events were stored unheard."),
    Family("chat_spooled", "gauge", "Publications that wait for the store."),
    # The process.
    Family("chat_loop_lag_seconds", "histogram", "How late a timer fires, twice a second."),
    Family("chat_gc_seconds", "counter", "Pauses of the garbage collector.", ("generation",)),
    Family("chat_process_cpu_seconds", "counter", "CPU time of the workers."),
    Family("chat_process_resident_bytes", "gauge", "Resident memory of the workers."),
    Family("chat_process_open_files", "gauge", "Open descriptors of the workers."),
    Family("chat_process_start_seconds", "gauge", "Start of a worker.", ("worker",)),
)
"""All families, in the order of the page."""

BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of the buckets of all histograms, in seconds."""
