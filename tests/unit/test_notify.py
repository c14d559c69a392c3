"""What mails say: every kind, in text and HTML, and what they must never say."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from dispatcher.model import DeathReason, DeliveryId, EndpointId, EventId, NoticeKind, Shard
from dispatcher.notify import MAILBOX, SERVER, Letter, render, shown_url
from dispatcher.store.notices import ANSWER_LIMIT, COUNT_LIMIT, Folded, Group, Notice, TypeCount, plain

AT = datetime(2026, 1, 1, 10, 0, 5, tzinfo=UTC)
ENDPOINT = EndpointId(UUID("019b76da-a800-7000-8000-00000000000e"))


def event_id(number: int) -> EventId:
    """The id of event `number`."""
    return EventId(UUID(int=0x019B76DA_A800_7000_8000_000000000000 + number))


def notice(kind: NoticeKind, number: int = 1, **changes: Any) -> Notice:
    """A notice of a delivery that got a 500 ten times."""
    values: dict[str, Any] = {
        "id": number,
        "endpoint_id": ENDPOINT,
        "kind": kind,
        "delivery_id": DeliveryId(number),
        "event_id": event_id(number),
        "event_type": "appointment.created",
        "attempts": 10,
        "first_attempt_at": AT - timedelta(days=3),
        "last_attempt_at": AT,
        "reason": "exhausted" if kind is NoticeKind.DELIVERIES_DEAD else None,
        "status": 500,
        "error": None,
        "answer": "database is locked",
        "deadline": None,
        "deliveries": None,
        "created_at": AT,
        "mail_id": None,
    }
    return Notice(**(values | changes))


def folded(kind: NoticeKind, *newest: Notice, url: str = "https://example.com/hook", **changes: Any) -> Folded:
    """Notices as they come out of the database."""
    notices = newest or (notice(kind),)
    group = Group(
        mail_id=UUID(int=1),
        kind=kind,
        endpoint_id=ENDPOINT,
        shard=Shard(3),
        tenant="acme",
        url=url,
        description=changes.pop("description", "Booking system"),
        disabled_at=AT if kind is NoticeKind.ENDPOINT_DISABLED else None,
        recipients=("ops@example.com",),
    )
    values: dict[str, Any] = {
        "count": len(notices),
        "first_attempt_at": AT - timedelta(days=3),
        "last_attempt_at": AT,
        "first_at": AT - timedelta(hours=1),
        "last_at": AT,
        "types": (TypeCount("appointment.created", len(notices)),),
        "type_count": 1,
        "newest": notices,
    }
    return Folded(group=group, **(values | changes))


def letter(what: Folded, *, where_to_look: str | None = None) -> Letter:
    """What is sent."""
    return render(what, digest_every=3600, where_to_look=where_to_look)


def words(letter: Letter) -> tuple[str, str]:
    """Text and HTML as people read them: no tags, no line ends."""
    visible = re.sub(r"<(style|title).*?</\1>", "", letter.html)
    return " ".join(letter.text.split()), " ".join(re.sub(r"<[^>]+>", " ", visible).split())


def test_one_death_is_told_whole() -> None:
    """Endpoint, event, attempts, result and the way out stand in both parts."""
    sent = letter(folded(NoticeKind.DELIVERIES_DEAD), where_to_look="https://console.example.com")

    assert sent.subject == "[dispatcher] 1 delivery to https://example.com/hook was given up"
    for part in words(sent):
        for expected in (
            "https://example.com/hook",
            "Booking system",
            "acme",
            str(ENDPOINT),
            "appointment.created",
            str(event_id(1)),
            "10, from 29 December 2025, 10:00:05 UTC to 1 January 2026, 10:00:05 UTC",
            "every attempt of its schedule failed",
            "HTTP 500 Internal Server Error",
            "database is locked",
            f"dispatcher event explain {event_id(1)}",
            "dispatcher delivery retry 1",
            f"dispatcher delivery list --webhook {ENDPOINT} --state dead",
            "comes after 1h at the earliest",
        ):
            assert expected in part
    assert f"https://console.example.com/endpoints/{ENDPOINT}\n" in sent.text
    assert f'href="https://console.example.com/endpoints/{ENDPOINT}"' in sent.html


def test_a_wave_of_deaths_is_counted() -> None:
    """Totals by type, the newest one by one, and how many there are in all."""
    wave = folded(
        NoticeKind.DELIVERIES_DEAD,
        *(notice(NoticeKind.DELIVERIES_DEAD, number) for number in range(10_000, 9_980, -1)),
        count=10_000,
        types=(TypeCount("appointment.created", 9_000), TypeCount("PATIENT_CREATED", 900)),
        type_count=5,
    )

    sent = letter(wave)

    assert sent.subject == "[dispatcher] 10,000 deliveries to https://example.com/hook were given up"
    text, html = words(sent)
    assert "9,000 x appointment.created 900 x PATIENT_CREATED and events of 3 more types" in text
    assert "9,000 \u00d7 appointment.created 900 \u00d7 PATIENT_CREATED and events of 3 more types" in html
    for part in (text, html):
        assert "between 1 January 2026, 09:00:05 UTC and 1 January 2026, 10:00:05 UTC" in part
        assert "The latest 20 of 10,000 deliveries" in part
        assert part.count("every attempt of its schedule failed") == 20


@pytest.mark.parametrize("reason", list(DeathReason))
def test_every_reason_has_words(reason: DeathReason) -> None:
    """No reason is shown as the database spells it."""
    sent = letter(folded(NoticeKind.DELIVERIES_DEAD, notice(NoticeKind.DELIVERIES_DEAD, reason=reason.value)))

    assert f"given up, because {reason}" not in sent.text
    assert re.search(r"given up, because \w+ \w+", words(sent)[0])


def test_a_death_without_attempts_is_told() -> None:
    """An event that expired while its endpoint was paused was never tried, and its type may be forgotten."""
    expired = notice(
        NoticeKind.DELIVERIES_DEAD,
        event_type=None,
        attempts=0,
        first_attempt_at=None,
        last_attempt_at=None,
        reason="expired",
        status=None,
        answer=None,
    )

    sent = letter(folded(NoticeKind.DELIVERIES_DEAD, expired, first_attempt_at=None, last_attempt_at=None))

    text, html = words(sent)
    assert "attempts none given up its event expired" in text
    assert "Attempts none Given up its event expired" in html
    assert "None" not in text + html


def test_a_warning_names_the_date() -> None:
    """When the endpoint will be disabled stands in the subject and in the mail."""
    warned = notice(NoticeKind.ENDPOINT_FAILING, deadline=AT + timedelta(days=4))

    sent = letter(folded(NoticeKind.ENDPOINT_FAILING, warned))

    assert sent.subject == ("[dispatcher] https://example.com/hook is failing and will be disabled on 5 January 2026")
    for part in words(sent):
        assert "Failing since 29 December 2025, 10:00:05 UTC" in part
        assert "To be disabled 5 January 2026, 10:00:05 UTC" in part
        assert f"dispatcher webhook test {ENDPOINT}" in part


def test_disabling_says_what_died_and_how_to_go_on() -> None:
    """Reason, number of deliveries, and the commands that undo it."""
    disabled = notice(NoticeKind.ENDPOINT_DISABLED, reason="it kept failing")

    sent = letter(folded(NoticeKind.ENDPOINT_DISABLED, disabled, deliveries=1234))

    assert sent.subject == "[dispatcher] https://example.com/hook was disabled"
    for part in words(sent):
        assert "because it kept failing. 1,234 pending deliveries were given up with it." in part
        assert f"dispatcher webhook enable {ENDPOINT}" in part
        assert "dispatcher delivery retry" in part


@pytest.mark.parametrize(
    "deliveries, said",
    [
        (0, None),
        (1, "1 pending delivery was given up with it."),
        (COUNT_LIMIT, "100,000 or more pending deliveries were given up with it."),
    ],
)
def test_numbers_of_deaths_read_well(deliveries: int, said: str | None) -> None:
    """None is not mentioned, one is singular, and counting ends somewhere."""
    text = words(letter(folded(NoticeKind.ENDPOINT_DISABLED, deliveries=deliveries)))[0]

    assert (said in text) if said else ("given up with it" not in text)


def test_recovery_is_told() -> None:
    """Good news say since when, and what is left to do."""
    recovered = notice(NoticeKind.ENDPOINT_RECOVERED, status=204, answer=None)

    sent = letter(folded(NoticeKind.ENDPOINT_RECOVERED, recovered))

    assert sent.subject == "[dispatcher] https://example.com/hook works again"
    for part in words(sent):
        assert "Works since 1 January 2026, 10:00:05 UTC" in part
        assert f"dispatcher delivery list --webhook {ENDPOINT} --state dead" in part


@pytest.mark.parametrize("kind", list(NoticeKind))
def test_bare_notices_can_be_told(kind: NoticeKind) -> None:
    """Nothing but the kind needs to be known, whatever the kind."""
    nothing: dict[str, Any] = dict.fromkeys(
        ("delivery_id", "event_id", "event_type", "attempts", "first_attempt_at", "last_attempt_at", "status", "answer")
    )

    sent = letter(folded(kind, notice(kind, reason=None, **nothing), description=None))

    for part in words(sent):
        assert str(ENDPOINT) in part
        assert "None" not in part


@pytest.mark.parametrize("kind", list(NoticeKind))
def test_secrets_in_the_url_stay_secret(kind: NoticeKind) -> None:
    """Userinfo, query string and fragment are not shown, in no kind of mail."""
    sent = letter(folded(kind, url="https://user:pass@example.com:8443/hook?token=s3cret#frag"))

    for part in (sent.subject, sent.text, sent.html):
        assert "https://example.com:8443/hook" in part
        for secret in ("user", "pass@", "token", "s3cret", "#frag"):
            assert secret not in part.replace("It was sent by dispatcher", "")


@pytest.mark.parametrize(
    "url, shown",
    [
        ("https://example.com", "https://example.com"),
        ("https://a:b@c@example.com/x", "https://example.com/x"),
        ("http://[::1]:8080/x?y", "http://[::1]:8080/x"),
        ("http://[x", "an unreadable URL"),
    ],
)
def test_shown_url(url: str, shown: str) -> None:
    """Scheme, host, port and path are left."""
    assert shown_url(url) == shown


@pytest.mark.parametrize("kind", list(NoticeKind))
def test_data_is_escaped_in_html(kind: NoticeKind) -> None:
    """No text from elsewhere becomes markup."""
    hostile = "<script>alert(1)</script><img src=x onerror='x'>\"&"

    sent = letter(
        folded(
            kind,
            notice(kind, event_type=hostile, answer=hostile, error=hostile, reason=hostile),
            description=hostile,
            types=(TypeCount(hostile, 2),),
            count=2,
        )
    )

    assert "<script" not in sent.html
    assert "<img" not in sent.html
    assert "&lt;script&gt;" in sent.html


def test_subjects_are_short() -> None:
    """A long URL leaves room for what happened, and goes on whole in the mail, up to a limit."""
    sent = letter(folded(NoticeKind.DELIVERIES_DEAD, url="https://example.com/" + "x" * 2000))

    assert len(sent.subject) < 130
    assert sent.subject.endswith("… was given up")
    assert max(len(line) for line in sent.text.splitlines()) < 260


@pytest.mark.parametrize(
    "text, line",
    [
        ("a\r\nb\tc", "a b c"),
        ("\0\x1b[31mred\x7f\x85", "[31mred"),
        ("\u202egnp.exe\u2028next", "gnp.exe next"),
        ("\ud800lone", "lone"),
        ("  wide \u00a0 space ", "wide space"),
        ("Grüße 日本", "Grüße 日本"),
    ],
    ids=["line ends", "control characters", "direction marks", "surrogate", "spaces", "letters"],
)
def test_plain_text_is_one_printable_line(text: str, line: str) -> None:
    """What structures headers, terminals or reading direction is gone."""
    assert plain(text, 100) == line


def test_plain_text_is_cut() -> None:
    """With a sign that it was."""
    cut = plain("x" * 1000, ANSWER_LIMIT)

    assert len(cut) == ANSWER_LIMIT
    assert cut.endswith("x…")


def test_backoff_doubles_up_to_its_end() -> None:
    """A mailbox is tried after a minute to an hour, a server after seconds to minutes, however long it lasts."""
    assert [MAILBOX.after(attempts) for attempts in (0, 1, 5, 6, 32767)] == [60, 120, 1920, 3600, 3600]
    assert [SERVER.after(attempts) for attempts in (0, 1, 5, 6, 32767)] == [5, 10, 160, 300, 300]
