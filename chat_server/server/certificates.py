"""The expiry of the server's certificate, and a warning in the log before the expiry."""

import asyncio
import logging
import time
from datetime import UTC, datetime

from cryptography.x509 import load_pem_x509_certificates

from ..files import read_file
from ..http.health import CERTIFICATE_DAYS
from ..settings import Settings

logger = logging.getLogger(__name__)

CHECK_SECONDS = 86_400.0
"""Seconds between two checks; each check may log a warning."""


def certificate_end(settings: Settings) -> float | None:
    """Return the earliest expiry of the certificates in `server.tls_certificate_file`.

    Returns:
        Seconds since 1970; None without a file, or for an unreadable file.
    """
    if not settings.server.tls_certificate_file:
        return None
    try:
        chain = load_pem_x509_certificates(read_file(settings.server.tls_certificate_file))
    except (OSError, ValueError):  # `tls_context` reports the fault
        return None
    return min(certificate.not_valid_after_utc for certificate in chain).timestamp()


class CertificateWatch:
    """Warns once a day of a certificate that expires soon.

    Args:
        settings: the server's settings; the file is read now, together with the served certificate.

    Attributes:
        ends_at: the expiry in seconds since 1970; None without a certificate.
    """

    def __init__(self, settings: Settings) -> None:
        self.ends_at = certificate_end(settings)
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Check now, and plan the next check."""
        if self.ends_at is None:
            return
        days = (self.ends_at - time.time()) / 86_400
        if days <= CERTIFICATE_DAYS:
            logger.warning(
                "server.tls_certificate_file: the certificate %s on %s; renew it and send SIGHUP",
                "ends" if days > 0 else "ended",
                f"{datetime.fromtimestamp(self.ends_at, UTC):%Y-%m-%d %H:%M} UTC",
            )
        self._timer = asyncio.get_running_loop().call_later(CHECK_SECONDS, self.start)

    def stop(self) -> None:
        """Plan no further check."""
        if self._timer is not None:
            self._timer.cancel()
