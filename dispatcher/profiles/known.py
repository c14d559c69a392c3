"""Finds signing profiles by the names that endpoints list, and says what is wrong with a list."""

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from functools import lru_cache
from importlib import resources
from types import MappingProxyType
from typing import Final

from dispatcher.errors import InvalidInput
from dispatcher.model import Secret
from dispatcher.profiles import healthie, rfc9421
from dispatcher.profiles.declared import FIELD, Declared, ProfileDefinition, key, read, stored
from dispatcher.profiles.message import Profile
from dispatcher.signature import MIN_TEXT, is_standard

STANDARD: Final = "standard"
"""The Standard Webhooks headers: in every list, unless it says otherwise."""
WITHOUT_STANDARD: Final = "without-standard"
"""Leaves them out."""
V1A: Final = "v1a"
"""An ed25519 signature beside the others in `webhook-signature`."""

_FOLDER: Final = "shipped/profiles"
_CODE: Final = ("healthie", "rfc9421")
_STANDARD_HEADERS: Final = ("webhook-id", "webhook-timestamp", "webhook-signature")


@lru_cache(maxsize=1)
def shipped() -> Mapping[str, ProfileDefinition]:
    """Return the definitions that come with the service, by name."""
    folder = resources.files("dispatcher").joinpath(_FOLDER)
    files = sorted((file for file in folder.iterdir() if file.name.endswith(".toml")), key=lambda file: file.name)
    definitions = [read(file.read_text(encoding="utf-8"), source=file.name) for file in files]
    return MappingProxyType({definition.name: definition for definition in definitions})


def built_in_names() -> tuple[str, ...]:
    """Return the names of all profiles that come with the service."""
    return (STANDARD, WITHOUT_STANDARD, V1A, *_CODE, *shipped())


def definition_of(name: str) -> ProfileDefinition | None:
    """Return the definition of a profile that comes with the service; null for one that is code.

    Raises InvalidInput for a name that there is not, or that signs nothing.
    """
    _headers(name, {})
    if name == WITHOUT_STANDARD:
        raise InvalidInput(f"`{name}` signs nothing.", field=FIELD)
    return shipped().get(name)


def is_built_in(name: str) -> bool:
    """Whether a profile comes with the service, so that nobody can put another one of that name."""
    return name.partition(":")[0] in built_in_names()


def put_in_order(names: Iterable[str]) -> tuple[str, ...]:
    """Return a list as it is stored: each name once, the Standard Webhooks headers first unless they are left out.

    Raises InvalidInput for a list that leaves nothing, or that says both.
    """
    given = tuple(dict.fromkeys(names))
    if WITHOUT_STANDARD not in given:
        return (STANDARD, *(name for name in given if name != STANDARD))
    if STANDARD in given or V1A in given:
        raise InvalidInput(f"`{WITHOUT_STANDARD}` leaves out what `{STANDARD}` and `{V1A}` are for.", field=FIELD)
    if len(given) == 1:
        raise InvalidInput(f"`{WITHOUT_STANDARD}` alone leaves no signature. Name another profile.", field=FIELD)
    return given


def check(names: Sequence[str], secrets: Sequence[str], headers: Iterable[str], definitions: Mapping[str, str]) -> None:
    """Refuse a list that cannot be used with these secrets and own headers; `definitions` are the stored ones, JSON.

    Raises InvalidInput: an unknown name, a header that two would set, a secret that a profile cannot read.
    """
    own = {header.lower() for header in headers}
    taken: dict[str, str] = {}
    if WITHOUT_STANDARD not in names:
        taken |= dict.fromkeys(_STANDARD_HEADERS, STANDARD)
    for name in names:
        proving = {header.lower() for header in _proving(name, definitions)}
        for header in _headers(name, definitions):
            other = taken.setdefault(header.lower(), name)
            if other == name and header.lower() in own & proving:
                other = "an own header"
            if other != name:
                raise InvalidInput(
                    f"`{name}` sets the header `{header}`, and so does {other}. Leave one out.", field=FIELD
                )
    for secret in secrets:
        _check_secret(names, secret, definitions)


def check_name(name: str, definitions: Mapping[str, str]) -> None:
    """Raise InvalidInput for a profile that there is not, or whose definition cannot be used."""
    _headers(name, definitions)


def _headers(name: str, definitions: Mapping[str, str]) -> tuple[str, ...]:
    base, _, option = name.partition(":")
    if base == "healthie":
        if option and option not in healthie.FORMS:
            forms = ", ".join(f"`healthie:{form}`" for form in healthie.FORMS)
            raise InvalidInput(f"`{name[:100]}` is none of {forms}.", field=FIELD)
        return healthie.HEADERS
    if option:
        raise InvalidInput(f"The signing profile `{base[:100]}` has nothing to choose. Leave `:…` out.", field=FIELD)
    if base == "rfc9421":
        return rfc9421.HEADERS
    if base in (STANDARD, WITHOUT_STANDARD, V1A):
        return ()
    return tuple(_definition(base, definitions).headers)


def _proving(name: str, definitions: Mapping[str, str]) -> tuple[str, ...]:
    """Return the headers of a profile that an endpoint's own cannot replace."""
    is_declared = name in shipped() or name in definitions
    return _definition(name, definitions).proving if is_declared else _headers(name, definitions)


def _definition(name: str, definitions: Mapping[str, str]) -> ProfileDefinition:
    if name in shipped():
        return shipped()[name]
    if name in definitions:
        return stored(definitions[name])
    names = (*built_in_names(), *definitions)
    near = get_close_matches(name, names, n=1)
    hint = f"Did you mean `{near[0]}`?" if near else f"There are: {', '.join(f'`{one}`' for one in names)}."
    raise InvalidInput(f"There is no signing profile `{name[:100]}`. {hint}", field=FIELD)


def are_standard(names: Iterable[str]) -> bool:
    """Whether nothing signs but Standard Webhooks, so that a secret of another system would be a mistake."""
    return all(name in (STANDARD, WITHOUT_STANDARD, V1A) for name in names)


def _check_secret(names: Sequence[str], secret: str, definitions: Mapping[str, str]) -> None:
    others = [name for name in names if name not in (STANDARD, WITHOUT_STANDARD, V1A)]
    if not is_standard(secret) and not others:
        raise InvalidInput(
            "The secret is none of Standard Webhooks (`whsec_` and base64 of 24 to 64 bytes). A secret of another system "
            f"needs that system's signing profile, one of {', '.join(f'`{name}`' for name in (*_CODE, *shipped()))}.",
            field="secret",
        )
    if len(secret) < MIN_TEXT:
        raise InvalidInput(f"The secret has fewer than {MIN_TEXT} characters.", field="secret")
    for name in others:
        if name.partition(":")[0] not in _CODE:
            key(_definition(name, definitions), secret)


def resolve(
    names: Sequence[str],
    secrets: Sequence[Secret],
    *,
    keyid: str,
    definitions: Mapping[str, str],
    own: Iterable[str] = (),
) -> tuple[Profile, ...]:
    """Return the profiles of an endpoint beside Standard Webhooks, ready to sign; raises InvalidInput.

    `own` are the names of the endpoint's own headers, which stand in the place of what profiles would only tell.
    """
    own = tuple(own)
    found: list[Profile] = []
    for name in names:
        base, _, option = name.partition(":")
        if base in (STANDARD, WITHOUT_STANDARD, V1A):
            continue
        if base == "healthie":
            found.append(healthie.Healthie(secrets, form=option or healthie.FORMS[0]))
        elif base == "rfc9421":
            found.append(rfc9421.Rfc9421(secrets, keyid=keyid, with_id=WITHOUT_STANDARD not in names))
        else:
            found.append(Declared(_definition(base, definitions), secrets, own=own))
    return tuple(found)
