"""Payload formats and signing profiles: those that come with the service, and those that operators put in."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from types import MappingProxyType
from typing import Any, Final
from uuid import UUID

import orjson

from dispatcher import payload
from dispatcher.admin import checks
from dispatcher.admin.base import Base, shortened
from dispatcher.admin.inputs import UNSET, Unset
from dispatcher.catalog.reading import EventType
from dispatcher.doorkeeper import Mode
from dispatcher.errors import Conflict, InvalidInput, NotFound
from dispatcher.formats import definition as formats
from dispatcher.formats.parts import FormatFailed
from dispatcher.formats.shipped import shipped as shipped_formats
from dispatcher.formats.writing import compile_format
from dispatcher.model import Event, EventId
from dispatcher.presets import preset as preset_of
from dispatcher.profiles import declared, known
from dispatcher.store import definitions as store
from dispatcher.store import endpoints as endpoint_store
from dispatcher.store.endpoints import EndpointSettings
from dispatcher.store.tenants import Tenant

_CODED: Final[Mapping[str, str]] = MappingProxyType(
    {
        "standard": 'Standard Webhooks: {"type", "timestamp", "data"}.',
        "raw": "The payload's own bytes.",
        "cloudevents": "CloudEvents 1.0 in structured mode, application/cloudevents+json.",
        "without-standard": "Leaves out the Standard Webhooks headers, which all others come beside.",
        "v1a": "An ed25519 signature in webhook-signature, beside the shared secret's.",
        "healthie": "Healthie: Content-Digest, Signature-Input, Signature. Its digest can be chosen: healthie:base64-nopad, "
        "healthie:hex.",
        "rfc9421": "HTTP Message Signatures (RFC 9421), hmac-sha256, over a Content-Digest (RFC 9530).",
    }
)
CONSENT_HEADER: Final = "WebHook-Request-Origin"
"""Of CloudEvents' handshake: who consented sees it in every delivery."""

_SIGNATURES = "Standard Webhooks: webhook-id, webhook-timestamp, webhook-signature."


@dataclass(frozen=True, slots=True, kw_only=True)
class DefinitionRow:
    """A payload format or a signing profile, as people see it."""

    name: str
    """Of a format that is a definition, its name and version: `vsee/2.0`."""
    description: str | None
    built_in: bool
    """It comes with the service."""
    deprecated: date | None = None
    webhooks: int | None = None
    """How many are pinned to it; null where nobody counted."""
    definition: Mapping[str, Any] | None = None
    """Null where it is code."""
    created_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Definitions:
    """What a webhook's settings name and the database keeps, as JSON."""

    format: str | None
    """Null: it comes with the service."""
    profiles: Mapping[str, str]


class DefinitionsAdmin(Base):
    """Put in, list and drop payload formats and signing profiles; say which a tenant's new webhooks get."""

    async def put_format(self, definition: formats.Definition, *, replacing: bool = False) -> DefinitionRow:
        """Put a payload format in; every worker uses it at once.

        One that webhooks are pinned to is never changed under them, unless `replacing` says so: put a new version.
        Where the catalogue has an example of a payload, it is tried on that.
        """
        name, written = definition.full_name, formats.written(definition)
        if payload.is_built_in(name) or payload.is_built_in(definition.name):
            raise Conflict(
                f"The payload format `{name}` comes with the service. Choose another name or version.", field="name"
            )
        async with self._transaction() as connection:
            await self._try(connection, definition)
            await store.lock(connection)
            before = await store.formats(connection, [name])
            if before and before[0].definition != written:
                users = await store.users_of_format(connection, name)
                if users and not replacing:
                    raise Conflict(
                        f"{len(users)} webhooks are pinned to `{name}`, whose receivers rely on it. Put a new version beside "
                        "it, or replace it if you are sure.",
                        field="version",
                    )
                await endpoint_store.touch(connection, users)
            await store.put_format(connection, name, written, deprecated=definition.deprecated, now=self._now())
            return await self._format_row(connection, name)

    async def _try(self, connection: Any, definition: formats.Definition) -> None:
        """Write the examples of the catalogue by a format; raises InvalidInput, naming event type and field."""
        catalog = await self._doorkeeper.catalog(connection)
        written = compile_format(definition)
        _try_on([one for one in catalog.event_types if _describes(one, definition)], written.body)

    async def deprecate_format(self, name: str, day: date | None) -> DefinitionRow:
        """Say from which day on nobody should use a payload format any more; it goes on working. Null: take it back."""
        async with self._transaction() as connection:
            if payload.is_built_in(name):
                await store.deprecate_shipped(connection, name, deprecated=day)
            elif not await store.deprecate_format(connection, name, deprecated=day, now=self._now()):
                raise await self._no_format(connection, name)
            return await self._format_row(connection, name)

    async def drop_format(self, name: str) -> None:
        """Forget a payload format that no webhook is pinned to."""
        async with self._transaction() as connection:
            await store.lock(connection)
            if users := await store.users_of_format(connection, name):
                raise Conflict(f"{len(users)} webhooks are pinned to `{name}`. Move them first.", field="name")
            if payload.is_built_in(name):
                raise Conflict(f"The payload format `{name}` comes with the service, and stays.", field="name")
            if not await store.drop_format(connection, name):
                raise await self._no_format(connection, name)

    async def list_formats(self) -> list[DefinitionRow]:
        """Return all payload formats: those that come with the service first."""
        async with self._reading() as connection:
            counts = await store.format_counts(connection)
            stored = [_of_stored_format(row) for row in await store.formats(connection)]
            deprecated = await store.shipped_deprecations(connection)
        shipped = [
            replace(_of_built_in_format(name), deprecated=deprecated.get(name)) for name in payload.built_in_names()
        ]
        rows = [*shipped, *stored]
        return [replace(row, webhooks=counts.get(row.name, 0)) for row in rows]

    async def payload_format(self, name: str) -> DefinitionRow:
        """Return a payload format with its definition."""
        async with self._reading() as connection:
            row = await self._format_row(connection, name)
            counts = await store.format_counts(connection)
        return replace(row, webhooks=counts.get(row.name, 0))

    async def put_profile(self, definition: declared.ProfileDefinition, *, replacing: bool = False) -> DefinitionRow:
        """Put a signing profile in; one that webhooks sign by is changed only if `replacing` says so."""
        name, written = definition.name, declared.written(definition)
        if known.is_built_in(name):
            raise Conflict(f"The signing profile `{name}` comes with the service. Choose another name.", field="name")
        async with self._transaction() as connection:
            await store.lock(connection)
            before = await store.profiles(connection, [name])
            if before and before[0].definition != written:
                users = await store.users_of_profile(connection, name)
                if users and not replacing:
                    raise Conflict(
                        f"{len(users)} webhooks sign by `{name}`, whose receivers rely on it. Put one of another name beside "
                        "it, or replace it if you are sure.",
                        field="name",
                    )
                await endpoint_store.touch(connection, users)
            await store.put_profile(connection, name, written, now=self._now())
            return await self._profile_row(connection, name)

    async def drop_profile(self, name: str) -> None:
        """Forget a signing profile that no webhook signs by."""
        async with self._transaction() as connection:
            await store.lock(connection)
            if users := await store.users_of_profile(connection, name):
                raise Conflict(f"{len(users)} webhooks sign by `{name}`. Change them first.", field="name")
            if not await store.drop_profile(connection, name):
                raise NotFound(f"There is no signing profile `{shortened(name)}` that was put in.")

    async def list_profiles(self) -> list[DefinitionRow]:
        """Return all signing profiles: those that come with the service first."""
        async with self._reading() as connection:
            stored = [_of_stored_profile(row) for row in await store.profiles(connection)]
        return [*(_of_built_in_profile(name) for name in known.built_in_names()), *stored]

    async def signing_profile(self, name: str) -> DefinitionRow:
        """Return a signing profile with its definition."""
        async with self._reading() as connection:
            return await self._profile_row(connection, name)

    async def set_defaults(
        self,
        tenant: str,
        *,
        payload_format: str | Unset | None = UNSET,
        preset: str | Unset | None = UNSET,
    ) -> Tenant:
        """Say what a tenant's new webhooks get that choose none; null: what the nearest tenant above has."""
        async with self._transaction() as connection:
            found = await self._tenant(connection, tenant)
            if not isinstance(payload_format, Unset):
                if payload_format is not None:
                    await store.lock(connection, shared=True)
                    await self._check_format(connection, payload_format)
                found = replace(found, payload_format=payload_format)
            if not isinstance(preset, Unset):
                if preset is not None:
                    preset_of(preset)
                found = replace(found, preset=preset)
            await store.set_defaults(connection, tenant, store.DefaultSettings(found.payload_format, found.preset))
            return found

    # for webhooks

    async def _fit(self, connection: Any, settings: EndpointSettings, secrets: Sequence[str]) -> None:
        """Refuse settings whose format or profiles are not there, or do not go together.

        Those that are stay there until the end of the transaction.
        """
        await store.lock(connection, shared=True)
        definitions = await self._definitions(connection, settings)
        own = [name for name in settings.headers if name.lower() != CONSENT_HEADER.lower()]
        known.check(settings.signing_profiles, secrets, own, definitions.profiles)

    async def _try_subscribed(self, connection: Any, settings: EndpointSettings) -> None:
        """Write the catalogue's examples of what a webhook is subscribed to; raises InvalidInput for what cannot be.

        Else each event of that type would fail until it dies. Not with the catalogue's mode off, in which it binds nobody.
        """
        if self._doorkeeper.mode is Mode.OFF or settings.payload_format in payload.FORMATS:
            return
        definitions = await self._definitions(connection, settings)
        body = payload.resolve(settings.payload_format, definitions.format).body
        catalog = await self._doorkeeper.catalog(connection)
        matched = {one.name: one for pattern in settings.subscriptions for one in catalog.matching(pattern)}
        _try_on(matched.values(), body)

    async def _definitions(self, connection: Any, settings: EndpointSettings) -> Definitions:
        """Return what settings name; raises InvalidInput for a format that is not there."""
        name = settings.payload_format
        stored = [] if payload.is_built_in(name) else await store.formats(connection, [name])
        if not stored and not payload.is_built_in(name):
            raise await self._no_format(connection, name)
        profiles = await store.profiles(connection, settings.signing_profiles)
        return Definitions(
            stored[0].definition if stored else None, {row.full_name: row.definition for row in profiles}
        )

    async def _default_format(self, connection: Any, tenant: str) -> str:
        return (await store.defaults(connection, tenant)).payload_format or checks.DEFAULT_FORMAT

    async def _check_format(self, connection: Any, name: str) -> None:
        if not payload.is_built_in(name) and not await store.formats(connection, [name]):
            raise await self._no_format(connection, name)

    async def _no_format(self, connection: Any, name: str) -> InvalidInput:
        return payload.unknown(shortened(name), tuple(row.full_name for row in await store.formats(connection)))

    async def _format_row(self, connection: Any, name: str) -> DefinitionRow:
        if payload.is_built_in(name):
            deprecated = await store.shipped_deprecations(connection)
            return replace(_of_built_in_format(name), deprecated=deprecated.get(name))
        found = await store.formats(connection, [name])
        if not found:
            raise await self._no_format(connection, name)
        return _of_stored_format(found[0])

    async def _profile_row(self, connection: Any, name: str) -> DefinitionRow:
        if known.is_built_in(name):
            return _of_built_in_profile(name)
        found = await store.profiles(connection, [name])
        if not found:
            raise NotFound(f"There is no signing profile `{shortened(name)}`. `dispatcher profile list` shows all.")
        return _of_stored_profile(found[0])


def _describes(event_type: EventType, definition: formats.Definition) -> bool:
    """Whether the catalogue has a body of an event type in this format."""
    return any(message.payload_format == definition.full_name for message in event_type.messages)


def _try_on(event_types: Iterable[EventType], body: Callable[[Event], bytes]) -> None:
    """Write the examples of event types by a format; raises InvalidInput, naming event type and field."""
    for event_type in event_types:
        for example in () if event_type.payload is None else event_type.payload.examples:
            try:
                body(_example(event_type.name, example.value))
            except FormatFailed as failure:
                raise InvalidInput(
                    f"{failure} It is the catalogue's example of `{event_type.name}`.", field=formats.FIELD
                ) from None


def _example(event_type: str, value: Any) -> Event:
    return Event(EventId(UUID(int=0)), "acme", event_type, orjson.dumps(value).decode(), 0.0, 0.0)


def _parsed(definition: str) -> Mapping[str, Any]:
    parsed: Mapping[str, Any] = orjson.loads(definition)
    return parsed


def _of_built_in_format(name: str) -> DefinitionRow:
    definition = shipped_formats().get(name)
    if definition is None:
        return DefinitionRow(name=name, description=_CODED[name], built_in=True)
    return DefinitionRow(
        name=name,
        description=definition.description,
        built_in=True,
        definition=_parsed(formats.written(definition)),
    )


def _of_stored_format(row: store.Stored) -> DefinitionRow:
    shown = _parsed(row.definition)
    return DefinitionRow(
        name=row.full_name,
        description=shown.get("description"),
        built_in=False,
        deprecated=row.deprecated,
        definition=shown,
        created_at=row.created_at,
    )


def _of_built_in_profile(name: str) -> DefinitionRow:
    definition = known.shipped().get(name)
    if definition is None:
        said = _SIGNATURES if name == known.STANDARD else _CODED[name.partition(":")[0]]
        return DefinitionRow(name=name, description=said, built_in=True)
    return DefinitionRow(
        name=name,
        description=definition.description,
        built_in=True,
        definition=_parsed(declared.written(definition)),
    )


def _of_stored_profile(row: store.Stored) -> DefinitionRow:
    shown = _parsed(row.definition)
    return DefinitionRow(
        name=row.full_name,
        description=shown.get("description"),
        built_in=False,
        definition=shown,
        created_at=row.created_at,
    )
