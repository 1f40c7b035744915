"""Tells HTTP endpoints of stored events: signed, in order for each topic, at least once.

`signing` and `addresses` need no library: the rules of the settings use them. What imports httpcore
is imported once there is a webhook: a server without one neither waits for it nor holds it.
"""
