"""Turn queued notices into mails, and send the mails, each with retries of its own.

Folding is one transaction of the database and nothing else; sending holds no connection to the database while it speaks
to the mail server. So a dead mail server delays nothing but mails, and loses none.
"""

import textwrap
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import EmailMessage
from functools import cache
from http import HTTPStatus
from typing import Final, Protocol, assert_never
from urllib.parse import urlsplit
from uuid import UUID

import structlog
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from dispatcher.clock import Clock
from dispatcher.mailer import Mailer, MailRefused, MailUnavailable, compose, message_id
from dispatcher.model import DeathReason, NoticeKind
from dispatcher.retry import format_duration
from dispatcher.store import notices as store
from dispatcher.store.notices import plain
from dispatcher.store.pool import Pool

POLL: Final = 0.5
"""Seconds between looks into an idle queue: a person does not notice, and a look costs some tenths of a millisecond."""

FOLD_BATCH: Final = 10
"""Mails made in one transaction: rendering them takes some milliseconds each, in a process that has other things to do."""

FOLD_LIMIT: Final = 50_000
"""Notices in one mail: about a second of work for the database. What is left over comes in the next."""

LISTED: Final = 20
"""Deliveries that a mail lists one by one: what a person still reads."""

TYPES_LISTED: Final = 15
"""Event types that a mail counts one by one."""

SEND_BATCH: Final = 20
"""Mails claimed at once."""

MEASURE_EVERY: Final = 15.0
"""Seconds between two measurements of what waits: as often as metrics are usually collected."""

CLAIM_SECONDS: Final = 120.0
"""For which claimed mails are left to their process, unless it renews the claim; after that it has died. One mail to one
recipient takes 80 s at most (`mailer.COMMANDS` times its time-out)."""

RENEW_SECONDS: Final = 20.0
"""Age of a claim from which on it is renewed before the next recipient's mail, so that it outlasts that one, and no other
process sends the same mail meanwhile."""

SEND_SECONDS: Final = 150.0
"""After which a batch is ended, slow as the mail server may be: notices wait to be folded."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """Delays in seconds that double from the first to the longest."""

    first: float
    longest: float

    def after(self, attempts: int) -> float:
        """Return the delay after so many attempts that failed before this one."""
        return min(self.first * 2.0 ** min(attempts, 32), self.longest)


MAILBOX: Final = Backoff(60.0, 3600.0)
"""For a recipient that could not be served: greylisting wants minutes, a full mailbox days."""

SERVER: Final = Backoff(5.0, 300.0)
"""For a mail server that cannot be used: asking costs next to nothing, and many mails wait for it."""

URL_LIMIT: Final = 200
SUBJECT_URL_LIMIT: Final = 80
"""Characters of a URL in a mail, and in its subject, where it must leave room for what happened."""

logger = structlog.get_logger()


class Metrics(Protocol):
    """Counts what is done."""

    def notices(self, kind: str, count: int) -> None:
        """`count` notices of a kind were folded into a mail."""

    def mails(self, result: str) -> None:
        """A mail was `sent`, `postponed` or `refused`, for one recipient."""

    def oldest_unsent_mail(self, age: float) -> None:
        """The oldest mail that is not done with was made so many seconds ago; 0 if there is none."""


class Notify:
    """The step from notices to mails, and from mails to the mail server.

    `digest_every`: seconds between two mails about deaths of one endpoint. `where_to_look`: the console's URL, if there
    is one. `unsubscribe`: a mailto: or https: URL. Without a `mailer` nothing is folded: notices wait, can be listed,
    and go out folded once there is one, as far as retention has kept them.
    """

    name = "notify"
    pause = POLL

    def __init__(
        self,
        pool: Pool,
        mailer: Mailer | None,
        *,
        clock: Clock,
        sender: str,
        digest_every: float,
        where_to_look: str | None = None,
        unsubscribe: str | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        self._pool = pool
        self._mailer = mailer
        self._clock = clock
        self._sender = sender
        self._digest_every = digest_every
        self._where_to_look = where_to_look
        self._unsubscribe = unsubscribe
        self._metrics = metrics
        self._said_unconfigured = False
        self._failures = 0
        """Of the mail server, one after the other."""
        self._resume_at = float("-inf")
        """By the monotonic clock; the mail server is left alone until then."""
        self._measure_at = float("-inf")

    async def run_once(self) -> int:
        """Fold what is to be folded and send what is due, a batch of each; return how many mails were made or tried."""
        await self._measure()
        if self._mailer is None:
            return 0
        return await self._fold() + await self._send(self._mailer)

    async def _measure(self) -> None:
        if self._clock.monotonic() < self._measure_at:
            return
        self._measure_at = self._clock.monotonic() + MEASURE_EVERY
        async with self._pool.acquire() as connection:
            figures = await store.figures(connection, now=self._clock.override())
        if self._metrics is not None:
            self._metrics.oldest_unsent_mail(figures.oldest_unsent_age)
        if self._mailer is None and figures.notices_waiting and not self._said_unconfigured:
            logger.warning("mail.unconfigured", notices_waiting=figures.notices_waiting, setting="[smtp] host")
            self._said_unconfigured = True

    async def _fold(self) -> int:
        now = self._clock.override()
        async with self._pool.acquire() as connection, connection.transaction():
            if not await store.lock_folding(connection):
                return 0
            groups = await store.foldable(connection, digest_every=self._digest_every, limit=FOLD_BATCH, now=now)
            made = []
            for group in groups:
                folded = await store.fold(connection, group, at_most=FOLD_LIMIT, types=TYPES_LISTED, listed=LISTED)
                letter = render(folded, digest_every=self._digest_every, where_to_look=self._where_to_look)
                await store.add_mail(
                    connection,
                    folded,
                    message_id=message_id(group.mail_id, sender=self._sender),
                    subject=letter.subject,
                    text=letter.text,
                    html=letter.html,
                    now=now,
                )
                made.append(folded)
        for folded in made:
            group = folded.group
            logger.info(
                "notice.folded",
                mail=str(group.mail_id),
                kind=group.kind,
                endpoint=str(group.endpoint_id),
                notices=folded.count,
            )
            if self._metrics is not None:
                self._metrics.notices(group.kind, folded.count)
        return len(made)

    async def _send(self, mailer: Mailer) -> int:
        started = self._clock.monotonic()
        if started < self._resume_at:
            return 0
        now = self._clock.override()
        async with self._pool.acquire() as connection, connection.transaction():
            mails = await store.claim_mails(connection, limit=SEND_BATCH, seconds=CLAIM_SECONDS, now=now)
        stop_at = started + SEND_SECONDS
        claim = _Claim([mail.id for mail in mails], started)
        tried = 0
        for mail in mails:
            if not self._resume_at <= self._clock.monotonic() < stop_at:
                break
            await self._settle(mail, await self._try(mailer, mail, claim, stop_at=stop_at))
            tried += 1
        if left := [mail.id for mail in mails[tried:]]:
            async with self._pool.acquire() as connection, connection.transaction():
                await store.release_mails(connection, left)
        return tried

    async def _renew(self, claim: "_Claim") -> None:
        """Keep a claim that grows old."""
        renewed_at = self._clock.monotonic()
        if renewed_at - claim.renewed_at < RENEW_SECONDS:
            return
        async with self._pool.acquire() as connection, connection.transaction():
            await store.renew_mails(connection, claim.mails, seconds=CLAIM_SECONDS, now=self._clock.override())
        claim.renewed_at = renewed_at

    async def _try(self, mailer: Mailer, mail: store.Mail, claim: "_Claim", *, stop_at: float) -> "_Try":
        """Send a mail to everybody who waits for it, one by one, so that a bad address harms no other."""
        tried = _Try(accepted=[], refused=[], errors=[])
        for address in mail.waiting:
            if self._clock.monotonic() >= stop_at:
                break
            await self._renew(claim)
            try:
                await mailer.send(self._message(mail, address))
            except MailRefused as error:
                tried.refused.append(address)
                tried.errors.append(f"{address}: {error}")
            except MailUnavailable as error:
                tried.errors.append(str(error) if error.server else f"{address}: {error}")
                if error.server:
                    tried.server_failed = True
                    break
            else:
                tried.accepted.append(address)
        self._judge_server(tried)
        return tried

    def _message(self, mail: store.Mail, address: str) -> EmailMessage:
        return compose(
            message_id=mail.message_id,
            sender=self._sender,
            recipient=address,
            subject=mail.subject,
            text=mail.text_body,
            html=mail.html_body,
            date=mail.created_at,
            unsubscribe=self._unsubscribe,
        )

    def _judge_server(self, tried: "_Try") -> None:
        """Leave a mail server alone for a while that cannot be used; one that can is asked without pause."""
        if not tried.server_failed:
            self._failures = 0
            return
        self._resume_at = self._clock.monotonic() + SERVER.after(self._failures)
        self._failures += 1

    async def _settle(self, mail: store.Mail, tried: "_Try") -> None:
        delay = (SERVER if tried.server_failed else MAILBOX).after(mail.attempts)
        error = "; ".join(tried.errors) or None
        async with self._pool.acquire() as connection, connection.transaction():
            await store.settle_mail(
                connection,
                mail.id,
                accepted=tried.accepted,
                refused=tried.refused,
                error=error,
                delay=delay,
                now=self._clock.override(),
            )
        self._report(mail, tried, error=error, delay=delay)

    def _report(self, mail: store.Mail, tried: "_Try", *, error: str | None, delay: float) -> None:
        postponed = len(mail.waiting) - len(tried.accepted) - len(tried.refused)
        log = logger.bind(mail=str(mail.id), kind=mail.kind, endpoint=str(mail.endpoint_id), attempt=mail.attempts + 1)
        if tried.accepted:
            log.info("mail.sent", recipients=len(tried.accepted), notices=mail.notices)
        if tried.refused:
            log.error("mail.refused", recipients=len(tried.refused), error=error)
        if postponed:
            log.warning("mail.postponed", recipients=postponed, error=error, seconds=delay)
        if self._metrics is not None:
            for result, count in (
                ("sent", len(tried.accepted)),
                ("refused", len(tried.refused)),
                ("postponed", postponed),
            ):
                for _ in range(count):
                    self._metrics.mails(result)


@dataclass(slots=True)
class _Claim:
    """Mails that nobody else sends; `renewed_at` is by the monotonic clock."""

    mails: list[UUID]
    renewed_at: float


@dataclass(slots=True)
class _Try:
    """What came of trying to send one mail."""

    accepted: list[str]
    refused: list[str]
    errors: list[str]
    server_failed: bool = False


@dataclass(frozen=True, slots=True)
class Letter:
    """What a mail says."""

    subject: str
    text: str
    html: str


def render(folded: store.Folded, *, digest_every: float, where_to_look: str | None) -> Letter:
    """Put into words what was folded; no payload, no secret, no query string, no userinfo comes in here."""
    group = folded.group
    url = plain(shown_url(group.url), URL_LIMIT)
    headline = _headline(folded, "an endpoint")
    values = {
        "folded": folded,
        "last": folded.newest[0],
        "headline": headline[0].upper() + headline[1:],
        "intro": _intro(folded, url),
        "url": url,
        "description": plain(group.description or "", URL_LIMIT),
        "tenant": plain(group.tenant, URL_LIMIT),
        "endpoint_id": group.endpoint_id,
        "more_types": folded.type_count - len(folded.types),
        "list_title": _list_title(folded),
        "disabled_at": group.disabled_at or folded.last_at,
        "died": None if folded.deliveries is None else _capped(folded.deliveries),
        "where_to_look": None
        if where_to_look is None
        else f"{where_to_look.rstrip('/')}/endpoints/{group.endpoint_id}",
        "digest_every": format_duration(digest_every),
    }
    templates = _templates()
    return Letter(
        subject=f"[dispatcher] {_headline(folded, plain(url, SUBJECT_URL_LIMIT))}",
        text=templates.get_template(f"mail/{group.kind}.txt").render(values),
        html=templates.get_template(f"mail/{group.kind}.html").render(values),
    )


def shown_url(url: str) -> str:
    """Return a URL without what may be secret in it: userinfo, query string and fragment."""
    try:
        parts = urlsplit(url)
    except ValueError:  # one bad row must not hold up everybody's mails
        return "an unreadable URL"
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _headline(folded: store.Folded, endpoint: str) -> str:
    match folded.group.kind:
        case NoticeKind.DELIVERIES_DEAD:
            return f"{_deliveries(folded.count)} to {endpoint} {_were(folded.count)} given up"
        case NoticeKind.ENDPOINT_FAILING:
            deadline = folded.newest[0].deadline
            return f"{endpoint} is failing" + (f" and will be disabled on {_date(deadline)}" if deadline else "")
        case NoticeKind.ENDPOINT_DISABLED:
            return f"{endpoint} was disabled"
        case NoticeKind.ENDPOINT_RECOVERED:
            return f"{endpoint} works again"
        case _:
            assert_never(folded.group.kind)


def _intro(folded: store.Folded, url: str) -> str:
    last = folded.newest[0]
    match folded.group.kind:
        case NoticeKind.DELIVERIES_DEAD if folded.count == 1:
            return f"A delivery to {url} was given up, because {_because(last)}. It is not tried again by itself."
        case NoticeKind.DELIVERIES_DEAD:
            return (
                f"{_deliveries(folded.count)} to {url} were given up between {_instant(folded.first_at)} and "
                f"{_instant(folded.last_at)}. They are not tried again by themselves."
            )
        case NoticeKind.ENDPOINT_FAILING:
            since = f" since {_instant(last.first_attempt_at)}" if last.first_attempt_at else ""
            then = (
                f" If none succeeds before {_instant(last.deadline)}, the endpoint will be disabled then,"
                if last.deadline
                else ""
            )
            return f"Every attempt to deliver to {url}{since} has failed.{then}" + (
                " and deliveries that are still pending will be given up." if then else ""
            )
        case NoticeKind.ENDPOINT_DISABLED:
            return f"No event is delivered to {url} any more{_why(last)}.{_fate(folded.deliveries)}"
        case NoticeKind.ENDPOINT_RECOVERED:
            return f"A delivery to {url} succeeded. It is no longer about to be disabled."
        case _:
            assert_never(folded.group.kind)


def _why(notice: store.Notice) -> str:
    return f", because {_because(notice)}" if notice.reason else ""


def _fate(deliveries: int | None) -> str:
    if not deliveries:
        return ""
    return (
        f" {_capped(deliveries)} pending {'delivery was' if deliveries == 1 else 'deliveries were'} given up with it."
    )


def _list_title(folded: store.Folded) -> str:
    if folded.count == 1:
        return "The delivery"
    if folded.count <= len(folded.newest):
        return f"The {folded.count:,} deliveries, the latest first"
    return f"The latest {len(folded.newest):,} of {folded.count:,} deliveries"


_BECAUSE: Final = {
    DeathReason.EXHAUSTED: "every attempt of its schedule failed",
    DeathReason.EXPIRED: "its event expired before it could be delivered",
    DeathReason.UNAVAILABLE: "the endpoint could not be reached for as long as the whole schedule takes",
    DeathReason.GONE: "the endpoint answered that it is gone for good",
    DeathReason.ABORTED: "the endpoint answered that it does not want this message",
    DeathReason.ENDPOINT_DISABLED: "the endpoint was disabled",
}


def _because(notice: store.Notice) -> str:
    reason = notice.reason or "no reason is known"
    return _BECAUSE[DeathReason(reason)] if reason in set(DeathReason) else reason.rstrip(".")


def _result(notice: store.Notice) -> str:
    """Say how the last attempt ended; nothing if that is not known."""
    answered = "" if notice.status is None else f"HTTP {notice.status} {_phrase(notice.status)}".rstrip()
    return ": ".join(part for part in (answered, notice.error) if part)


def _phrase(status: int) -> str:
    return HTTPStatus(status).phrase if status in set(HTTPStatus) else ""


def _tries(notice: store.Notice) -> str:
    if not notice.attempts:
        return "none"
    first, last = notice.first_attempt_at, notice.last_attempt_at
    if first is None or last is None:
        return f"{notice.attempts:,}"
    if notice.attempts == 1 or first == last:
        return f"{notice.attempts:,}, on {_instant(last)}"
    return f"{notice.attempts:,}, from {_instant(first)} to {_instant(last)}"


def _deliveries(count: int) -> str:
    return f"{count:,} {'delivery' if count == 1 else 'deliveries'}"


def _were(count: int) -> str:
    return "was" if count == 1 else "were"


def _capped(count: int) -> str:
    return f"{count:,}" if count < store.COUNT_LIMIT else f"{store.COUNT_LIMIT:,} or more"


def _date(instant: datetime) -> str:
    moment = instant.astimezone(UTC)
    return f"{moment.day} {moment:%B %Y}"


def _instant(instant: datetime) -> str:
    return f"{_date(instant)}, {instant.astimezone(UTC):%H:%M:%S} UTC"


@cache
def _templates() -> Environment:
    environment = Environment(
        loader=PackageLoader("dispatcher"),
        autoescape=select_autoescape(["html"], default=False),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(
        instant=_instant,
        number=lambda count: f"{count:,}",
        because=_because,
        result=_result,
        tries=_tries,
        wrapped=lambda text: textwrap.fill(text, 76, break_long_words=False, break_on_hyphens=False),
    )
    return environment
