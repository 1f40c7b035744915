"""When the server's certificate ends, and a warning in the log before it does."""

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
"""Seconds between two looks, each of which may warn."""


def certificate_end(settings: Settings) -> float | None:
    """Return when the first certificate of `server.tls_certificate_file` ends.

    Returns:
        Seconds since 1970; None without a file, or if it cannot be read.
    """
    if not settings.server.tls_certificate_file:
        return None
    try:
        chain = load_pem_x509_certificates(read_file(settings.server.tls_certificate_file))
    except (OSError, ValueError):  # `tls_context` says what is wrong with it
        return None
    return min(certificate.not_valid_after_utc for certificate in chain).timestamp()


class CertificateWatch:
    """Warns once a day of a certificate that ends soon.

    Args:
        settings: the server's; the file is read now, as the one that is served.

    Attributes:
        ends_at: when it ends, in seconds since 1970; None without one.
    """

    def __init__(self, settings: Settings) -> None:
        self.ends_at = certificate_end(settings)
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to look."""
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
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
