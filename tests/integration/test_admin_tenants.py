"""Tenants and keys, as people make them."""

from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

from dispatcher.admin import Admin, views
from dispatcher.errors import InvalidInput, NotFound
from support.admin import open_admin


@pytest.fixture
async def admin(database: str) -> AsyncIterator[Admin]:
    """An administration of a fresh database."""
    async with open_admin(database) as admin:
        yield admin


async def test_a_tenant_is_registered_once(admin: Admin) -> None:
    """Registering a name that is taken is refused, naming the field."""
    made = await admin.create_tenant("acme")

    with pytest.raises(InvalidInput, match="`acme` exists already") as refused:
        await admin.create_tenant("acme")

    assert refused.value.field == "name"
    assert made == await admin.tenant("acme")


async def test_a_tree_shares_its_roots_shard(admin: Admin) -> None:
    """A child, and a child's child, belong to the shard of the tree's root."""
    root = await admin.create_tenant("group")
    child = await admin.create_tenant("clinic", parent="group")
    grandchild = await admin.create_tenant("desk", parent="clinic")

    assert {root.shard} == {child.shard, grandchild.shard}
    assert (grandchild.root, grandchild.parent) == ("group", "clinic")


async def test_an_unknown_tenant_is_answered_with_near_misses(admin: Admin) -> None:
    """A mistyped name is answered with what may have been meant, and with how to register one."""
    await admin.create_tenant("sunrise-clinic")

    with pytest.raises(NotFound, match=r"Did you mean `sunrise-clinic`.*tenant create"):
        await admin.tenant("sunrise-clinc")


@pytest.mark.parametrize("name", ["", " ", " acme", "a\nb", "x" * 256, "\x00"], ids=repr)
async def test_a_tenants_name_is_refused_if_no_event_could_have_it(admin: Admin, name: str) -> None:
    """What the outbox would refuse, or nobody could type again, is no name."""
    with pytest.raises(InvalidInput, match="1 to 255 characters"):
        await admin.create_tenant(name)


async def test_a_parent_must_exist(admin: Admin) -> None:
    """A tenant below one that does not exist is refused, and not made."""
    with pytest.raises(NotFound, match="no tenant `nobody`"):
        await admin.create_tenant("clinic", parent="nobody")

    assert await admin.list_tenants() == []


async def test_a_key_is_shown_once_and_stored_hashed(admin: Admin) -> None:
    """Only the digest of a key is stored; the key itself lets its owner in."""
    await admin.create_tenant("acme")

    new = await admin.create_key("acme", description="for the website")

    assert new.key.startswith(new.details.prefix)
    assert new.key not in repr(new)
    assert new.details == await admin.authenticate(new.key)
    assert [new.details] == await admin.list_keys("acme")
    assert new.key == views.new_key_json(new)["key"]
    assert "key" not in views.key_json(new.details)


async def test_a_revoked_key_lets_nobody_in(admin: Admin) -> None:
    """Revoking is for good, and can be repeated."""
    await admin.create_tenant("acme")
    new = await admin.create_key("acme", operator=True)

    revoked = await admin.revoke_key(new.details.id)

    assert revoked.revoked_at is not None
    assert await admin.authenticate(new.key) is None
    assert revoked == await admin.revoke_key(new.details.id)


async def test_an_unknown_key_cannot_be_revoked(admin: Admin) -> None:
    """A key that does not exist is said not to."""
    with pytest.raises(NotFound, match="no key"):
        await admin.revoke_key(uuid4())


async def test_keys_are_made_for_known_tenants_alone(admin: Admin) -> None:
    """A key for a tenant that does not exist is refused."""
    with pytest.raises(NotFound, match="no tenant"):
        await admin.create_key("nobody")
