"""What proves links for tenants and forms."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.admin import ConsoleKey

KEY = ConsoleKey(bytes(32))
OTHER = ConsoleKey(bytes(31) + b"x")
LATER = 2_000_000_000

names = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=255)


@given(names)
def test_a_link_lets_its_tenant_in(tenant: str) -> None:
    """Whatever the name, and however long: base64 ends in many ways."""
    assert KEY.tenant_of(KEY.link_token(tenant, LATER), now=LATER - 1) == tenant


def test_a_link_ends() -> None:
    """At its second it is over."""
    assert KEY.tenant_of(KEY.link_token("acme", LATER), now=LATER) is None


def test_a_link_of_another_key_lets_nobody_in() -> None:
    """Another installation's links are worth nothing here."""
    assert KEY.tenant_of(OTHER.link_token("acme", LATER), now=0) is None


@given(st.data())
def test_no_part_of_a_link_can_be_changed(data: st.DataObject) -> None:
    """Any other character anywhere makes it worthless."""
    token = KEY.link_token("acme", LATER)
    at = data.draw(st.integers(0, len(token) - 1))
    put = data.draw(st.sampled_from("ABCabc019-_."))
    changed = token[:at] + put + token[at + 1 :]

    assert KEY.tenant_of(changed, now=0) == ("acme" if changed == token else None)


def test_what_a_link_says_cannot_be_replaced() -> None:
    """The signature of one tenant's link does not go with another's name or a later end."""
    said, _, signature = KEY.link_token("acme", LATER).partition(".")

    forged = [KEY.link_token(name, end).partition(".")[0] for name, end in (("beta", LATER), ("acme", LATER + 1))]

    assert [KEY.tenant_of(f"{other}.{signature}", now=0) for other in (*forged, said)] == [None, None, "acme"]


@pytest.mark.parametrize(
    "token", ["", ".", "a.b", "ä.ö", "=.=", "\ud800.x", "a" * 10_000, f"{'A' * 43}.{'A' * 43}", "W10.", "\0.\0"]
)
def test_nonsense_lets_nobody_in(token: str) -> None:
    """Nor does it raise."""
    assert KEY.tenant_of(token, now=0) is None


def test_a_token_of_a_form_is_no_link() -> None:
    """Each purpose has a key of its own."""
    said = KEY.link_token("acme", LATER).partition(".")[0]

    assert KEY.tenant_of(f"{said}.{KEY.form_token(said)}", now=0) is None


def test_forms_of_other_sessions_are_told_apart() -> None:
    """A token fits one session alone."""
    assert len({KEY.form_token("a"), KEY.form_token("b"), OTHER.form_token("a"), KEY.form_token("")}) == 4
