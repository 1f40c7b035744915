"""The one place that assembles all parts.

Every worker process has one `ChatServer`. Either `create_app` makes an application for it, or an
existing application embeds it.
"""

import asyncio
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from quart import Blueprint, Quart

from . import parts
from .auth.denials import Denials
from .auth.open_topics import OpenTopics
from .auth.tokens import Verifier
from .broker.factory import make_broker
from .broker.outbox import Outbox
from .clock import Clock, SystemClock
from .hooks.decorators import Hookable
from .hooks.registry import Registry
from .http import hosts, problems, requests
from .http.admin import admin_blueprint
from .http.callers import Callers
from .http.guests import guest_blueprint, has_guests
from .http.handshake_log import HandshakeLog
from .http.health import Vitals, health_blueprint
from .http.messages import messages_blueprint
from .http.metrics import Metrics, metrics_blueprint
from .http.pages import File, admin_page_blueprint, page_blueprint, page_files
from .jobs import Jobs
from .metrics.numbers import Numbers
from .operators.office import Office
from .operators.sign_outs import SignOuts
from .orders import Orders
from .protocol.commands import Append, Command, Delete, Edit, Publish
from .protocol.messages import AppendOk, ChangeOk, PublishOk, User
from .realtime.node import Node
from .realtime.ports import Broker
from .service.actor import Application
from .service.hooked import HookGate
from .service.operations import OPERATIONS
from .service.publishing import command_of
from .service.service import Service
from .settings import (
    Settings,
    SettingsError,
)
from .transports.route import WebSocketRoute

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

    from .http.session import Authenticate
    from .outbox import Outbox as TransactionalOutbox
    from .outbox.relay import Relay

logger = logging.getLogger(__name__)


class ChatServer(Hookable):
    """A Quart extension: the chat's routes, with the life cycle of all parts behind.

    Args:
        settings: the server's settings.
        broker: used in place of the broker of the settings.
        clock: used in place of the system's clock.
        authenticate: gets each request for a token, and returns the user of the application's own
            session, or None; replaces accounts.

    Raises:
        SettingsError: the settings name keys that cannot be read.

    Attributes:
        node: the topics, connections and limits of this process.
        service: runs commands of all origins.
        verifier: checks tokens.
        database: the database; None without `database.url`.
        accounts: users with passwords; None if accounts are off.
        archive: keeps stored events in the database; None if no namespace is archived.
        jobs: work that survives the process.
        operators: answers and orders of operators; None if the broker keeps no orders.
        user_data: exports and erasures of users; None without a database or the extra `jobs`.
        metrics: the numbers for Prometheus.
        vitals: the answer of `/health`.
        page_files: files of the chat page by their paths; empty if the page is off.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        broker: Broker | None = None,
        clock: Clock | None = None,
        authenticate: "Authenticate | None" = None,
    ) -> None:
        self.settings = settings
        self.clock = clock or SystemClock()
        denials = Denials(self.clock)
        self.verifier = Verifier(
            settings.auth, self.clock, open_topics=OpenTopics.of(settings), denials=denials
        )
        self.handshake_log = HandshakeLog(settings.server.trusted_proxy_hops)
        self._started = False
        self.database = parts.make_database(settings)
        numbers = Numbers()
        broker = broker or make_broker(settings, self.clock, numbers.store)
        outbox = Outbox(broker, settings) if settings.spools else None
        name = parts.node_name()
        self._following = parts.make_following(
            settings, self.database, broker, self.clock, name, numbers
        )
        self.archive = self._following.archive if self._following is not None else None
        log, search = (self.archive.log, self.archive.search) if self.archive else (None, None)
        self.node = Node(settings, broker, self.clock, name, outbox, log, search, numbers, denials)
        self.metrics = Metrics(self.node, self.handshake_log)
        self.vitals = Vitals(self.node, self.verifier)
        self.page_files: dict[str, File] = {}
        self.service = Service(self.node, self.verifier, OPERATIONS)
        self.operators: Office | None = None
        sign_outs: SignOuts | None = None
        if isinstance(broker, Orders):
            orders = parts.make_orders(broker.orders, self.database, self.clock)
            self.operators = Office(self.service, orders, self.archive)
            sign_outs = SignOuts(self.operators, self.node)
        self._tracing = parts.make_tracing(self.service)
        self._gate: HookGate | None = None
        self._relays: list[Relay] = []
        self.jobs = Jobs(settings.redis)
        self._running = False
        self._authenticate = authenticate
        self.accounts = (
            None
            if authenticate
            else parts.make_accounts(settings, self.database, self.clock, self.jobs, sign_outs)
        )
        self.user_data = parts.make_user_data(
            settings, self.database, self.service, self.jobs, self.clock, self.accounts
        )

    def init_app(self, app: Quart) -> None:
        """Add the routes to `app`, and start and stop together with `app`."""
        app.extensions["chat_server"] = self
        app.before_serving(self.start)
        app.before_request(self._expect_start)
        app.before_websocket(self._expect_start)
        app.after_serving(self.stop)
        if self._tracing is not None:
            self._tracing.register(app)
        websocket = WebSocketRoute(self.service)
        websocket.adapt(app)
        blueprints = [
            websocket.blueprint(),
            health_blueprint(self.vitals),
            messages_blueprint(self.service),
        ]
        blueprints += self._account_blueprints()
        if self.operators is not None:
            blueprints.append(admin_blueprint(self.service, self.operators))
            if self.settings.http.admin_page:
                page = admin_page_blueprint(self._page_accounts, self.settings)
                blueprints.append(page)
        if self.settings.metrics.enabled:
            blueprints.append(metrics_blueprint(self.metrics, self.settings.metrics.token))
        if self.settings.http.page:
            blueprints += self._page_blueprints()
        for blueprint in blueprints:
            problems.register(blueprint)
            requests.register(blueprint, self.handshake_log, self.node.numbers)
            if hosts.restricts(self.settings):
                hosts.register(blueprint)
            app.register_blueprint(blueprint)

    def _page_blueprints(self) -> list[Blueprint]:
        guests = has_guests(self.settings)
        search = self.archive is not None
        self.page_files = page_files(
            self._page_accounts,
            search=search,
            guests=guests,
            token_url=self.settings.http.page_token_url,
        )
        page = page_blueprint(self.page_files)
        if not guests:
            return [page]
        return [page, guest_blueprint(self.settings, self.clock, Callers(self.service))]

    def _account_blueprints(self) -> list[Blueprint]:
        # Imported here, because only servers with accounts need SQLAlchemy and Argon2.
        callers = Callers(self.service)
        if self._authenticate is not None:
            from .accounts.access import AccessTokens
            from .http.session import session_blueprint

            tokens = AccessTokens(self.settings, self.clock)
            return [session_blueprint(self._authenticate, tokens, callers)]
        if self.accounts is None:
            return []
        from .http.sign_in import sign_in_blueprint
        from .http.users import users_blueprint

        accounts = self.accounts
        return [
            sign_in_blueprint(accounts, callers),
            users_blueprint(accounts, callers, self.user_data),
        ]

    @property
    def _page_accounts(self) -> str:
        if self._authenticate is not None:
            return "session"
        return "" if self.accounts is None else self.settings.accounts.sign_up

    async def _expect_start(self) -> None:
        """Log once that the ASGI server did not start the application, so that nothing works."""
        if not self._started:
            self._started = True
            logger.warning(
                "the application was never started, so it is not ready and stores nothing: the"
                " ASGI server does not run its lifespan; see docs/embedding.md"
            )

    async def publish(
        self,
        topic: str,
        data: object,
        *,
        sender: User | str | None = None,
        key: str | None = None,
        state: Literal["streaming"] | None = None,
    ) -> PublishOk:
        """Publish a message as the application, which needs no permission and has no rate.

        Args:
            topic: the topic.
            data: any value that can be written as JSON.
            sender: the user that others see, by name or whole; None for a message without sender.
            key: idempotency key of 1 to 64 characters; a repetition by the same sender within
                `broker.idempotency_seconds` stores nothing.
            state: `streaming` if `append` will add to the message.

        Returns:
            The place of the message: `topic`, `seq`, `epoch`, `at` in milliseconds since 1970, and
            whether it is a `duplicate`.

        Raises:
            BadRequest: the topic is not well-formed, or `data` has no JSON form that all clients
                can read.
            TooLarge: `data` has more than `limits.max_message_bytes` of JSON.
            Unavailable: the broker cannot be reached.
        """
        command = command_of(Publish, topic, data, key=key, state=state)
        ok: PublishOk = await self._perform(sender, command)
        return ok

    async def edit(
        self,
        topic: str,
        seq: int,
        data: object,
        *,
        sender: User | str | None = None,
        key: str | None = None,
        epoch: str | None = None,
    ) -> ChangeOk:
        """Replace the data of a message of any user.

        Args:
            topic: the topic.
            seq: the message.
            data: as for `publish`.
            sender: as for `publish`; the author of the change.
            key: as for `publish`.
            epoch: the epoch of `seq`. Without an epoch, after a loss of the store, `seq` may be
                another message.

        Raises:
            BadRequest, TooLarge, Unavailable: as `publish`.
            NotFound: the topic's history has no such message, or the topic has begun anew.
            Gone: the message is deleted.
        """
        command = command_of(Edit, topic, data, seq=seq, key=key, epoch=epoch)
        ok: ChangeOk = await self._perform(sender, command)
        return ok

    async def append(
        self,
        topic: str,
        seq: int,
        text: str,
        *,
        state: Literal["streaming", "complete", "cancelled"] = "streaming",
        sender: User | str | None = None,
        key: str | None = None,
        epoch: str | None = None,
    ) -> AppendOk:
        """Add to the text of a message; simultaneous calls are stored together.

        Args:
            topic: the topic.
            seq: the message.
            text: the text to add; may be empty if `state` ends the message.
            state: the message's state afterwards.
            sender: as for `publish`; the author of the change.
            key: as for `publish`.
            epoch: as for `edit`.

        Raises:
            BadRequest, TooLarge, Unavailable: as `publish`; or the message has no text.
            NotFound: as `edit`.
            Gone: the message is deleted, or has ended already.
        """
        command = command_of(Append, topic, seq=seq, text=text, state=state, key=key, epoch=epoch)
        ok: AppendOk = await self._perform(sender, command)
        return ok

    async def delete(
        self,
        topic: str,
        seq: int,
        *,
        sender: User | str | None = None,
        key: str | None = None,
        epoch: str | None = None,
    ) -> ChangeOk:
        """Remove a message's data for good; see `edit`."""
        command = command_of(Delete, topic, seq=seq, key=key, epoch=epoch)
        ok: ChangeOk = await self._perform(sender, command)
        return ok

    async def _perform(self, sender: User | str | None, command: Command) -> Any:
        actor = Application(User(sender) if isinstance(sender, str) else sender)
        return await self.service.perform(actor, command)

    def relay(self, outbox: "TransactionalOutbox", engine: "AsyncEngine | None" = None) -> None:
        """Publish the messages that an application commits to its outbox, while the server runs.

        Args:
            outbox: a `chat_server.outbox.Outbox`.
            engine: the engine of the outbox's database; the server's own if None.

        Raises:
            SettingsError: there is no engine, and the server has no database.
        """
        from .outbox.relay import EngineSessions, Relay

        sessions = self.database if engine is None else EngineSessions(engine)
        if sessions is None:
            raise SettingsError("database.url: is not set, and an outbox needs a database")
        relay = Relay(outbox, sessions, self.publish, self.node.name)
        self._relays.append(relay)
        if self._running:
            relay.start()

    def _registry(self) -> Registry:
        if self._gate is None:
            self._gate = self.service.gate = HookGate(self.service, self.settings.hooks)
            if self._tracing is not None:
                self._tracing.watch_hooks(self._gate.asking)
        return self._gate.registry

    @property
    def hook_counts(self) -> Mapping[tuple[str, str], int]:
        """Number of runs of each hook, by `run`, and among these `refused`, `failed` and `late`."""
        return {} if self._gate is None else dict(self._gate.counts)

    async def prepare(self) -> None:
        """Do the part of `start` that may fail; may be called first, to report this error alone.

        Raises:
            SettingsError: this version cannot work with the database's schema.
        """
        if self.database is not None:
            await self.database.start()

    async def start(self) -> None:
        """Begin to accept work; wait for an unavailable broker or database in the background.

        Raises:
            SettingsError: as `prepare`.
        """
        self._started = True
        if self.settings.metrics.enabled:
            self.metrics.watch.start()
        await self.prepare()
        try:
            await self.verifier.start()
            if self.archive is not None:
                await self.archive.restore(self.service.retention)
            await self.node.start()
            if self.operators is not None:
                await self.operators.start()
            await self.jobs.start()
            if self._following is not None:
                self._following.start()
            self._running = True
            for relay in self._relays:
                relay.start()
            if self.accounts is not None:
                self.accounts.start()
            if self.user_data is not None:
                self.user_data.start()
        except BaseException:
            if self.database is not None:
                await self.database.stop()
            raise

    async def stop(self) -> None:
        """Send every client to another server, and stop the broker and the database."""
        self._running = False
        if self.user_data is not None:
            await self.user_data.stop()
        await asyncio.gather(self.jobs.stop(), *(relay.stop() for relay in self._relays))
        self.metrics.watch.stop()
        try:
            # After the last publication, and while the broker can still be read.
            await self.node.drain.run()
            if self._following is not None:
                await self._following.stop()
            if self.operators is not None:
                await self.operators.stop()
            await self.node.stop()
            self.service.appends.stop()
            if self._gate is not None:
                await self._gate.stop()
            await self.verifier.stop()
        finally:
            if self._tracing is not None:
                await self._tracing.stop()
            if self.accounts is not None:
                await self.accounts.stop()
            if self.database is not None:
                await self.database.stop()
