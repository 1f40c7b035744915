"""What several tests do with accounts."""

from sqlalchemy import Table, select

from chat_server.accounts.accounts import Accounts
from chat_server.database.database import Database

PASSWORD = "correct horse"
HOME = "192.0.2.1"


async def sign_up(accounts: Accounts, name: str = "alice", invitation: str | None = None) -> None:
    await accounts.sign_up(name, PASSWORD, invitation=invitation, address=HOME)


async def log_in(accounts: Accounts, name: str = "alice", password: str = PASSWORD) -> str:
    return (await accounts.log_in(name, password, address=HOME)).refresh_token


async def rows(database: Database, table: Table) -> int:
    async with database.session(read_only=True) as session:
        return len((await session.execute(select(table))).all())
