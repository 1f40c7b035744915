"""One worker's connections and topics, with the subscriptions and the fan-out between them."""
