"""The subscribers of a benchmark: rows for tenants and endpoints, and the check of what arrived against their secrets."""

import base64
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from standardwebhooks import Webhook

from benchmarks import events
from benchmarks.errors import BenchmarkError

TOLERANCE: Final = 60.0
"""Seconds between the timestamp of a request and its arrival: receivers grant 300."""

INSERT = """
with named as (
  select tenant, url, secret
  from unnest($1::text[], $2::text[], $3::text[]) as new (tenant, url, secret)
), tenants as (
  insert into dispatcher.tenants (name, root, shard)
  select tenant, tenant, dispatcher.shard_of(tenant) from named
), endpoints as (
  insert into dispatcher.endpoints (tenant, shard, url)
  select tenant, dispatcher.shard_of(tenant), url from named
  returning id, tenant
), subscriptions as (
  insert into dispatcher.subscriptions (tenant, pattern, endpoint_id)
  select tenant, $4, id from endpoints
)
insert into dispatcher.endpoint_secrets (endpoint_id, sealed)
select endpoints.id, convert_to(named.secret, 'UTF8')
from endpoints
join named using (tenant)
"""


def secret(endpoint: int) -> str:
    """Make up the secret of an endpoint."""
    return "whsec_" + base64.b64encode(endpoint.to_bytes(32)).decode()


def hosts(count: int) -> list[str]:
    """List addresses of this machine's loopback network, the usual one first; only Linux has more than that."""
    others = (f"127.{1 + number // 62_500}.{number // 250 % 250}.{1 + number % 250}" for number in range(count - 1))
    return ["127.0.0.1", *others]


def urls(scheme: str, port: int, *, endpoints: int, hosts: Sequence[str]) -> list[str]:
    """List the URLs of the endpoints, all at one receiver, spread over its addresses."""
    return [f"{scheme}://{hosts[number % len(hosts)]}:{port}{events.path(number)}" for number in range(endpoints)]


async def create(connection: Any, addresses: Sequence[str]) -> None:
    """Write one tenant with one endpoint for each URL."""
    numbers = range(len(addresses))
    await connection.execute(
        INSERT,
        [events.tenant(endpoint) for endpoint in numbers],
        list(addresses),
        [secret(endpoint) for endpoint in numbers],
        events.EVENT_TYPE,
    )


def verify(samples: Sequence[Mapping[str, Any]], *, size: int) -> int:
    """Check samples of what arrived: signature, timestamp and size; returns how many there were.

    The signature is made anew by an independent library, which cannot verify what came some minutes ago.
    """
    for sample in samples:
        endpoint = int(sample["path"].rpartition("/")[2])
        lines = (line.split(": ", 1) for line in sample["head"].split("\r\n")[1:])
        headers = {name.lower(): value for name, value in lines}
        stamp = datetime.fromtimestamp(int(headers["webhook-timestamp"]), UTC)
        expected = Webhook(secret(endpoint)).sign(headers["webhook-id"], stamp, sample["body"])
        if headers["webhook-signature"] != expected:
            raise BenchmarkError(f"A request to {sample['path']} does not verify.")
        if abs(sample["at"] - stamp.timestamp()) > TOLERANCE:
            raise BenchmarkError(f"A request to {sample['path']} says that it was sent at {stamp}.")
        if len(sample["body"]) < size:
            raise BenchmarkError(f"A body of {len(sample['body'])} bytes came, of {size} or more that were meant.")
    return len(samples)
