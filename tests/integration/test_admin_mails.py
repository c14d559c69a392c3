"""Mails as people read them: in order, filtered, page by page, each to those it belongs to."""

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import pytest

from dispatcher.admin import Admin, MailState
from dispatcher.errors import InvalidInput, NotFound
from dispatcher.model import EndpointId, NoticeKind
from support.admin import make_webhook, open_admin


@pytest.fixture
async def admin(database: str) -> AsyncIterator[Admin]:
    """An `Admin` on a fresh database."""
    async with open_admin(database) as admin:
        yield admin


async def make_mail(
    connection: Any, endpoint_id: EndpointId, *, kind: NoticeKind = NoticeKind.DELIVERIES_DEAD, state: str = "waiting"
) -> UUID:
    """Write a mail as `notify` does, with what became of it."""
    mail_id: UUID = await connection.fetchval(
        """
        insert into dispatcher.mails
          (endpoint_id, kind, message_id, recipients, waiting, refused, subject, text_body, html_body, notices, created_at,
           due_at, sent_at, given_up_at)
        select
          $1, $2, '<1@dispatcher>', array['a@example.com'], case $3 when 'waiting' then array['a@example.com'] else '{}' end,
          '{}', 'Subject', 'Text', '<p>Text</p>', 1, now(), now(),
          case $3 when 'sent' then now() end, case $3 when 'given_up' then now() end
        returning id
        """,
        endpoint_id,
        kind,
        state,
    )
    return mail_id


async def make_notice(connection: Any, endpoint_id: EndpointId, *, mail_id: UUID | None = None) -> None:
    """Write a notice of a death."""
    await connection.execute(
        "insert into dispatcher.notices (endpoint_id, kind, event_type, created_at, mail_id) "
        "values ($1, 'deliveries_dead', 'a.b', now(), $2)",
        endpoint_id,
        mail_id,
    )


async def test_mails_are_listed_page_by_page_and_filtered(admin: Admin, connection: Any) -> None:
    """The latest first; by tenant, webhook, kind and state."""
    ours, theirs = await make_webhook(admin), await make_webhook(admin, "other")
    sent = await make_mail(connection, ours, state="sent")
    failing = await make_mail(connection, ours, kind=NoticeKind.ENDPOINT_FAILING)
    other = await make_mail(connection, theirs, state="given_up")
    cases: list[tuple[dict[str, Any], list[UUID]]] = [
        ({}, [other, failing, sent]),
        ({"tenant": "acme"}, [failing, sent]),
        ({"webhook": theirs}, [other]),
        ({"kind": NoticeKind.ENDPOINT_FAILING}, [failing]),
        ({"tenant": "acme", "kind": NoticeKind.DELIVERIES_DEAD}, [sent]),
        ({"state": MailState.SENT}, [sent]),
        ({"state": MailState.WAITING}, [failing]),
        ({"state": MailState.GIVEN_UP}, [other]),
        ({"state": MailState.GIVEN_UP, "tenant": "acme"}, []),
    ]

    for chosen, ids in cases:
        for limit in (1, 50):
            page = await admin.mails(**chosen, limit=limit)
            found = list(page.mails)
            while page.next_cursor is not None:
                page = await admin.mails(**chosen, limit=limit, cursor=page.next_cursor)
                found += page.mails
            assert [mail.id for mail in found] == ids, chosen


async def test_a_mail_tells_what_it_says_and_of_what(admin: Admin, connection: Any) -> None:
    """Its text, its HTML, its recipients, its notices."""
    endpoint_id = await make_webhook(admin)
    mail_id = await make_mail(connection, endpoint_id)
    await make_notice(connection, endpoint_id, mail_id=mail_id)

    found = await admin.mail(mail_id, tenant="acme")

    assert (found.text, found.html, found.mail.subject) == ("Text", "<p>Text</p>", "Subject")
    assert (found.mail.tenant, found.mail.state) == ("acme", MailState.WAITING)
    assert (found.mail.recipients, found.mail.waiting) == (("a@example.com",), ("a@example.com",))
    assert [notice.event_type for notice in found.notices] == ["a.b"]
    assert isinstance(found.mail.due_at, datetime)


async def test_what_waits_for_a_mail_is_counted_by_webhook(admin: Admin, connection: Any) -> None:
    """Not what is in a mail already."""
    ours, theirs = await make_webhook(admin), await make_webhook(admin, "other")
    await make_notice(connection, ours, mail_id=await make_mail(connection, ours))
    for endpoint_id in (ours, ours, theirs):
        await make_notice(connection, endpoint_id)

    every = await admin.waiting_notices()
    first = await admin.waiting_notices(limit=1)
    acme = await admin.waiting_notices(tenant="acme")
    other = await admin.waiting_notices(webhook=theirs)

    assert {(one.tenant, one.count) for one in every} == {("acme", 2), ("other", 1)}
    assert [(one.tenant, one.count) for one in acme] == [("acme", 2)]
    assert [one.endpoint_id for one in other] == [theirs]
    assert len(first) == 1


async def test_others_mails_do_not_exist(admin: Admin, connection: Any) -> None:
    """Neither the mail, nor their webhook."""
    await make_webhook(admin)
    theirs = await make_webhook(admin, "other")
    mail_id = await make_mail(connection, theirs)

    with pytest.raises(NotFound):
        await admin.mail(mail_id, tenant="acme")
    with pytest.raises(NotFound):
        await admin.mails(tenant="acme", webhook=theirs)
    with pytest.raises(NotFound):
        await admin.waiting_notices(tenant="acme", webhook=theirs)
    with pytest.raises(NotFound):
        await admin.mail(uuid4())


@pytest.mark.parametrize("keywords", [{"limit": 0}, {"limit": 251}, {"cursor": "x"}, {"cursor": "WyJtYWlscyIsMSwyXQ"}])
async def test_what_cannot_be_meant_is_refused(admin: Admin, keywords: dict[str, Any]) -> None:
    """A limit out of bounds, a cursor that is none."""
    with pytest.raises(InvalidInput):
        await admin.mails(**keywords)
