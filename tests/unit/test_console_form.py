"""What is typed into the form of an endpoint, and the small pictures of how it did."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st
from multidict import MultiDict

from dispatcher.admin import EndpointRow, WebhookChanges
from dispatcher.console.endpoint_form import EMPTY, changes, draft, typed, typed_of
from dispatcher.console.sparkline import HEIGHT, LEAST, WIDTH, sparkline
from dispatcher.model import EndpointId, EndpointState, Shard

lines = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=20)


def row(**settings: Any) -> EndpointRow:
    """An endpoint."""
    return EndpointRow(
        id=EndpointId(UUID(int=1)),
        tenant="acme",
        shard=Shard(1),
        state=EndpointState.ACTIVE,
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        **{"url": "https://example.com/", "subscriptions": ("*",)} | settings,
    )


def sent(form: dict[str, Any]) -> MultiDict[Any]:
    """What a browser sends of it: line ends as CR LF, boxes only if they are ticked."""
    posted: MultiDict[Any] = MultiDict()
    for name, value in form.items():
        if isinstance(value, list):
            posted.extend([(name, one) for one in value])
        elif value is True:
            posted.add(name, "yes")
        elif value is not False:
            posted.add(name, value.replace("\n", "\r\n"))
    return posted


@given(
    subscriptions=st.lists(lines, min_size=1, max_size=4, unique=True).map(tuple),
    description=st.none() | lines,
    headers=st.dictionaries(
        st.from_regex(r"[A-Za-z-]{1,9}", fullmatch=True), st.from_regex(r"[!-~]{1,9}", fullmatch=True)
    ),
    retry_schedule=st.none() | st.lists(st.integers(1, 86400), max_size=4).map(tuple),
    timeout=st.none() | st.sampled_from([0.5, 1.0, 90.0]),
    rate_limit=st.none() | st.sampled_from([0.25, 2.0, 10_000.0]),
    metadata=st.dictionaries(lines, st.integers() | lines | st.booleans(), max_size=3),
    include_descendants=st.booleans(),
    signing_profiles=st.sampled_from([("standard",), ("standard", "github"), ("without-standard", "slack")]),
)
def test_a_form_that_is_sent_as_it_came_changes_nothing(**settings: Any) -> None:
    """Whatever an endpoint has, what stands in its form stands for it."""
    before = typed_of(row(**settings))

    assert changes(before, typed(sent(dict(before)))) == WebhookChanges()


def test_only_what_differs_is_changed() -> None:
    """So what was allowed once is not judged again."""
    before = typed_of(row(description="a", timeout=5.0, headers={"X-A": "1"}))

    made = changes(before, {**before, "description": "", "timeout": "7s"})

    assert made == WebhookChanges(description=None, timeout="7s")


def test_what_is_empty_is_not_given() -> None:
    """Defaults, presets and tenants fill it in."""
    made = draft({**EMPTY, "url": "https://example.com/", "subscriptions": "a.b\r\n\r\n c.d "})

    assert (made.url, list(made.subscriptions), made.payload_format, made.preset) == (
        "https://example.com/",
        ["a.b", "c.d"],
        None,
        None,
    )


def test_one_more_type_is_added() -> None:
    """Fields of one name are taken together."""
    posted = MultiDict([("subscriptions", "a.b\r\nc, d"), ("subscriptions", ""), ("subscriptions", "e")])

    assert list(draft(typed(posted)).subscriptions) == ["a.b", "c, d", "e"]


@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 10**6)), max_size=24))
def test_bars_stay_within_the_picture(counts: list[tuple[int, int]]) -> None:
    """And every failure is seen."""
    drawn = sparkline([ok for ok, _ in counts], [failed for _, failed in counts])

    assert all(bar.x >= 0 and bar.x + bar.width <= WIDTH + 0.1 for bar in drawn.bars)
    assert all(bar.y >= -0.01 and bar.y + bar.height <= HEIGHT + 0.01 for bar in drawn.bars)
    seen = [bar for bar in drawn.bars if bar.kind == "failed"]
    assert len(seen) == sum(failed > 0 for _, failed in counts)
    assert all(bar.height >= LEAST for bar in seen)


def test_a_picture_is_said_in_words() -> None:
    """For who does not see it."""
    assert sparkline([3, 0], [0, 2]).words == "3 succeeded and 2 failed in 24 hours"
    assert sparkline([0], [0]).words == "nothing was sent in 24 hours"
