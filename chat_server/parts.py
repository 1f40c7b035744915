"""The optional parts of a server, imported only if needed."""

import os
import secrets
import socket
from typing import TYPE_CHECKING

from .clock import Clock
from .jobs import Jobs
from .metrics.numbers import Numbers
from .orders import OrderStore
from .realtime.ports import Broker
from .service.service import Service
from .settings import Settings, SettingsError

if TYPE_CHECKING:
    from .accounts.access import Revoking
    from .accounts.accounts import Accounts
    from .database.database import Database
    from .following import Following
    from .tracing.tracing import Tracing
    from .user_data import UserData


def make_database(settings: Settings) -> "Database | None":
    """Return the server's database, or None without one."""
    if not settings.database.url:
        return None
    # Imported here, because a server without a database neither waits for SQLAlchemy nor holds it.
    from .database.database import Database

    return Database(settings.database)


def make_following(
    settings: Settings,
    database: "Database | None",
    broker: Broker,
    clock: Clock,
    name: str,
    numbers: Numbers,
) -> "Following | None":
    """Return the consumers of the log, or None without archive and webhooks."""
    if database is None or not (settings.has_archive or settings.webhooks):
        return None
    from .following import Following

    return Following(settings, database, broker, clock, name, numbers)


def make_orders(orders: OrderStore, database: "Database | None", clock: Clock) -> OrderStore:
    """Return the store of operators' orders: the broker's, or the database if no worker shares it.

    Args:
        orders: the broker's store.
        database: the server's database; None without one.
        clock: tells whether an order is over.
    """
    if orders.is_shared or database is None:
        return orders
    from .operators.kept import KeptOrders

    return KeptOrders(orders, database, clock)


def make_accounts(
    settings: Settings,
    database: "Database | None",
    clock: Clock,
    jobs: Jobs,
    revoking: "Revoking | None" = None,
) -> "Accounts | None":
    """Return the server's accounts, or None if accounts are off.

    Raises:
        SettingsError: there is no database, or the extra for mail is not installed.
    """
    if settings.accounts.enabled != "on":
        return None
    if database is None:
        raise SettingsError("accounts.enabled: accounts need a database: set database.url")
    from .accounts.accounts import Accounts

    mails = None
    if settings.mail.url:
        from .accounts.mails import InvitationMails

        mails = InvitationMails(settings, jobs)
    return Accounts(settings, database, clock, mails, revoking)


def make_tracing(service: Service) -> "Tracing | None":
    """Return the tracing of a worker's publications, or None unless `tracing.enabled`.

    Raises:
        SettingsError: OpenTelemetry is not installed.
    """
    settings = service.node.settings
    if not settings.tracing.enabled:
        return None
    try:
        from .tracing.tracing import Tracing
    except ImportError:
        raise SettingsError(
            "tracing.enabled: needs OpenTelemetry: pip install 'quart-chat[tracing]'"
        ) from None
    tracing = Tracing(settings.tracing, service.node.name)
    tracing.watch(service, "redis" if settings.redis.url else "memory")
    return tracing


def make_user_data(
    settings: Settings,
    database: "Database | None",
    service: Service,
    jobs: Jobs,
    clock: Clock,
    accounts: "Accounts | None",
) -> "UserData | None":
    """Return exports and erasures of users, or None without data of users or without jobs."""
    if database is None or not (accounts or settings.has_archive) or not Jobs.possible():
        return None
    from .user_data import UserData

    return UserData(settings, database, service, jobs, clock, accounts)


def node_name() -> str:
    """Return a unique name for this worker."""
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(2)}"
