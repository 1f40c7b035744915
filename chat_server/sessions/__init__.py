"""One client's connection, between its transport and the service.

`connection` carries messages from the transport to the session (`protocol.session`), commands from
the session to the service, and answers back. `authentication` is the part for tokens.
"""
