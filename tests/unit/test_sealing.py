"""Secrets at rest."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.errors import ConfigError
from dispatcher.sealing import Sealer, new_key, parse_key

OLD, NEW = f"old:{base64.b64encode(b'o' * 32).decode()}", f"new:{base64.b64encode(b'n' * 32).decode()}"


@given(st.text())
def test_what_is_sealed_opens_again(plain: str) -> None:
    """Any text comes back as it was, and is not to be found in what is stored."""
    sealer = Sealer([NEW])

    sealed = sealer.seal(plain)

    assert sealer.open(sealed.data, sealed.key) == plain
    assert len(sealed.data) == 12 + len(plain.encode()) + 16


def test_the_same_secret_is_sealed_differently_each_time() -> None:
    """Nobody can tell from what is stored that two endpoints share a secret."""
    sealer = Sealer([NEW])

    assert sealer.seal("whsec_x").data != sealer.seal("whsec_x").data


def test_the_first_key_seals_and_all_open() -> None:
    """Main keys are changed by putting a new one in front."""
    sealed = Sealer([OLD]).seal("whsec_x")
    both = Sealer([NEW, OLD])

    assert both.open(sealed.data, sealed.key) == "whsec_x"
    assert (both.current, both.seal("whsec_x").key) == ("new", "new")


def test_without_keys_secrets_are_stored_plain() -> None:
    """So it is said by a null key, and a sealer with keys reads them."""
    sealed = Sealer().seal("whsec_x")

    assert (sealed.data, sealed.key, Sealer().current) == (b"whsec_x", None, None)
    assert Sealer([NEW]).open(sealed.data, sealed.key) == "whsec_x"


def test_a_missing_key_is_named() -> None:
    """The message says which one has to come back."""
    sealed = Sealer([OLD]).seal("whsec_x")

    with pytest.raises(ConfigError, match=r"main key `old`, which is not configured .*`new`"):
        Sealer([NEW]).open(sealed.data, sealed.key)


@pytest.mark.parametrize("position", [0, 12, -1], ids=["nonce", "ciphertext", "tag"])
def test_a_changed_byte_is_noticed(position: int) -> None:
    """What was tampered with does not open."""
    sealed = Sealer([NEW]).seal("whsec_x")
    data = bytearray(sealed.data)
    data[position] ^= 1

    with pytest.raises(ConfigError, match="does not open"):
        Sealer([NEW]).open(bytes(data), sealed.key)


def test_a_secret_does_not_open_under_another_keys_id() -> None:
    """The id is authenticated: renaming a key in the database or the configuration is noticed."""
    sealed = Sealer([OLD]).seal("whsec_x")
    renamed = OLD.replace("old:", "new:")

    with pytest.raises(ConfigError, match="does not open"):
        Sealer([renamed]).open(sealed.data, "new")


def test_a_new_key_can_be_used_at_once() -> None:
    """Its id is its own, its key has 32 bytes."""
    first, second = new_key(), new_key()

    assert len(parse_key(first)[1]) == 32
    assert Sealer([first, second]).current == parse_key(first)[0]


@pytest.mark.parametrize(
    "text",
    ["swordfish", ":c3dvcmRmaXNo", "id:swordfish!", "id:c3dvcmRmaXNo", "a b:c3dvcmRmaXNo"],
    ids=["no id", "empty id", "no base64", "short", "blank in the id"],
)
def test_a_bad_key_is_refused_without_being_shown(text: str) -> None:
    """The message says how to write one."""
    with pytest.raises(ConfigError, match="id:base64 of 32 random bytes") as refused:
        Sealer([text])

    assert "swordfish" not in str(refused.value)
    assert "c3dvcmRmaXNo" not in str(refused.value)


def test_an_id_is_given_once() -> None:
    """Two keys of one id could not be told apart."""
    with pytest.raises(ConfigError, match="two keys have the id `old`"):
        Sealer([OLD, OLD])
