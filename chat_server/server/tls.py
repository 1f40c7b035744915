"""TLS for a server without a proxy in front."""

import ssl

from ..files import read_file
from ..settings import Settings, SettingsError


def tls_context(settings: Settings) -> ssl.SSLContext | None:
    """Return a context with `server.tls_certificate_file`, or None if the setting is empty.

    Raises:
        SettingsError: a file cannot be read or is not PEM, or the key does not fit the certificate.
    """
    certificate, key = settings.server.tls_certificate_file, settings.server.tls_key_file
    if not certificate:
        return None
    for name, file in (("tls_certificate_file", certificate), ("tls_key_file", key)):
        try:
            if file:
                read_file(file)
        except OSError as error:  # OpenSSL does not name the file
            raise SettingsError(f"server.{name}: cannot be read: {error.strerror}") from None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    # Not h2: a browser would use the page's connection for its WebSocket, and this socket cannot be
    # handed over.
    context.set_alpn_protocols(["http/1.1"])
    try:
        # Without this password OpenSSL would ask for one at the terminal.
        context.load_cert_chain(certificate, key or None, password="")
    except ssl.SSLError:
        raise SettingsError(
            "server.tls_certificate_file: must hold a certificate in PEM, and its unencrypted key"
            " if server.tls_key_file does not"
        ) from None
    return context
