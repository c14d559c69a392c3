"""The shapes that people and programs are shown: camelCase JSON with ISO 8601 instants in UTC, as the HTTP API has them.

Every function returns plain dicts, lists, strings, numbers and nulls, ready for any JSON writer.
"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from dispatcher.admin.definitions import DefinitionRow
from dispatcher.admin.links import PortalLink
from dispatcher.admin.results import (
    DeliveryDetails,
    DeliveryPage,
    EndpointFinding,
    Explanation,
    NewKey,
    ReplayCount,
    Resealed,
)
from dispatcher.catalog.reading import EventType
from dispatcher.model import fingerprint
from dispatcher.presets import Preset
from dispatcher.store.endpoints import EndpointRow, EndpointSettings, SecretRow
from dispatcher.store.history import AttemptRow, DeliveryRow, EventRow
from dispatcher.store.keys import Key
from dispatcher.store.operators import Operator
from dispatcher.store.replays import Fate, ReplayRow
from dispatcher.store.tenants import Tenant

Json = dict[str, Any]


def iso(instant: datetime | None) -> str | None:
    """Write an instant as `2026-01-01T00:00:00.123456Z`."""
    if instant is None:
        return None
    aware = instant if instant.tzinfo else instant.replace(tzinfo=UTC)
    return aware.astimezone(UTC).isoformat().replace("+00:00", "Z")


def tenant_json(tenant: Tenant) -> Json:
    """`{createdDate, name, parent, shard}`."""
    return {
        "createdDate": iso(tenant.created_at),
        "name": tenant.name,
        "parent": tenant.parent,
        **({} if tenant.payload_format is None else {"payloadFormat": tenant.payload_format}),
        **({} if tenant.preset is None else {"preset": tenant.preset}),
        "shard": tenant.shard,
    }


def key_json(key: Key) -> Json:
    """`{createdDate, description, id, lastUsedDate, operator, prefix, revokedDate, tenant}`."""
    return {
        "createdDate": iso(key.created_at),
        "description": key.description,
        "id": str(key.id),
        "lastUsedDate": iso(key.last_used_at),
        "operator": key.operator,
        "prefix": key.prefix,
        "revokedDate": iso(key.revoked_at),
        "tenant": key.tenant,
    }


def new_key_json(new: NewKey) -> Json:
    """`{key}` and what `key_json` shows."""
    return {"key": new.key, **key_json(new.details)}


def operator_json(operator: Operator) -> Json:
    """`{createdDate, name, passwordDate, signedInDate}`."""
    return {
        "createdDate": iso(operator.created_at),
        "name": operator.name,
        "passwordDate": iso(operator.changed_at),
        "signedInDate": iso(operator.signed_in_at),
    }


def portal_link_json(link: PortalLink) -> Json:
    """`{expiresDate, tenant, url}`."""
    return {"expiresDate": iso(link.expires_at), "tenant": link.tenant, "url": link.url}


def created_webhook_json(webhook: EndpointRow) -> Json:
    """`{createdDate, id, notificationEmail, secret, subscriptions, updatedDate, url}`, and optional fields that were given."""
    return {
        "createdDate": iso(webhook.created_at),
        "id": str(webhook.id),
        "notificationEmail": webhook.notification_email,
        "secret": webhook.secret,
        "subscriptions": list(webhook.subscriptions),
        "updatedDate": iso(webhook.updated_at),
        "url": webhook.url,
        **({} if webhook.public_key is None else {"publicKey": webhook.public_key}),
        **_optional(webhook),
    }


def webhook_json(webhook: EndpointRow) -> Json:
    """The same without `secret`, with `health`, `isArchived`, `state` (and its reason if disabled) and `tenant`."""
    shown = created_webhook_json(webhook)
    del shown["secret"]
    if webhook.disabled_at is not None:
        shown |= {"disabledDate": iso(webhook.disabled_at), "disabledReason": webhook.disabled_reason}
    health = webhook.health
    return {
        **shown,
        "health": {
            "coolUntil": iso(health.cool_until),
            "failingSince": iso(health.failing_since),
            "hung": health.hung,
            "lastError": health.last_error,
            "lastFailureDate": iso(health.last_failure_at),
            "lastSuccessDate": iso(health.last_success_at),
            "warnedDate": iso(health.warned_at),
        },
        "isArchived": webhook.archived_at is not None,
        "state": str(webhook.state),
        "tenant": webhook.tenant,
    }


def _optional(webhook: EndpointRow) -> Json:
    """Show the optional fields that are not as they are when nobody gives them."""
    shown = {
        "additionalNotificationEmails": list(webhook.additional_notification_emails),
        "description": webhook.description,
        "disableAfterSeconds": webhook.disable_after,
        "filter": webhook.filter,
        "includeDescendants": webhook.include_descendants,
        "headers": dict(webhook.headers),
        "metadata": dict(webhook.metadata),
        "payloadFormat": webhook.payload_format,
        "payloadFormatDeprecatedDate": None
        if webhook.format_deprecated is None
        else webhook.format_deprecated.isoformat(),
        "rateLimit": webhook.rate_limit,
        "retrySchedule": None if webhook.retry_schedule is None else list(webhook.retry_schedule),
        "signingProfiles": list(webhook.signing_profiles),
        "timeoutSeconds": webhook.timeout,
        "warnAfterSeconds": webhook.warn_after,
    }
    return {name: value for name, value in shown.items() if value != _UNGIVEN[name]}


_BARE = EndpointSettings(url="", subscriptions=())

_UNGIVEN: Json = {
    "additionalNotificationEmails": [],
    "description": None,
    "disableAfterSeconds": None,
    "filter": None,
    "includeDescendants": False,
    "headers": {},
    "metadata": {},
    "payloadFormat": _BARE.payload_format,
    "payloadFormatDeprecatedDate": None,
    "rateLimit": None,
    "retrySchedule": None,
    "signingProfiles": list(_BARE.signing_profiles),
    "timeoutSeconds": None,
    "warnAfterSeconds": None,
}


def secret_json(secret: SecretRow) -> Json:
    """`{createdDate, expiresDate, fingerprint, secret}`; the fingerprint is what `signedWith` of an attempt names."""
    return {
        "createdDate": iso(secret.created_at),
        "expiresDate": iso(secret.expires_at),
        "fingerprint": fingerprint(secret.value),
        "secret": secret.value,
    }


def resealed_json(resealed: Resealed) -> Json:
    """`{key, resealed}`."""
    return {"key": resealed.key, "resealed": resealed.count}


def public_key_json(key: SecretRow) -> Json:
    """`{createdDate, expiresDate, publicKey}`, of ed25519 signatures."""
    return {"createdDate": iso(key.created_at), "expiresDate": iso(key.expires_at), "publicKey": key.value}


def definition_json(row: DefinitionRow) -> Json:
    """`{name, description, isBuiltIn, deprecatedDate, webhooks, definition}` of a payload format or signing profile."""
    return {
        "createdDate": iso(row.created_at),
        "definition": None if row.definition is None else dict(row.definition),
        "deprecatedDate": None if row.deprecated is None else row.deprecated.isoformat(),
        "description": row.description,
        "isBuiltIn": row.built_in,
        "name": row.name,
        "webhooks": row.webhooks,
    }


def preset_json(name: str, preset: Preset) -> Json:
    """`{name, description, settings, choices}`."""
    return {
        "choices": list(preset.choices),
        "description": preset.description,
        "name": name,
        "settings": dict(preset.settings),
    }


def event_type_json(event_type: EventType) -> Json:
    """`{aliases, deprecated, description, name, summary, tags}`."""
    return {
        "aliases": list(event_type.aliases),
        "deprecated": event_type.deprecated,
        "description": event_type.description or None,
        "name": event_type.name,
        "summary": event_type.summary or None,
        "tags": list(event_type.tags),
    }


def event_json(event: EventRow) -> Json:
    """`{id, tenant, type, payload, occurredDate, insertedDate, …}`; `payload` is parsed, so numbers may be spelled anew."""
    return {
        "deliverDate": iso(event.deliver_at),
        "expiresDate": iso(event.expires_at),
        "id": str(event.id),
        "idempotencyKey": event.idempotency_key,
        "insertedDate": iso(event.inserted_at),
        "occurredDate": iso(event.occurred_at),
        "orderingKey": event.ordering_key,
        "payload": _parsed(event.payload),
        "refusedDate": iso(event.refused_at),
        "refusedReason": event.refused_because,
        "tenant": event.tenant,
        "type": event.event_type,
    }


def _parsed(payload: str) -> Any:
    try:
        value = json.loads(payload)
        json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError):  # half a surrogate pair, which `json` in Postgres may hold; or very deep
        return payload
    return value


def delivery_json(delivery: DeliveryRow) -> Json:
    """`{id, tenant, webhookId, url, eventId, eventType, state, attemptCount, …}`."""
    return {
        "attemptCount": delivery.attempts,
        "createdDate": iso(delivery.created_at),
        "dueDate": iso(delivery.due_at),
        "eventId": str(delivery.event_id),
        "eventType": delivery.event_type,
        "expiresDate": iso(delivery.expires_at),
        "finishedDate": iso(delivery.finished_at),
        "id": delivery.id,
        "isManual": delivery.manual,
        "lastError": delivery.error,
        "lastStatus": delivery.status,
        "orderingKey": delivery.ordering_key,
        "reason": delivery.reason,
        "state": str(delivery.state),
        "tenant": delivery.tenant,
        "url": delivery.url,
        "webhookId": str(delivery.endpoint_id),
    }


def delivery_page_json(page: DeliveryPage) -> Json:
    """`{deliveries, nextCursor}`."""
    return {
        "deliveries": [delivery_json(delivery) for delivery in page.deliveries],
        "nextCursor": page.next_cursor,
    }


def delivery_details_json(details: DeliveryDetails) -> Json:
    """What `delivery_json` shows, and `attempts`."""
    return {**delivery_json(details.delivery), "attempts": [attempt_json(attempt) for attempt in details.attempts]}


def attempt_json(attempt: AttemptRow) -> Json:
    """Show what was sent and what came of it, whole; bodies as text, the answer's cut as it was stored."""
    line, headers = _head(attempt.request_head)
    return {
        "address": attempt.address,
        "error": attempt.error,
        "errorClass": attempt.error_class,
        "errorDetail": attempt.error_detail,
        "milliseconds": attempt.milliseconds,
        "nextAttemptDate": iso(attempt.next_attempt_at),
        "number": attempt.number,
        "outcome": attempt.outcome,
        "requestBody": _text(attempt.request_body),
        "requestBodySha256": None if attempt.request_sha256 is None else attempt.request_sha256.hex(),
        "requestBodySize": attempt.request_size,
        "requestHeaders": headers,
        "requestLine": line,
        "responseBody": _text(attempt.response_body),
        "responseBodyCut": attempt.response_cut,
        "responseBodySize": attempt.response_size,
        "responseHeaders": [list(header) for header in attempt.response_headers],
        "signedWith": list(attempt.signed_with),
        "startedDate": iso(attempt.started_at),
        "status": attempt.status,
        "timings": _timings(attempt),
        "verdict": attempt.verdict,
        "worker": attempt.worker,
    }


def _head(head: str | None) -> tuple[str | None, list[list[str]]]:
    """Take a request's head apart: its first line, and its headers."""
    if head is None:
        return None, []
    line, *headers = head.removesuffix("\r\n").split("\r\n")
    return line, [[name, value.strip()] for name, _, value in (header.partition(":") for header in headers)]


def _text(body: bytes | None) -> str | None:
    return None if body is None else body.decode(errors="replace")


def _timings(attempt: AttemptRow) -> Json | None:
    """`{isReused, lookup, connect, tls, firstByte, total}`, milliseconds."""
    timings = attempt.timings
    if timings is None:
        return None
    phases = {
        "lookup": timings.lookup,
        "connect": timings.connect,
        "tls": timings.tls,
        "firstByte": timings.first_byte,
    }
    shown = {name: None if value is None else round(value, 3) for name, value in phases.items()}
    return {"isReused": timings.reused, **shown, "total": attempt.milliseconds}


def replay_json(replay: ReplayRow) -> Json:
    """`{id, tenant, webhookId, state, states, since, until, types, causes, rate, expected, replayed, skipped, …}`."""
    wanted = replay.wanted
    return {
        "causes": list(wanted.causes or ()),
        "createdDate": iso(replay.created_at),
        "expected": replay.expected,
        "finishedDate": iso(replay.finished_at),
        "id": str(replay.id),
        "isExpectedExact": replay.expected_exact,
        "rate": replay.rate,
        "reason": replay.reason,
        **_fates_json(replay.fates),
        "since": iso(wanted.since),
        "state": str(replay.state),
        "states": [str(state) for state in wanted.states],
        "tenant": replay.tenant,
        "types": list(wanted.patterns or ()),
        "until": iso(wanted.until),
        "webhookId": str(replay.endpoint_id),
    }


def replay_count_json(count: ReplayCount) -> Json:
    """`{isExact, replayed, skipped}`: of a dry run, what they would be."""
    return {"isExact": count.exact, **_fates_json(count.fates)}


def _fates_json(fates: Mapping[Fate, int]) -> Json:
    """`{replayed, skipped: {expired, pastRetention, superseded}}`."""
    return {
        "replayed": fates.get(Fate.REPLAYED, 0),
        "skipped": {
            "expired": fates.get(Fate.EXPIRED, 0),
            "pastRetention": fates.get(Fate.PAST_RETENTION, 0),
            "superseded": fates.get(Fate.SUPERSEDED, 0),
        },
    }


def explanation_json(explanation: Explanation) -> Json:
    """`{event, summary, endpoints: [{webhookId, url, finding, cause, why, …}]}`."""
    return {
        "endpoints": [_finding_json(finding) for finding in explanation.endpoints],
        "event": event_json(explanation.event),
        "summary": explanation.summary,
    }


def _finding_json(finding: EndpointFinding) -> Json:
    return {
        "cause": None if finding.cause is None else str(finding.cause),
        "deliveries": [delivery_json(delivery) for delivery in finding.deliveries],
        "finding": str(finding.finding),
        "nextAttemptDate": iso(finding.next_attempt_at),
        "url": finding.url,
        "webhookId": str(finding.endpoint_id),
        "why": finding.why,
    }
