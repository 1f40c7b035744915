"""One worker's connections and topics: who is subscribed to what, and what they are sent."""
