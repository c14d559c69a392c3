"""Seals anew what is stored sealed, wherever it is: endpoints' secrets, answers that may hold one,
the console's key. Opens no transaction.
"""

from collections.abc import Sequence

import asyncpg

from dispatcher.sealing import Sealer
from dispatcher.store import queries

SQL = queries.load(__file__)


async def stale(connection: asyncpg.Connection, sealer: Sealer) -> int:
    """Count what is not sealed with the current main key."""
    count: int = await connection.fetchval(SQL.stale_count, sealer.current)
    return count


async def reseal(connection: asyncpg.Connection, sealer: Sealer, *, limit: int) -> int:
    """Seal with the current main key what is not, at most `limit` of each sort; returns how many.

    Raises ConfigError when the main key of one is not configured.
    """
    secrets = await connection.fetch(SQL.stale_secrets, sealer.current, limit)
    await connection.execute(
        SQL.reseal_secrets, [row["id"] for row in secrets], _resealed(secrets, sealer), sealer.current
    )
    answers = await connection.fetch(SQL.stale_answers, sealer.current, limit)
    await connection.execute(
        SQL.reseal_answers,
        [row["tenant"] for row in answers],
        [row["key"] for row in answers],
        _resealed(answers, sealer),
        sealer.current,
    )
    keys = await connection.fetch(SQL.stale_console_key, sealer.current)
    for resealed in _resealed(keys, sealer):
        await connection.execute(SQL.reseal_console_key, resealed, sealer.current)
    return len(secrets) + len(answers) + len(keys)


def _resealed(rows: Sequence[asyncpg.Record], sealer: Sealer) -> list[bytes]:
    return [sealer.seal(sealer.open(row["sealed"], row["sealing_key"])).data for row in rows]
