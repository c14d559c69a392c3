"""The signature check: an attempt as a worker made and recorded it, proven with the keys that are kept."""

from typing import Any

import pytest

from dispatcher.admin import SignatureCheck, SignatureVerdict
from dispatcher.errors import NotFound
from dispatcher.model import DeliveryId, EndpointId, fingerprint
from support.admin import open_admin
from support.receiver import Receiver
from support.world import SECRET, finished, insert_event, make_endpoint, until, working

OTHER = "whsec_" + "b" * 43 + "="


async def sent(database: str, connection: Any, **columns: Any) -> tuple[EndpointId, DeliveryId]:
    """Let a worker deliver one event to one endpoint."""
    async with Receiver() as receiver, working(database):
        endpoint_id = EndpointId(await make_endpoint(connection, f"{receiver.url}/hook", **columns))
        await insert_event(connection)
        (row,) = await finished(connection)
        await until(lambda: connection.fetchval("select count(*) from dispatcher.attempts"))
    return endpoint_id, DeliveryId(row["id"])


async def check(database: str, delivery_id: DeliveryId, number: int = 1) -> SignatureCheck:
    """Check an attempt as an operator."""
    async with open_admin(database) as admin:
        return await admin.signature_check(delivery_id, number)


async def test_a_signature_is_proven_with_its_key(database: str, connection: Any) -> None:
    """And no secret is told."""
    _, delivery_id = await sent(database, connection)

    found = await check(database, delivery_id)

    assert found.verdict is SignatureVerdict.VALID
    assert [(one.header, one.key) for one in found.findings] == [("webhook-signature", fingerprint(SECRET))]
    assert SECRET not in repr(found)


async def test_each_of_two_keys_is_told(database: str, connection: Any) -> None:
    """While a rotated key still signs, and afterwards as long as it is kept."""
    _, delivery_id = await sent(database, connection, secrets=(SECRET, OTHER))

    found = await check(database, delivery_id)

    assert found.verdict is SignatureVerdict.VALID
    assert {one.key for one in found.findings} == {fingerprint(SECRET), fingerprint(OTHER)}


async def test_a_key_that_is_no_longer_kept_cannot_be_told(database: str, connection: Any) -> None:
    """Its fingerprint is."""
    endpoint_id, delivery_id = await sent(database, connection)
    async with open_admin(database) as admin:
        await admin.rotate_secret(endpoint_id, overlap=0)
    await connection.execute("delete from dispatcher.endpoint_secrets where expires_at is not null")

    found = await check(database, delivery_id)

    assert found.verdict is SignatureVerdict.UNKNOWN
    assert fingerprint(SECRET) in found.findings[0].why


@pytest.mark.parametrize(
    "change",
    [
        "replace(request_head, 'webhook-signature: v1,', 'webhook-signature: v1,A')",
        "regexp_replace(request_head, 'webhook-timestamp: .', 'webhook-timestamp: 2')",
        "regexp_replace(request_head, 'webhook-id: .*?-', 'webhook-id: 0-')",
    ],
)
async def test_what_does_not_fit_is_wrong(database: str, connection: Any, change: str) -> None:
    """Whether the signature is another, or what was signed."""
    _, delivery_id = await sent(database, connection)
    await connection.execute(f"update dispatcher.attempts set request_head = {change}")

    assert (await check(database, delivery_id)).verdict is SignatureVerdict.WRONG


@pytest.mark.parametrize(
    "profiles, headers",
    [
        (["standard", "github"], {"webhook-signature", "x-hub-signature-256"}),
        (["standard", "rfc9421"], {"webhook-signature", "signature"}),
        (["without-standard", "stripe"], {"stripe-signature"}),
        (["without-standard", "healthie"], {"signature"}),
        (["standard", "slack"], {"webhook-signature", "x-slack-signature"}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
async def test_the_headers_of_other_profiles_are_proven(
    database: str, connection: Any, profiles: list[str], headers: set[str]
) -> None:
    """Those that a key made, and not the digests beside them; a changed one is wrong, after a change of the webhook unknown."""
    endpoint_id, delivery_id = await sent(database, connection, signing_profiles=profiles)

    found = await check(database, delivery_id)
    assert {one.header for one in found.findings} == headers
    assert {one.key for one in found.findings} == {fingerprint(SECRET)}
    assert found.verdict is SignatureVerdict.VALID

    if profiles[0] == "without-standard":
        (header,) = headers
        await connection.execute(
            "update dispatcher.attempts set request_head = regexp_replace(request_head, $1, '\\1f00', 'i')",
            rf"({header}: [^\r]*)[^\r]{{4}}\r?",
        )
        assert (await check(database, delivery_id)).verdict is SignatureVerdict.WRONG
        await connection.execute("update dispatcher.endpoints set updated_at = now() where id = $1", endpoint_id)
        assert (await check(database, delivery_id)).verdict is SignatureVerdict.UNKNOWN


async def test_what_cannot_be_told_says_why(database: str, connection: Any) -> None:
    """Nothing sent; a body that is not the one that was sent; an event past retention."""
    _, delivery_id = await sent(database, connection)

    await connection.execute("update dispatcher.attempts set request_sha256 = '\\x00'")
    changed = await check(database, delivery_id)
    await connection.execute("delete from dispatcher.outbox")
    gone = await check(database, delivery_id)
    await connection.execute("update dispatcher.attempts set request_head = null")
    unsent = await check(database, delivery_id)

    assert {changed.verdict, gone.verdict, unsent.verdict} == {SignatureVerdict.UNKNOWN}
    assert ["hash" in changed.why, "retention" in gone.why, "Nothing was sent" in unsent.why] == [True, True, True]


async def test_others_attempts_do_not_exist(database: str, connection: Any) -> None:
    """Nor does one that was never made."""
    _, delivery_id = await sent(database, connection)

    async with open_admin(database) as admin:
        with pytest.raises(NotFound):
            await admin.signature_check(delivery_id, 1, tenant="other")
        with pytest.raises(NotFound):
            await admin.signature_check(delivery_id, 2)
        assert (await admin.signature_check(delivery_id, 1, tenant="acme")).verdict is SignatureVerdict.VALID
