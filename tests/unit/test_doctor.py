"""What the doctor makes of facts; the facts themselves are read in tests/integration/test_cli_doctor.py."""

from dataclasses import replace
from datetime import date
from typing import Any

import pytest

from dispatcher import doctor
from dispatcher.doctor import Level
from dispatcher.errors import DatabaseUnreachable
from dispatcher.sealing import new_key
from dispatcher.settings import EgressSettings, SealingSettings
from dispatcher.store.doctor import Horizon, InUse, Rights, Server, Slot, Snapshot, Waiting, Work

NONE = Waiting(0, 0.0)

WELL = Work(
    producer_present=True,
    producer_may_insert=True,
    partition_days={"outbox": 4, "attempts": 4},
    default_partitions=(),
    workers=2,
    shards_owned=256,
    shards=256,
    oldest_due=None,
    unread=NONE,
    mails=NONE,
    sealing_keys={},
    formats=(InUse("standard", 3), InUse("vsee/2.0", 1)),
    profiles=(InUse("standard", 4), InUse("healthie:hex", 1), InUse("v1a", 1)),
)

BROKEN = '{"name": "ours"}'
COMING, PAST = date(2027, 1, 31), date(2026, 1, 31)

CLEAR = Horizon(snapshot=None, prepared=NONE, slots=())

KEY = new_key(random=bytes)
KEY_ID = KEY.partition(":")[0]
SEALED = SealingSettings(keys=(KEY,))


def test_finds_nothing_wrong_with_a_healthy_service() -> None:
    """Good facts give good checks, without a mend."""
    checks = [*doctor.judge_work(WELL, sealing=SEALED), *doctor.judge_horizon(CLEAR)]

    assert {check.level for check in checks} == {Level.OK}
    assert {check.mend for check in checks} == {None}


@pytest.mark.parametrize(
    "changes, name, level, words",
    [
        pytest.param({"producer_present": False}, "producer role", Level.WARN, "create role", id="no producer"),
        pytest.param(
            {"producer_may_insert": False}, "producer role", Level.WARN, "insert on the outbox", id="no grant"
        ),
        pytest.param(
            {"partition_days": {"outbox": 0}}, "partitions", Level.FAIL, "dispatcher serve", id="no partition"
        ),
        pytest.param({"partition_days": {"outbox": 1}}, "partitions", Level.WARN, "dispatcher serve", id="none ahead"),
        pytest.param(
            {"default_partitions": ("outbox",)}, "default partitions", Level.WARN, "outbox", id="default used"
        ),
        pytest.param({"workers": 0, "shards_owned": 0}, "workers", Level.FAIL, "dispatcher serve", id="no worker"),
        pytest.param({"shards_owned": 200}, "workers", Level.WARN, "200 of 256", id="free shards"),
        pytest.param({"unread": Waiting(9, 90.0)}, "unread events", Level.FAIL, "1m30s", id="unread"),
        pytest.param({"oldest_due": 3600.0}, "due deliveries", Level.FAIL, "1h", id="late"),
        pytest.param({"mails": Waiting(3, 7200.0)}, "mails", Level.WARN, "[smtp]", id="mails"),
        pytest.param({"sealing_keys": {"lost": 3}}, "sealing", Level.FAIL, "lost", id="lost main key"),
        pytest.param({"formats": (InUse("ours/9", 2),)}, "payload formats", Level.FAIL, "ours/9 (2 w", id="no format"),
        pytest.param(
            {"formats": (InUse("ours/9", 2, BROKEN),)}, "payload formats", Level.FAIL, "version: ", id="broken format"
        ),
        pytest.param(
            {"formats": (InUse("vsee/1.0", 1, None, PAST, is_over=True),)},
            "payload formats",
            Level.WARN,
            "vsee/1.0 (1 webhook), deprecated from 2026-01-31 on",
            id="deprecated format",
        ),
        pytest.param({"profiles": (InUse("ours", 1),)}, "signing profiles", Level.FAIL, "ours (1 w", id="no profile"),
        pytest.param(
            {"profiles": (InUse("ours", 1, BROKEN),)}, "signing profiles", Level.FAIL, "content: ", id="broken profile"
        ),
        pytest.param({"sealing_keys": {None: 3}}, "sealing", Level.WARN, "rotate-secret", id="unsealed secrets"),
    ],
)
def test_names_what_is_wrong_with_the_work(changes: dict[str, Any], name: str, level: Level, words: str) -> None:
    """One bad fact makes one bad check, which says what it is and how to mend it."""
    bad = [c for c in doctor.judge_work(replace(WELL, **changes), sealing=SEALED) if c.level is not Level.OK]

    [check] = bad
    assert (check.name, check.level) == (name, level)
    assert words in f"{check.finding} {check.mend}"


def test_counts_waiting_that_is_no_fault_as_well() -> None:
    """A moment's backlog is reported and is fine."""
    later = InUse("vsee/1.0", 1, None, COMING, is_over=False)
    work = replace(WELL, formats=(later,), unread=Waiting(9, 1.0), oldest_due=0.5, mails=Waiting(1, 10.0))

    assert {check.level for check in doctor.judge_work(work, sealing=SEALED)} == {Level.OK}


@pytest.mark.parametrize(
    "horizon, words",
    [
        pytest.param(
            replace(CLEAR, snapshot=Snapshot(17, "pg_dump", "idle in transaction", 4000.0, 5)),
            "pg_terminate_backend(17)",
            id="long transaction",
        ),
        pytest.param(
            replace(CLEAR, snapshot=Snapshot(17, "", "unknown", None, 2_000_000)),
            "process 17 (no name",
            id="hidden one",
        ),
        pytest.param(replace(CLEAR, prepared=Waiting(1, 4000.0, "gid-1")), "gid-1", id="prepared"),
        pytest.param(replace(CLEAR, slots=(Slot("cdc", active=False, bytes=5 << 30),)), "cdc (5120 MiB)", id="slot"),
    ],
)
def test_warns_of_what_holds_vacuum_or_wal_back(horizon: Horizon, words: str) -> None:
    """Old snapshots, prepared transactions and idle slots are named, with the statement that ends them."""
    [check] = [c for c in doctor.judge_horizon(horizon) if c.level is not Level.OK]

    assert check.level is Level.WARN
    assert words in f"{check.finding} {check.mend}"


def test_leaves_short_transactions_and_busy_slots_alone() -> None:
    """What is young, or read by somebody, is no finding."""
    horizon = Horizon(
        Snapshot(17, "app", "active", 2.0, 5), Waiting(1, 1.0, "x"), (Slot("a", active=True, bytes=5 << 30),)
    )

    assert {check.level for check in doctor.judge_horizon(horizon)} == {Level.OK}


@pytest.mark.parametrize(
    "server, level",
    [
        pytest.param(Server("app", 14, standby=False, now=0), Level.OK, id="oldest"),
        pytest.param(Server("app", 18, standby=False, now=0), Level.OK, id="newest"),
        pytest.param(Server("app", 13, standby=False, now=0), Level.FAIL, id="too old"),
        pytest.param(Server("app", 19, standby=False, now=0), Level.WARN, id="untested"),
        pytest.param(Server("app", 17, standby=True, now=0), Level.FAIL, id="standby"),
    ],
)
def test_knows_which_servers_will_do(server: Server, level: Level) -> None:
    """PostgreSQL 14 to 18, a primary."""
    assert level == doctor.judge_version(server).level


@pytest.mark.parametrize("difference, level", [(0.1, Level.OK), (-7.0, Level.WARN), (90.0, Level.FAIL)])
def test_compares_clocks(difference: float, level: Level) -> None:
    """Seconds are worth a word, a minute is a fault, in both directions."""
    assert level == doctor.judge_clock(difference).level


@pytest.mark.parametrize(
    "rights, words",
    [
        pytest.param(Rights(may_use=False, may_create=False, closed=(), foreign_owned=()), "may not use", id="schema"),
        pytest.param(Rights(may_use=True, may_create=True, closed=("outbox",), foreign_owned=()), "outbox", id="table"),
        pytest.param(
            Rights(may_use=True, may_create=True, closed=(), foreign_owned=("outbox",)), "partitions", id="owner"
        ),
    ],
)
def test_names_missing_rights(rights: Rights, words: str) -> None:
    """The finding names the role and what it may not do."""
    check = doctor.judge_rights(rights, role="app")

    assert check.level is Level.FAIL
    assert check.finding.startswith("app ")
    assert words in check.finding


@pytest.mark.parametrize(
    "values, level",
    [
        pytest.param({}, Level.OK, id="defaults"),
        pytest.param({"allow_subnets": ["10.1.0.0/16"]}, Level.OK, id="a private network"),
        pytest.param({"https_only": False}, Level.WARN, id="http"),
        pytest.param({"allow_subnets": ["127.0.0.0/8"]}, Level.WARN, id="loopback"),
        pytest.param({"allow_subnets": ["0.0.0.0/0"]}, Level.WARN, id="everything"),
        pytest.param({"allow_subnets": ["169.254.169.254/32"]}, Level.WARN, id="metadata"),
    ],
)
def test_warns_of_risky_egress(values: dict[str, Any], level: Level) -> None:
    """What lets subscribers reach this machine or a cloud's credentials is named."""
    assert level == doctor.judge_egress(EgressSettings(**values)).level


def test_advises_a_main_key() -> None:
    """Without main keys secrets lie open in the database, which is said with the command that makes one."""
    check = doctor.judge_sealing(SealingSettings(), {})

    assert check.level is Level.WARN
    assert "dispatcher secret new-key" in str(check.mend)


def test_turns_an_error_into_a_check() -> None:
    """The first sentence is the finding, the rest the mend."""
    check = doctor.refused("database", DatabaseUnreachable("No connection to db, port 5432. Start it."))

    assert (check.level, check.finding, check.mend) == (Level.FAIL, "No connection to db, port 5432", "Start it.")
