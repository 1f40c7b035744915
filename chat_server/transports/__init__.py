"""Where WebSockets enter: the handshake, and the transports that carry what follows."""
