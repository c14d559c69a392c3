"""Examine an installation and say, check by check, what is wrong with it and how to mend it; changes nothing.

Judging is pure: facts come from `store.doctor`, settings come in by section. Connecting is the caller's business.
"""

from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import ip_network
from typing import Any

from dispatcher import payload
from dispatcher.clock import Clock
from dispatcher.errors import DatabaseError, DispatcherError, InvalidInput
from dispatcher.profiles import known
from dispatcher.retry import format_duration
from dispatcher.sealing import parse_key
from dispatcher.settings import EgressSettings, SealingSettings, SmtpSettings
from dispatcher.store import doctor as facts
from dispatcher.store import migrate

OLDEST_VERSION, NEWEST_VERSION = 14, 18
"""Major versions of PostgreSQL that the statements are tested on."""

DAYS_AHEAD = 2
"""Today's partition and tomorrow's must be there: maintenance runs more than once a day, so less means that it does not."""

LATE = 60.0
"""Seconds. What is due goes out within a second on a healthy service; a minute is no hiccup any more."""

MAIL_LATE = 900.0
"""Seconds. A mail server's greylisting delays by minutes; a quarter of an hour is a fault."""

LONG_TRANSACTION = 300.0
"""Seconds a transaction may keep vacuum from cleaning the hot tables before that is worth a word."""

MANY_TRANSACTIONS = 1_000_000
"""The same, counted in transactions, where this role may not see when the other one began."""

MUCH_WAL = 1 << 30
"""Bytes that an inactive slot may hold: a gigabyte a connector's restart explains, more fills a disk."""

CLOCK_OFF, CLOCK_WRONG = 5.0, 60.0
"""Seconds between this machine's clock and the database's. Receivers accept 300 s either way; a minute eats into that."""

SMTP_SECONDS = 5.0
"""For the greeting; RFC 5321 allows five minutes, a working server takes less than a second."""

DANGEROUS = tuple(map(ip_network, ("127.0.0.0/8", "::1/128", "169.254.0.0/16", "fe80::/10", "168.63.129.16/32")))
"""This machine itself, and the addresses where clouds keep credentials."""


class Level(StrEnum):
    """How bad a finding is."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at."""

    name: str
    level: Level
    finding: str
    mend: str | None = None
    """What to do; null when all is well."""


def ok(name: str, finding: str) -> Check:
    """All is well."""
    return Check(name, Level.OK, finding)


def warn(name: str, finding: str, mend: str) -> Check:
    """It works, but somebody should know."""
    return Check(name, Level.WARN, finding, mend)


def fail(name: str, finding: str, mend: str) -> Check:
    """It does not work."""
    return Check(name, Level.FAIL, finding, mend)


async def examine_database(connection: Any, *, sealing: SealingSettings, clock: Clock) -> AsyncIterator[Check]:
    """Look at everything that one connection can tell, the basic things first; stop where the rest would be noise."""
    began = clock.now()
    server = await facts.read_server(connection)
    # The answer was written halfway between question and arrival, as far as can be known.
    here = (began + clock.now()) / 2
    yield judge_version(server)
    yield judge_clock(server.now - here)
    for check in judge_horizon(await facts.read_horizon(connection)):
        yield check
    try:
        await migrate.check(connection)
    except DatabaseError as error:
        yield refused("schema", error)
        return
    yield ok("schema", "up to date")
    rights = await facts.read_rights(connection)
    yield judge_rights(rights, role=server.role)
    if rights.may_use and not rights.closed:
        for check in judge_work(await facts.read_work(connection), sealing=sealing):
            yield check


def judge_version(server: facts.Server) -> Check:
    """Is it a PostgreSQL that the statements were tested on, and one that can be written to?"""
    name, finding = "postgres", f"PostgreSQL {server.version}, as role {server.role}"
    if server.standby:
        return fail(name, f"{finding}, a standby that takes no writes", "Let `[database] url` lead to the primary.")
    if server.version < OLDEST_VERSION:
        return fail(name, finding, f"Upgrade the server to PostgreSQL {OLDEST_VERSION} or newer.")
    if server.version > NEWEST_VERSION:
        return warn(name, finding, f"Newer than what this release was tested on ({NEWEST_VERSION}); try an update.")
    return ok(name, finding)


def judge_clock(difference: float) -> Check:
    """Do the clocks agree? `difference`, seconds: how far the database's is ahead."""
    direction = "ahead of" if difference > 0 else "behind"
    finding = f"the database's clock is {abs(difference):.1f} s {direction} this machine's"
    mend = (
        "Run NTP on both. Timestamps of requests follow the database's clock, and receivers refuse them beyond 300 s."
    )
    if abs(difference) > CLOCK_WRONG:
        return fail("clock", finding, mend)
    if abs(difference) > CLOCK_OFF:
        return warn("clock", finding, mend)
    return ok("clock", "this machine's and the database's agree")


def judge_rights(rights: facts.Rights, *, role: str) -> Check:
    """May the service's role do what the service does?"""
    name = "rights"
    owner = f"Let the role that ran `dispatcher migrate` be the service's, or grant its membership to {role}."
    if not rights.may_use:
        return fail(name, f"{role} may not use the schema dispatcher", owner)
    if rights.closed:
        return fail(name, f"{role} may not read and write {', '.join(rights.closed)}", owner)
    if rights.foreign_owned or not rights.may_create:
        return fail(name, f"{role} may not create and drop daily partitions", owner)
    return ok(name, f"{role} may do all that the service does")


def judge_work(work: facts.Work, *, sealing: SealingSettings) -> Iterator[Check]:
    """Is what should happen happening?"""
    yield _judge_producer(work)
    yield _judge_partitions(work)
    yield _judge_default_partitions(work)
    yield _judge_workers(work)
    yield _judge_unread(work.unread)
    yield _judge_backlog(work.oldest_due)
    yield _judge_mails(work.mails)
    yield judge_sealing(sealing, work.sealing_keys)
    yield _judge_formats(work.formats)
    yield _judge_profiles(work.profiles)


def _judge_producer(work: facts.Work) -> Check:
    name = "producer role"
    if not work.producer_present:
        return warn(
            name,
            "dispatcher_producer does not exist: the migrating role may not create roles",
            "As a role that may: `create role dispatcher_producer nologin`, then grant it usage on the schema and insert "
            "on dispatcher.outbox, as migrations/0006_create_roles.sql does.",
        )
    if not work.producer_may_insert:
        return warn(
            name,
            "dispatcher_producer may not insert into dispatcher.outbox",
            "Grant it usage on the schema and insert on the outbox, as migrations/0006_create_roles.sql does.",
        )
    return ok(name, "dispatcher_producer may insert into the outbox")


def _judge_partitions(work: facts.Work) -> Check:
    name, days = "partitions", min(work.partition_days.values(), default=0)
    short = sorted(parent for parent, made in work.partition_days.items() if made < DAYS_AHEAD)
    mend = "`dispatcher serve` makes them: start it, or look for errors of maintenance in its log."
    if days == 0:
        return fail(name, f"today has no partition in {', '.join(short)}", mend)
    if short:
        return warn(name, f"tomorrow has no partition in {', '.join(short)}", mend)
    return ok(name, f"made for {days} days, today included")


def _judge_default_partitions(work: facts.Work) -> Check:
    name = "default partitions"
    if work.default_partitions:
        return warn(
            name,
            f"rows of days without a partition in {', '.join(work.default_partitions)}",
            "Nothing is lost; they move when their day's partition is made. Let `dispatcher serve` run all the time, "
            "and check the clock.",
        )
    return ok(name, "empty")


def _judge_workers(work: facts.Work) -> Check:
    name = "workers"
    finding = f"{work.workers} alive, {work.shards_owned} of {work.shards} shards owned"
    if work.workers == 0:
        return fail(name, "none is alive: nothing is delivered", "Start `dispatcher serve`.")
    if work.shards_owned < work.shards:
        return warn(name, finding, "Right after a start or a stop that passes within seconds; else look into the log.")
    return ok(name, finding)


def _judge_unread(unread: facts.Waiting) -> Check:
    name = "unread events"
    if unread.count == 0:
        return ok(name, "none")
    many = f"at least {unread.count}" if unread.count >= facts.MOST_COUNTED else str(unread.count)
    finding = f"{many}, the oldest for {_span(unread.seconds)}"
    if unread.seconds > LATE:
        return fail(name, finding, "Start `dispatcher serve`, or more workers; look for errors of fan-out in its log.")
    return ok(name, finding)


def _judge_backlog(oldest_due: float | None) -> Check:
    name = "due deliveries"
    if oldest_due is None:
        return ok(name, "none waits for a healthy endpoint")
    finding = f"the oldest for a healthy endpoint has waited for {_span(oldest_due)}"
    if oldest_due > LATE:
        return fail(
            name,
            finding,
            "Start `dispatcher serve`, or more workers. Should one endpoint get more than it takes: its `rateLimit`.",
        )
    return ok(name, finding)


def _judge_mails(mails: facts.Waiting) -> Check:
    name = "mails"
    if mails.count == 0:
        return ok(name, "none waits")
    finding = f"{mails.count} unsent, the oldest for {_span(mails.seconds)}"
    if mails.seconds > MAIL_LATE:
        return warn(name, finding, "Check `[smtp]`; they are tried again until it works.")
    return ok(name, finding)


def judge_sealing(sealing: SealingSettings, used: dict[str | None, int]) -> Check:
    """Are secrets sealed, and can all be opened? `used` counts secrets per main key's id; null: not sealed."""
    name = "sealing"
    known = [parse_key(key.get_secret_value())[0] for key in sealing.keys]
    missing = sorted(key for key in used if key is not None and key not in known)
    if missing:
        return fail(
            name,
            f"secrets are sealed with main keys that are not configured: {', '.join(missing)}",
            "Add them to `[sealing] keys` again, after the one that shall seal from now on.",
        )
    if not known:
        return warn(
            name,
            "endpoint secrets are stored unsealed",
            "Run `dispatcher secret new-key`, and put what it prints into `[sealing] keys`.",
        )
    if used.get(None):
        return warn(
            name,
            f"{used[None]} secrets were stored before there was a main key",
            "Rotate them: `dispatcher webhook rotate-secret`.",
        )
    return ok(name, f"secrets are sealed with {known[0]}")


def _judge_formats(formats: Iterable[facts.InUse]) -> Check:
    """Can the bodies of all webhooks be written, and by formats that should still be used?"""
    name = "payload formats"
    faults: list[str] = []
    over: list[str] = []
    coming: list[str] = []
    for used in formats:
        try:
            payload.resolve(used.name, used.definition)
        except InvalidInput as error:
            faults.append(f"{_counted(used)}: {error}")
        if used.deprecated is not None:
            (over if used.is_over else coming).append(f"{_counted(used)}, deprecated from {used.deprecated} on")
    if faults:
        mend = (
            "`dispatcher format put FILE` puts it in, `dispatcher webhook update ID --payload-format NAME` moves one."
        )
        return fail(name, "; ".join(faults), mend)
    if over:
        mend = "It goes on working. `dispatcher webhook update ID --payload-format NAME` moves one."
        return warn(name, "; ".join(over), mend)
    return ok(name, "; ".join(["all are there", *coming]))


def _judge_profiles(profiles: Iterable[facts.InUse]) -> Check:
    """Can the requests of all webhooks be signed?"""
    name, faults = "signing profiles", []
    for used in profiles:
        definitions = {} if used.definition is None else {used.name: used.definition}
        try:
            known.check_name(used.name, definitions)
        except InvalidInput as error:
            faults.append(f"{_counted(used)}: {error}")
    if faults:
        mend = "`dispatcher profile put FILE` puts it in, `dispatcher webhook update ID --signing-profiles A,B` changes one."
        return fail(name, "; ".join(faults), mend)
    return ok(name, "all are there")


def _counted(used: facts.InUse) -> str:
    return f"{used.name} ({used.webhooks} webhook{'' if used.webhooks == 1 else 's'})"


def judge_horizon(horizon: facts.Horizon) -> Iterator[Check]:
    """Can vacuum clean up, and can WAL be removed?"""
    yield _judge_snapshot(horizon.snapshot)
    yield _judge_prepared(horizon.prepared)
    yield _judge_slots(horizon.slots)


def _judge_snapshot(snapshot: facts.Snapshot | None) -> Check:
    name = "long transactions"
    if snapshot is None:
        return ok(name, "none")
    age = "" if snapshot.seconds is None else f" for {_span(snapshot.seconds)}"
    finding = f"process {snapshot.pid} ({snapshot.application or 'no name'}, {snapshot.state}) holds vacuum back{age}"
    if (snapshot.seconds or 0) > LONG_TRANSACTION or snapshot.transactions > MANY_TRANSACTIONS:
        return warn(
            name,
            f"{finding}, {snapshot.transactions} transactions ago",
            "Dead rows pile up until it ends. Find out what it is (pg_stat_activity); "
            f"`select pg_terminate_backend({snapshot.pid})` ends it, `idle_in_transaction_session_timeout` prevents it.",
        )
    return ok(name, "none that matters")


def _judge_prepared(prepared: facts.Waiting) -> Check:
    name = "prepared transactions"
    if prepared.count == 0:
        return ok(name, "none")
    finding = f"{prepared.count}, the oldest for {_span(prepared.seconds)}, for example {prepared.example}"
    if prepared.seconds > LONG_TRANSACTION:
        return warn(
            name, finding, "They hold vacuum back: `commit prepared` or `rollback prepared` them (pg_prepared_xacts)."
        )
    return ok(name, finding)


def _judge_slots(slots: Iterable[facts.Slot]) -> Check:
    name = "replication slots"
    heavy = [slot for slot in slots if slot.bytes > MUCH_WAL and not slot.active]
    if heavy:
        listed = ", ".join(f"{slot.name} ({slot.bytes >> 20} MiB)" for slot in heavy)
        return warn(
            name,
            f"inactive, and holding WAL: {listed}",
            "The disk fills up: start what reads them, or drop them (`select pg_drop_replication_slot('…')`).",
        )
    return ok(name, "none holds WAL back")


def judge_egress(egress: EgressSettings) -> Check:
    """Do the settings let requests go where they should not?"""
    name = "egress"
    risks = []
    if not egress.https_only:
        risks.append("https_only is off: bodies and signatures can be read on the way")
    for network in egress.allow_subnets:
        opened = [str(n) for n in DANGEROUS if n.version == network.version and network.overlaps(n)]
        if opened:
            risks.append(f"allow_subnets lets every subscriber reach {', '.join(opened)} (by {network})")
    if risks:
        return warn(
            name,
            "; ".join(risks),
            "Right for a trial on one machine. Else turn `[egress] https_only` on, and narrow `[egress] allow_subnets`.",
        )
    return ok(name, "https only, and no dangerous network is open")


async def examine_smtp(smtp: SmtpSettings) -> Check:
    """Does the mail server greet us, with TLS and log-in as configured? Sends no mail."""
    import aiosmtplib

    name = "smtp"
    if smtp.host is None:
        return warn(
            name, "no mail server: nobody is told of dead deliveries", "Set `[smtp] host`, and what belongs to it."
        )
    where = f"{smtp.host}, port {smtp.port}"
    client = aiosmtplib.SMTP(
        hostname=smtp.host,
        port=smtp.port,
        username=smtp.username,
        password=None if smtp.password is None else smtp.password.get_secret_value(),
        use_tls=smtp.tls == "tls",
        start_tls=smtp.tls == "starttls",
        timeout=SMTP_SECONDS,
    )
    try:
        async with client:
            await client.ehlo()
    except (aiosmtplib.SMTPException, OSError) as error:
        cause = str(error) or type(error).__name__
        return fail(
            name,
            f"{where} cannot be used: {cause}",
            "Check `[smtp] host`, `port`, `tls`, `username` and `password`, and that the network lets this machine there.",
        )
    return ok(name, f"{where} answers")


def refused(name: str, error: DispatcherError) -> Check:
    """Turn an error, whose first sentence says what is wrong and the rest how to mend it, into a failed check."""
    finding, _, mend = str(error).partition(". ")
    return fail(name, finding, mend or "See the message.")


def _span(seconds: float) -> str:
    return format_duration(max(0, round(seconds)))
