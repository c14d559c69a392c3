"""Compiles the JSON Schemas of a document, and says what a value lacks to fit one.

Schemas are draft 07, which AsyncAPI's own schema object stands on, unless the document names another draft. References
between them are followed within the document; nothing is ever fetched.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

import jsonschema_rs

from dispatcher.catalog.documents import Document, Place, pointer_to

MOST_FAULTS: Final = 5
"""Told of one payload: who has more mends these first."""

_URI: Final = "urn:dispatcher:catalog"
"""The name by which a schema refers to its own document."""

_MASK: Final = "the value"
"""Stands in messages for what a payload holds: payloads are personal data, and messages go into logs."""

_DRAFT_07: Final = (jsonschema_rs.Draft7, jsonschema_rs.Draft7Validator)

_DRAFTS: Final = {
    f"application/{kind};version={version}": draft
    for kinds, versions, draft in (
        (("schema+json", "schema+yaml"), ("draft-07",), _DRAFT_07),
        (
            ("schema+json", "schema+yaml"),
            ("draft-2019-09",),
            (jsonschema_rs.Draft201909, jsonschema_rs.Draft201909Validator),
        ),
        (
            ("schema+json", "schema+yaml"),
            ("draft-2020-12",),
            (jsonschema_rs.Draft202012, jsonschema_rs.Draft202012Validator),
        ),
        (("vnd.aai.asyncapi", "vnd.aai.asyncapi+json", "vnd.aai.asyncapi+yaml"), ("3.0.0",), _DRAFT_07),
    )
    for kind in kinds
    for version in versions
}

KNOWN_FORMATS: Final = frozenset(_DRAFTS)
"""What `schemaFormat` of a payload may be."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong with a payload."""

    pointer: str
    """Where in it (RFC 6901); empty: the whole."""
    message: str

    def __str__(self) -> str:
        """Place and what is wrong there."""
        return f"{self.pointer}: {self.message}" if self.pointer else self.message


class Schema:
    """A compiled schema."""

    def __init__(self, validator: jsonschema_rs.Validator) -> None:
        self._validator = validator

    def faults(self, value: Any) -> list[Fault]:
        """Say what is wrong with a value, the first few things; nothing that it holds is repeated."""
        if self._validator.is_valid(value):  # much faster than to ask for errors
            return []
        found: dict[Fault, None] = {}
        for error in self._validator.iter_errors(value):
            found.setdefault(_fault(_deepest(error)))
            if len(found) == MOST_FAULTS:
                break
        return list(found)


class Schemas:
    """Compiles the schemas of one document."""

    def __init__(self, document: Document) -> None:
        self._document = document

        self._registries: dict[int, jsonschema_rs.Registry] = {}

    def _registry(self, draft: int) -> jsonschema_rs.Registry:
        if draft not in self._registries:
            self._registries[draft] = jsonschema_rs.Registry([(_URI, self._document.tree)], draft=draft)
        return self._registries[draft]

    def compile(self, place: Place, *, schema_format: str | None = None) -> Schema:
        """Compile the schema at a place; raises LookupError with what is wrong with it."""
        draft, make = _DRAFTS.get(schema_format or "", _DRAFT_07)
        try:
            validator = make(
                {"$ref": f"{_URI}#{quote(place.pointer)}"},
                registry=self._registry(draft),
                mask=_MASK,
                validate_formats=True,
                offline=True,
            )
        except (jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError, ValueError) as error:
            raise LookupError(f"The schema cannot be used: {getattr(error, 'message', None) or error}.") from None
        return Schema(validator)


def errors(validator: jsonschema_rs.Validator, value: Any) -> Iterator[Fault]:
    """Give what is wrong with a value, each as deep in it as can be told."""
    for error in validator.iter_errors(value):
        yield _fault(_deepest(error))


def _fault(error: jsonschema_rs.ValidationError) -> Fault:
    message = error.message[:1].upper() + error.message[1:]
    return Fault(pointer_to("", *error.instance_path), f"{message}.")


def _deepest(error: jsonschema_rs.ValidationError) -> jsonschema_rs.ValidationError:
    """Of alternatives that all fail, follow the one that fits best: the one whose fault lies deepest."""
    while True:
        branches = getattr(error.kind, "context", None) if error.kind.name in {"anyOf", "oneOf"} else None
        candidates = [found[0] for found in branches or () if len(found) == 1] or [
            one for found in branches or () for one in found
        ]
        deeper = max(candidates, key=lambda one: len(one.instance_path), default=None)
        if deeper is None or len(deeper.instance_path) <= len(error.instance_path):
            return error
        error = deeper
