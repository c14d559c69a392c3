"""The OpenAPI 3.1 document, made from the operations and their models; what subscribers receive is in `webhooks`."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, get_args

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from dispatcher import __version__
from dispatcher.api import auth, models
from dispatcher.api.models import operational
from dispatcher.api.operations import IDEMPOTENCY_KEY, REPLAYED, Answer, Operation
from dispatcher.api.problems import (
    CONFLICT,
    CONTENT_TYPE,
    INVALID,
    KINDS,
    MALFORMED,
    MEDIA_TYPE,
    NOT_FOUND,
    TOO_LARGE,
    TOO_MANY,
    TOO_SLOW,
    UNAUTHORISED,
    UNAVAILABLE,
    Kind,
)
from dispatcher.operational import OperationalType

Json = dict[str, Any]

ABOUT: Final = """\
Register webhooks, look at what became of their events, send again by hand. All bodies are JSON in camelCase; times are \
ISO 8601 in UTC. Whoever runs the service creates keys.

Errors are `application/problem+json` (RFC 9457). Calls that create take an `Idempotency-Key`: repeated within 24 hours, \
they do nothing again and answer as they did. Fields may be added to answers; ignore those that you do not know."""

TAGS: Final[Mapping[str, str]] = {
    "Webhooks": "Where events go.",
    "Delivery attempts": "What became of them there.",
    "Replays": "Sending many of them again.",
    "Events": "For producers that have no SQL.",
    "Event types": "What can be subscribed to.",
    "Pages": "For people, in a browser.",
}

OPERATIONAL: Final[Mapping[OperationalType, type[BaseModel]]] = {
    OperationalType.ENDPOINT_FAILING: operational.EndpointFailing,
    OperationalType.ENDPOINT_DISABLED: operational.EndpointDisabled,
    OperationalType.ENDPOINT_RECOVERED: operational.EndpointRecovered,
    OperationalType.DELIVERY_DEAD: operational.DeliveryDead,
}
"""What is in the payload of each."""

_REF: Final = "#/components/schemas/{model}"


def document(operations: Sequence[Operation]) -> Json:
    """Make the document."""
    schemas = _schemas(operations)
    paths: dict[str, Json] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "dispatcher",
            "version": __version__,
            "description": ABOUT,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": name, "description": text} for name, text in TAGS.items()],
        "security": [{"tenant": [], "key": []}],
        "paths": paths,
        "webhooks": {
            "event": {"post": _delivered()},
            **{str(kind): {"post": _told(kind, model)} for kind, model in OPERATIONAL.items()},
        },
        "components": {
            "schemas": schemas,
            "responses": {_component(kind): _problem(kind) for kind in KINDS if kind is not TOO_SLOW},
            "securitySchemes": {
                "tenant": {
                    "type": "apiKey",
                    "in": "header",
                    "name": auth.TENANT,
                    "description": "The tenant on whose behalf the call is made.",
                },
                "key": {
                    "type": "apiKey",
                    "in": "header",
                    "name": auth.KEY,
                    "description": "A key that may act for the tenant.",
                },
            },
        },
    }


def _schemas(operations: Iterable[Operation]) -> Json:
    """Make the schemas of all models, by the name that a model has or says that it has."""
    read = {operation.body for operation in operations if operation.body is not None}
    shown = {_model(answer) for operation in operations for answer in operation.answers.values()}
    shown |= {models.ProblemShown, *OPERATIONAL.values()}
    wanted = [(model, "validation") for model in read] + [(model, "serialization") for model in shown]
    wanted.sort(key=lambda pair: pair[0].__name__)
    _, definitions = models_json_schema(wanted, ref_template=_REF)  # type: ignore[arg-type]  # a list of literals
    schemas: Json = definitions["$defs"]
    return {name: _plain(schema) for name, schema in sorted(schemas.items())}


def _model(answer: Answer) -> type[BaseModel]:
    model: type[BaseModel] = (get_args(answer.model) or (answer.model,))[0]
    return model


def _plain(schema: Json) -> Json:
    """Leave out the titles that pydantic makes of names, and the defaults of what is answered."""
    return {
        key: {name: _untitled(inner) for name, inner in value.items()} if key == "properties" else value
        for key, value in schema.items()
        if key != "title"
    }


def _untitled(schema: Json) -> Json:
    return {key: value for key, value in schema.items() if key != "title"}


def _operation(operation: Operation) -> Json:
    shown: Json = {
        "operationId": operation.name,
        "tags": [operation.tag],
        "summary": operation.summary,
        "parameters": [*_path_parameters(operation), *_query_parameters(operation), *_header_parameters(operation)],
        "responses": _responses(operation),
    }
    if operation.description:
        shown["description"] = operation.description
    if operation.body is not None:
        content: Json = {"schema": {"$ref": _REF.format(model=operation.body.__name__)}}
        if operation.example is not None:
            content["example"] = operation.example
        shown["requestBody"] = {"required": _is_needed(operation.body), "content": {"application/json": content}}
    return shown


def _is_needed(body: type[BaseModel]) -> bool:
    return any(info.is_required() for info in body.model_fields.values())


def _path_parameters(operation: Operation) -> list[Json]:
    if not operation.thing:
        return []
    schema: Json = {"type": "string"} if operation.thing == "delivery attempt" else {"type": "string", "format": "uuid"}
    description = f"The id of the {operation.thing}."
    return [{"name": "id", "in": "path", "required": True, "description": description, "schema": schema}]


def _query_parameters(operation: Operation) -> list[Json]:
    if operation.query is None:
        return []
    properties: Json = operation.query.model_json_schema()["properties"]
    return [_query_parameter(name, schema) for name, schema in properties.items()]


def _query_parameter(name: str, schema: Json) -> Json:
    """A parameter that is not given has no value; null is none."""
    plain = _untitled(schema)
    description = plain.pop("description", "")
    for choice in plain.pop("anyOf", []):
        if choice != {"type": "null"}:
            plain |= choice
    if plain.get("default", "") is None:
        del plain["default"]
    parameter = {"name": name, "in": "query", "schema": plain}
    return parameter | ({"description": description} if description else {})


def _header_parameters(operation: Operation) -> list[Json]:
    if not operation.creates:
        return []
    return [
        {
            "name": IDEMPOTENCY_KEY,
            "in": "header",
            "description": "Any text of yours, a new one for each new request. Under the same one nothing is done twice.",
            "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
        }
    ]


def _responses(operation: Operation) -> Json:
    shown = {str(status): _answer(answer, operation) for status, answer in sorted(operation.answers.items())}
    return shown | {
        str(kind.status): {"$ref": f"#/components/responses/{_component(kind)}"} for kind in _kinds(operation)
    }


def _kinds(operation: Operation) -> list[Kind]:
    """Return the problems that a call can meet."""
    kinds = [UNAUTHORISED, INVALID, TOO_MANY, UNAVAILABLE]
    if operation.thing:
        kinds.append(NOT_FOUND)
    if operation.conflicts:
        kinds.append(CONFLICT)
    if operation.body is not None:
        kinds += [MALFORMED, TOO_LARGE, MEDIA_TYPE]
    elif operation.creates:
        kinds.append(MALFORMED)
    return sorted(kinds, key=lambda kind: kind.status)


def _answer(answer: Answer, operation: Operation) -> Json:
    reference: Json = {"$ref": _REF.format(model=_model(answer).__name__)}
    schema = {"type": "array", "items": reference} if get_args(answer.model) else reference
    shown: Json = {"description": answer.meaning, "content": {"application/json": {"schema": schema}}}
    if operation.creates:
        shown["headers"] = {
            REPLAYED: {
                "description": f"`true`: this was answered before under the same `{IDEMPOTENCY_KEY}`.",
                "schema": {"type": "string", "const": "true"},
            }
        }
    return shown


def _component(kind: Kind) -> str:
    return kind.name.title().replace("-", "")


def _problem(kind: Kind) -> Json:
    told = [kind, TOO_SLOW] if kind is UNAVAILABLE else [kind]  # one status, which has one description
    shown: Json = {
        "description": " Or: ".join(f"{one.title}. {one.meaning}" for one in told),
        "content": {CONTENT_TYPE: {"schema": {"$ref": _REF.format(model=models.ProblemShown.__name__)}}},
    }
    if kind in {TOO_MANY, UNAVAILABLE}:
        shown["headers"] = {
            "Retry-After": {"description": "Seconds.", "schema": {"type": "string", "pattern": "^[0-9]+$"}}
        }
    return shown


def _told(kind: OperationalType, model: type[BaseModel]) -> Json:
    """Say what an operational event holds: it arrives as any other does."""
    told = _delivered()
    shape: Json = told["requestBody"]["content"]["application/json"]["schema"]
    shape["properties"] |= {
        "type": {"type": "string", "const": str(kind)},
        "data": {"$ref": _REF.format(model=model.__name__)},
    }
    del shape["example"]
    name = model.__name__
    return told | {
        "operationId": f"receive{name}",
        "summary": model.__doc__,
        "description": "For webhooks that subscribe to it by name or by a pattern like `dispatcher.*`; `*` does not match it.",
    }


def _delivered() -> Json:
    """Say what arrives at a webhook's URL (Standard Webhooks)."""
    headers = {
        "webhook-id": "The event's id: the same on every attempt. Drop what you have seen.",
        "webhook-timestamp": "When this attempt was made, unix seconds. Refuse what is old.",
        "webhook-signature": (
            "`v1,` and base64 of HMAC-SHA256 over id, timestamp and body, joined by full stops; several of them, with "
            "blanks between, while a secret is rotated."
        ),
    }
    body: Json = {
        "type": "object",
        "required": ["type", "timestamp", "data"],
        "properties": {
            "type": {"type": "string", "description": "The event type."},
            "timestamp": {"type": "string", "format": "date-time", "description": "When it happened."},
            "data": {"description": "The payload, as it was sent in."},
        },
        "example": {
            "type": "PATIENT_CREATED",
            "timestamp": "2026-01-31T09:00:00Z",
            "data": {"resource_id": "67890", "changed_fields": []},
        },
    }
    return {
        "operationId": "receiveEvent",
        "summary": "An event arrives",
        "description": (
            "A POST to the webhook's URL, signed, at least once. This is the body of the payload format `standard`; with "
            "`raw` it is the payload itself."
        ),
        "security": [],
        "parameters": [
            {"name": name, "in": "header", "required": True, "description": text, "schema": {"type": "string"}}
            for name, text in headers.items()
        ],
        "requestBody": {"required": True, "content": {"application/json": {"schema": body}}},
        "responses": {
            "2XX": {"description": "Received. Answer at once, work later."},
            "410": {"description": "Never again: the webhook is disabled."},
            "default": {"description": "It is tried again later; `Retry-After` is honoured."},
        },
    }
