"""What is counted, and how Prometheus sees it."""

import re

import pytest
from prometheus_client import CollectorRegistry, Histogram, generate_latest

from dispatcher.metrics import Metrics, outcome_kind
from dispatcher.model import (
    Answered,
    Blocked,
    DeathReason,
    DeliveryState,
    NoticeKind,
    Outcome,
    Unreachable,
    UnreachableReason,
)


def answered(status: int) -> Answered:
    """Make an answer."""
    return Answered(status=status, headers=(), body=b"", body_cut=False, seconds=0.1, address=None)


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    """A sample as it is kept."""
    return metrics.registry.get_sample_value(f"dispatcher_{name}", labels)


@pytest.mark.parametrize(
    "outcome, kind",
    [
        pytest.param(answered(204), "answered_2xx", id="2xx"),
        pytest.param(answered(302), "answered_3xx", id="3xx"),
        pytest.param(answered(410), "answered_4xx", id="4xx"),
        pytest.param(answered(503), "answered_5xx", id="5xx"),
        pytest.param(answered(999), "answered_5xx", id="no class of HTTP's"),
        *(
            pytest.param(Unreachable(reason, "", 0.1, None), f"unreachable_{reason.value}", id=reason)
            for reason in UnreachableReason
        ),
        pytest.param(Blocked("", 0.0, None), "blocked", id="blocked"),
    ],
)
def test_every_outcome_has_a_label(outcome: Outcome, kind: str) -> None:
    """Each kind of outcome is counted under its own name, with every verdict."""
    metrics = Metrics()

    for verdict in ("done", "retry", "give_up"):
        metrics.attempted(outcome, verdict, 0.1)

    assert outcome_kind(outcome) == kind
    for verdict in ("done", "retry", "give_up"):
        assert value(metrics, "attempts_total", outcome=kind, verdict=verdict) == 1
    assert value(metrics, "attempt_seconds_count") == 3


def test_what_is_gathered_counts_as_if_it_were_observed_one_by_one() -> None:
    """Bounds belong to the bucket below them, what is beyond the last one counts, and so does the sum."""
    metrics, registry = Metrics(), CollectorRegistry()
    bounds = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15, 30)
    plain = Histogram("dispatcher_attempt_seconds", "As ours.", registry=registry, buckets=bounds)

    for seconds in (0.0, 0.005, 0.0051, 0.3, 30.0, 31.0, 1e9):
        metrics.attempted(answered(204), "done", seconds)
        plain.observe(seconds)

    expected = [line for line in generate_latest(registry).decode().splitlines() if not line.startswith("#")]
    text = metrics.render().decode().splitlines()
    assert [line for line in text if line.startswith("dispatcher_attempt_seconds")] == expected


def test_what_can_happen_is_there_before_it_happens() -> None:
    """A rate over a counter needs its zero: alerts must not miss the first failure."""
    text = Metrics().render().decode()

    for line in (
        'dispatcher_attempts_total{outcome="answered_2xx",verdict="done"} 0.0',
        'dispatcher_attempts_total{outcome="unreachable_timeout",verdict="retry"} 0.0',
        'dispatcher_deliveries_finished_total{reason="exhausted",state="dead"} 0.0',
        'dispatcher_overtaken_rows_total{table="outbox"} 0.0',
        'dispatcher_overtaken_rows_total{table="deliveries"} 0.0',
        'dispatcher_notices_total{kind="endpoint_disabled"} 0.0',
        'dispatcher_events_fanned_out_total{matched="false"} 0.0',
        "dispatcher_lease_losses_total 0.0",
    ):
        assert line in text


def test_endings_are_counted_by_state_and_reason() -> None:
    """Delivered ones have no reason."""
    metrics = Metrics()

    metrics.finished(DeliveryState.DELIVERED, None)
    metrics.finished(DeliveryState.DEAD, DeathReason.EXPIRED, 5)
    metrics.finished(DeliveryState.CANCELLED, None, 2)

    assert value(metrics, "deliveries_finished_total", state="delivered", reason="") == 1
    assert value(metrics, "deliveries_finished_total", state="dead", reason="expired") == 5
    assert value(metrics, "deliveries_finished_total", state="cancelled", reason="") == 2


def test_each_method_moves_its_number() -> None:
    """What happened can be read off afterwards."""
    metrics = Metrics()

    metrics.first_attempted(0.03)
    metrics.recorded(100)
    metrics.fanned_out(matched=3, unmatched=1)
    metrics.overtaken("outbox", 2)
    metrics.due(7, oldest_age=1.5)
    metrics.load(in_flight=1, held=2, lanes=3, sealed=1)
    metrics.shards_owned(256)
    metrics.leases_lost(4)
    metrics.noticed(NoticeKind.DELIVERIES_DEAD, 2)
    metrics.notices("deliveries_dead", 2)
    metrics.mails("sent")
    metrics.oldest_unsent_mail(9.0)
    metrics.database_up(False)

    assert {
        "commit_to_first_attempt_seconds_count": 1.0,
        "record_batch_size_sum": 100.0,
        "deliveries_due": 7.0,
        "oldest_due_age_seconds": 1.5,
        "in_flight": 1.0,
        "held": 2.0,
        "lanes": 3.0,
        "endpoints_sealed": 1.0,
        "shards_owned": 256.0,
        "lease_losses_total": 4.0,
        "oldest_unsent_mail_age_seconds": 9.0,
        "database_up": 0.0,
    }.items() <= {
        sample.name.removeprefix("dispatcher_"): sample.value
        for metric in metrics.registry.collect()
        for sample in metric.samples
    }.items()
    assert value(metrics, "events_fanned_out_total", matched="true") == 3
    assert value(metrics, "overtaken_rows_total", table="outbox") == 2
    assert value(metrics, "notices_total", kind="deliveries_dead") == 2
    assert value(metrics, "notices_folded_total", kind="deliveries_dead") == 2
    assert value(metrics, "mails_total", result="sent") == 1


def test_all_names_have_our_prefix() -> None:
    """Nothing of the process's own creeps in, and no series says when it was created."""
    names = set(re.findall(r"^(\w+)", Metrics().render().decode(), flags=re.MULTILINE))

    assert [name for name in names if not name.startswith("dispatcher_")] == []
    assert [name for name in names if name.endswith("_created")] == []
