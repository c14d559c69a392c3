"""Endpoints, which tenants know as webhooks: their settings, states and secrets."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from dispatcher.admin import checks
from dispatcher.admin.definitions import CONSENT_HEADER
from dispatcher.admin.handshake import HandshakesAdmin, Question, verification
from dispatcher.admin.inputs import Unset, WebhookChanges, WebhookDraft
from dispatcher.errors import Conflict, InvalidInput, MainKeyMissing
from dispatcher.model import EndpointId, EndpointState
from dispatcher.operational import disabled
from dispatcher.profiles.known import V1A
from dispatcher.signature import new_private_key, new_secret, public_key_of
from dispatcher.store import definitions as definition_store
from dispatcher.store import deliveries as delivery_store
from dispatcher.store import endpoints as store
from dispatcher.store import operational as operational_store
from dispatcher.store import statistics as statistics_store
from dispatcher.store.endpoints import EndpointRow, EndpointSettings, SecretRow

CANCEL_BATCH = 1000
"""Deliveries cancelled in one transaction when a webhook is archived: tens of milliseconds, whatever the backlog."""

MOST_OLD_SECRETS = 10
"""That sign beside the current one: every one of them makes the signature header longer."""

BY_PERSON = "Disabled by a person."


class EndpointsAdmin(HandshakesAdmin):
    """Create, change and archive webhooks; pause, disable, rotate secrets."""

    async def create_webhook(self, tenant: str, draft: WebhookDraft) -> EndpointRow:
        """Create a webhook; the answer alone holds its `secret`.

        Where the draft names a preset, or else the tenant, it fills in what is not given. Where the draft says so, the
        subscriber is asked first.
        """
        question = Question(verification(draft.verification), refuses_wrong=draft.refuses_wrong_signatures)
        secret = new_secret() if draft.secret is None else draft.secret
        async with self._transaction() as connection:
            settings = await self._admitted(connection, tenant, draft, secret)
        settings = await self._agreed(tenant, settings, [secret], question)
        async with self._transaction() as connection:
            await self._fit(connection, settings, [secret])
            endpoint_id = await store.insert(connection, tenant, settings, now=self._now())
            assert endpoint_id is not None  # tenants are never deleted
            await store.replace_secret(connection, endpoint_id, self._sealer.seal(secret), overlap=0, now=self._now())
            public_key = await self._provide_key(connection, endpoint_id, settings)
            endpoint = await self._endpoint(connection, endpoint_id, tenant)
        # in the order in which they were given: it is an answer to that request
        return replace(endpoint, secret=secret, public_key=public_key, subscriptions=settings.subscriptions)

    async def _admitted(self, connection: Any, tenant: str, draft: WebhookDraft, secret: str) -> EndpointSettings:
        """Check a draft, also against what only the database knows: the tenant, event types, formats and profiles."""
        await self._tenant(connection, tenant)
        defaults = await definition_store.defaults(connection, tenant)
        # what is nearer to this webhook comes first: its fields, its preset, its tenant's format, its tenant's preset
        draft = checks.with_preset(draft)
        draft = replace(
            draft,
            payload_format=draft.payload_format or defaults.payload_format,
            preset=draft.preset or defaults.preset,
        )
        settings = checks.settings_of(checks.with_preset(draft), https_only=self._https_only, policy=self._policy)
        admitted = await self._doorkeeper.admit(connection, settings.subscriptions)
        settings = replace(settings, subscriptions=admitted)
        await self._fit(connection, settings, [secret])
        await self._try_subscribed(connection, settings)
        return settings

    async def _provide_key(self, connection: Any, webhook_id: EndpointId, settings: EndpointSettings) -> str | None:
        """Give a webhook with ed25519 signatures a key of its own, if it has none; returns the public half."""
        if V1A not in settings.signing_profiles:
            return None
        keys = await self._opened(connection, webhook_id, private=True)
        if keys:
            return public_key_of(keys[0].value)
        return await self._replace_key(connection, webhook_id, overlap=0)

    async def _replace_key(self, connection: Any, webhook_id: EndpointId, *, overlap: float) -> str:
        key = new_private_key()
        sealed = self._sealer.seal(key)
        await store.replace_secret(connection, webhook_id, sealed, overlap=overlap, now=self._now(), private=True)
        return public_key_of(key)

    async def list_webhooks(self, tenant: str | None = None, *, include_archived: bool = False) -> list[EndpointRow]:
        """Return a tenant's webhooks, or all, the oldest first."""
        async with self._reading() as connection:
            if tenant is None:
                return await store.every(connection, include_archived=include_archived)
            await self._tenant(connection, tenant)
            return await store.of_tenant(connection, tenant, include_archived=include_archived)

    async def webhook(self, webhook_id: EndpointId, *, tenant: str | None = None) -> EndpointRow:
        """Return a webhook, archived or not."""
        async with self._reading() as connection:
            return await self._endpoint(connection, webhook_id, tenant)

    async def update_webhook(
        self, webhook_id: EndpointId, changes: WebhookChanges, *, tenant: str | None = None
    ) -> EndpointRow:
        """Change some fields. Where the changes say so, the subscriber is asked first, as it would be afterwards."""
        question = Question(verification(changes.verification), refuses_wrong=changes.refuses_wrong_signatures)
        wanted = agreed = None
        if question.is_asked:
            async with self._changing(webhook_id, tenant) as (connection, endpoint):
                wanted = await self._changed(connection, endpoint, changes)
                secrets = await self._shared_secrets(connection, webhook_id)
            agreed = await self._agreed(endpoint.tenant, wanted, secrets, question)
        async with self._changing(webhook_id, tenant) as (connection, endpoint):
            settings = await self._changed(connection, endpoint, changes)
            if settings != wanted and question.is_asked:
                raise Conflict(
                    f"The webhook {webhook_id} was changed while its subscriber was asked. Try it again.", field="id"
                )
            settings = agreed or settings
            if _changes_envelope(changes):
                await self._provide_key(connection, webhook_id, settings)
            await store.update(connection, webhook_id, settings, now=self._now())
            return await self._endpoint(connection, webhook_id, tenant)

    async def _changed(self, connection: Any, endpoint: EndpointRow, changes: WebhookChanges) -> EndpointSettings:
        """Check changes, also against what only the database knows, and return the settings with them made."""
        settings = checks.changed(endpoint, changes, https_only=self._https_only, policy=self._policy)
        if not isinstance(changes.subscriptions, Unset):
            admitted = await self._doorkeeper.admit(connection, settings.subscriptions)
            settings = replace(settings, subscriptions=admitted)
        if changes.payload_format is None:
            settings = replace(settings, payload_format=await self._default_format(connection, endpoint.tenant))
        if CONSENT_HEADER in endpoint.headers:  # whoever consented sees it in every delivery
            consent = {CONSENT_HEADER: endpoint.headers[CONSENT_HEADER]}
            settings = replace(settings, headers={**settings.headers, **consent})
        if _changes_envelope(changes):
            await self._fit(connection, settings, await self._shared_secrets(connection, endpoint.id))
        if not isinstance(changes.subscriptions, Unset) or not isinstance(changes.payload_format, Unset):
            await self._try_subscribed(connection, settings)
        return settings

    async def _shared_secrets(self, connection: Any, webhook_id: EndpointId) -> list[str]:
        """Return the secrets in use, the current one first."""
        return [row.value for row in await self._opened(connection, webhook_id)]

    async def _opened(self, connection: Any, webhook_id: EndpointId, *, private: bool = False) -> list[SecretRow]:
        """Return the secrets in use, or the private keys, the current one first; raises Conflict if they cannot be opened."""
        try:
            return await store.secrets(connection, webhook_id, self._sealer, now=self._now(), private=private)
        except MainKeyMissing as error:
            raise Conflict(
                f"The webhook's secrets are sealed with the main key `{error.key}`, which the service does not have, so that "
                "nothing can open them and its deliveries wait. Whoever runs the service must put the key back; if it is "
                "lost for good, rotate the secret with an overlap of 0, which ends the old ones."
            ) from error

    async def archive_webhook(self, webhook_id: EndpointId, *, tenant: str | None = None) -> EndpointRow:
        """Take a webhook out of use for good; its pending deliveries are cancelled."""
        async with self._transaction() as connection:
            await store.lock(connection, webhook_id)
            endpoint = await self._endpoint(connection, webhook_id, tenant)
            if endpoint.archived_at is None:
                await store.archive(connection, webhook_id, now=self._now())
                endpoint = await self._endpoint(connection, webhook_id, tenant)
        # in batches, each its own transaction; what is in flight or comes yet is left to the endpoint's worker
        while await self._cancel_some(endpoint) == CANCEL_BATCH:
            pass
        return endpoint

    async def _cancel_some(self, endpoint: EndpointRow) -> int:
        ended = delivery_store.Ended(endpoint.shard, endpoint.id, archived=True)
        async with self._transaction() as connection:
            counts = await delivery_store.kill_ended(connection, [ended], limit=CANCEL_BATCH, busy=[], now=self._now())
            count = counts.get(endpoint.id, 0)
            if count:
                await statistics_store.write_cancelled(connection, count, now=self._now())
        return count

    async def pause_webhook(self, webhook_id: EndpointId, *, tenant: str | None = None) -> EndpointRow:
        """Hold deliveries back: events still match and wait. Pausing a paused one changes nothing."""
        return await self._set_state(webhook_id, tenant, EndpointState.PAUSED, unless=EndpointState.DISABLED)

    async def resume_webhook(self, webhook_id: EndpointId, *, tenant: str | None = None) -> EndpointRow:
        """End a pause: what waits is sent. Resuming an active one changes nothing."""
        return await self._set_state(webhook_id, tenant, EndpointState.ACTIVE, unless=EndpointState.DISABLED)

    async def enable_webhook(self, webhook_id: EndpointId, *, tenant: str | None = None) -> EndpointRow:
        """Use a disabled webhook again, with its health forgotten. Enabling an active one changes nothing."""
        return await self._set_state(webhook_id, tenant, EndpointState.ACTIVE, unless=EndpointState.PAUSED)

    async def disable_webhook(self, webhook_id: EndpointId, *, tenant: str | None = None) -> EndpointRow:
        """Stop a webhook: nothing matches it; what is pending dies (replayable). To disable it again changes nothing."""
        return await self._set_state(webhook_id, tenant, EndpointState.DISABLED)

    async def _set_state(
        self,
        webhook_id: EndpointId,
        tenant: str | None,
        state: EndpointState,
        *,
        unless: EndpointState | None = None,
    ) -> EndpointRow:
        async with self._changing(webhook_id, tenant) as (connection, endpoint):
            if endpoint.state is unless:
                mend = "resume" if unless is EndpointState.PAUSED else "enable"
                raise Conflict(
                    f"The webhook {webhook_id} is {endpoint.state}. Use `dispatcher webhook {mend} {webhook_id}` first.",
                    field="state",
                )
            if endpoint.state is state:
                return endpoint
            if endpoint.state is EndpointState.DISABLED:
                await store.forget_health(connection, webhook_id)
            reason = BY_PERSON if state is EndpointState.DISABLED else None
            await store.set_state(connection, webhook_id, state, reason=reason, now=self._now())
            if reason is not None:
                await operational_store.write(connection, [disabled(webhook_id, reason=reason)], now=self._now())
            return await self._endpoint(connection, webhook_id, tenant)

    async def rotate_secret(
        self,
        webhook_id: EndpointId,
        *,
        secret: str | None = None,
        overlap: float = 86400.0,
        tenant: str | None = None,
    ) -> str:
        """Give a webhook a new secret, which is returned; old ones sign beside it for `overlap` seconds (0 to 7 days)."""
        checks.overlap(overlap)
        new = new_secret() if secret is None else secret
        async with self._changing(webhook_id, tenant) as (connection, endpoint):
            checks.secret(new, endpoint.signing_profiles)
            await self._fit(connection, endpoint, [new])
            in_use = await self._still_in_use(connection, webhook_id, overlap)
            if any(old.value == new for old in in_use):
                raise InvalidInput("The secret is in use already. Bring another, or leave it out.", field="secret")
            if overlap and len(in_use) > MOST_OLD_SECRETS:
                raise Conflict(
                    f"The webhook has {MOST_OLD_SECRETS} old secrets that are still in use. Wait until one has ended, or "
                    "rotate with an overlap of 0, which ends all of them.",
                    field="overlap",
                )
            await store.replace_secret(connection, webhook_id, self._sealer.seal(new), overlap=overlap, now=self._now())
            await store.touch(connection, [webhook_id])
        return new

    async def _still_in_use(self, connection: Any, webhook_id: EndpointId, overlap: float) -> list[SecretRow]:
        """Return the secrets that a new one joins; none if they cannot be opened and end at once."""
        try:
            return await store.secrets(connection, webhook_id, self._sealer, now=self._now())
        except MainKeyMissing:  # a main key that is lost for good must leave a way out
            if not overlap:
                return []
            raise Conflict(
                "The webhook's present secrets are sealed with a main key that is not configured, so that they cannot sign "
                "beside a new one. Rotate with an overlap of 0, which ends them.",
                field="overlap",
            ) from None

    async def webhook_secrets(self, webhook_id: EndpointId, *, tenant: str | None = None) -> list[SecretRow]:
        """Return the secrets in use, the current one first."""
        async with self._reading() as connection:
            await self._endpoint(connection, webhook_id, tenant)
            return await self._opened(connection, webhook_id)

    async def rotate_key(self, webhook_id: EndpointId, *, overlap: float = 86400.0, tenant: str | None = None) -> str:
        """Give a webhook with the profile `v1a` a new ed25519 key, whose public half is returned."""
        checks.overlap(overlap)
        async with self._changing(webhook_id, tenant) as (connection, endpoint):
            if V1A not in endpoint.signing_profiles:
                raise InvalidInput(f"The webhook {webhook_id} does not sign by `{V1A}`.", field="signing_profiles")
            public_key = await self._replace_key(connection, webhook_id, overlap=overlap)
            await store.touch(connection, [webhook_id])
        return public_key

    async def public_keys(self, webhook_id: EndpointId, *, tenant: str | None = None) -> list[SecretRow]:
        """Return the public halves of a webhook's ed25519 keys in use, the current one first."""
        async with self._reading() as connection:
            await self._endpoint(connection, webhook_id, tenant)
            keys = await self._opened(connection, webhook_id, private=True)
        return [replace(key, value=public_key_of(key.value)) for key in keys]

    @asynccontextmanager
    async def _changing(self, webhook_id: EndpointId, tenant: str | None) -> AsyncIterator[tuple[Any, EndpointRow]]:
        """Open a transaction in which nobody else changes the webhook; an archived one is refused."""
        async with self._transaction() as connection:
            await store.lock(connection, webhook_id)
            endpoint = await self._endpoint(connection, webhook_id, tenant)
            if endpoint.archived_at is not None:
                raise Conflict(
                    f"The webhook {webhook_id} is archived and stays so. Create a new one in its place.", field="id"
                )
            yield connection, endpoint


def _changes_envelope(changes: WebhookChanges) -> bool:
    """Whether what is sent changes in its form, so that it must be seen whether all goes together."""
    return not all(
        isinstance(value, Unset) for value in (changes.payload_format, changes.signing_profiles, changes.headers)
    )
