"""The shapes that people and programs are shown: camelCase JSON with ISO 8601 instants in UTC, as the HTTP API's contract has it.

Every function returns plain dicts, lists, strings, numbers and nulls, ready for any JSON writer.
"""

from typing import Any

from dispatcher.admin.results import DeliveryDetails, DeliveryPage, Explanation, NewKey
from dispatcher.store.endpoints import EndpointRow, SecretRow
from dispatcher.store.history import AttemptRow, DeliveryRow, EventRow
from dispatcher.store.keys import Key
from dispatcher.store.tenants import Tenant

Json = dict[str, Any]


def tenant_json(tenant: Tenant) -> Json:
    """`{createdDate, name, parent, shard}`."""
    raise NotImplementedError


def key_json(key: Key) -> Json:
    """`{createdDate, description, id, lastUsedDate, operator, prefix, revokedDate, tenant}`."""
    raise NotImplementedError


def new_key_json(new: NewKey) -> Json:
    """`{key}` and what `key_json` shows."""
    raise NotImplementedError


def created_webhook_json(webhook: EndpointRow) -> Json:
    """`{createdDate, id, notificationEmail, secret, subscriptions, updatedDate, url}` and the optional fields that were given."""
    raise NotImplementedError


def webhook_json(webhook: EndpointRow) -> Json:
    """The same without `secret`, with `isArchived`, `state`, `tenant`, and `health`."""
    raise NotImplementedError


def secret_json(secret: SecretRow) -> Json:
    """`{createdDate, expiresDate, secret}`."""
    raise NotImplementedError


def event_json(event: EventRow) -> Json:
    """`{id, tenant, type, payload, occurredDate, insertedDate, …}`; `payload` is parsed, as every JSON shown is."""
    raise NotImplementedError


def delivery_json(delivery: DeliveryRow) -> Json:
    """`{id, tenant, webhookId, url, eventId, eventType, state, attemptCount, …}`."""
    raise NotImplementedError


def delivery_page_json(page: DeliveryPage) -> Json:
    """`{deliveries, nextCursor}`."""
    raise NotImplementedError


def delivery_details_json(details: DeliveryDetails) -> Json:
    """`delivery_json` and `attempts`."""
    raise NotImplementedError


def attempt_json(attempt: AttemptRow) -> Json:
    """`{number, startedDate, milliseconds, outcome, status, verdict, error, …}`."""
    raise NotImplementedError


def explanation_json(explanation: Explanation) -> Json:
    """`{event, summary, endpoints: [{webhookId, url, finding, why, nextAttemptDate, deliveries}]}`."""
    raise NotImplementedError
