"""Catalogues to test with: those of the examples, and small ones written as text."""

from functools import cache
from pathlib import Path
from textwrap import dedent

from dispatcher.catalog.catalog import Catalog
from dispatcher.catalog.documents import parse

EXAMPLES = Path(__file__).parents[2] / "examples"

SYSTEMS = ("hero", "decoda", "vsee", "healthie")

SMALL = """\
asyncapi: 3.0.0
info: {title: Small, version: 1.0.0}
channels:
  visit.ended:
    address: visit.ended
    x-aliases: [visit.over]
    messages:
      ended:
        payload: {$ref: '#/components/schemas/Visit'}
        examples:
          - payload: {id: v1, minutes: 15}
  visit.created:
    address: visit.created
    messages: {}
operations:
  ended: {action: send, channel: {$ref: '#/channels/visit.ended'}}
  created: {action: send, channel: {$ref: '#/channels/visit.created'}}
components:
  schemas:
    Visit:
      type: object
      required: [id]
      properties:
        id: {type: string}
        minutes: {type: integer}
"""
"""Two event types, one of them with a schema and an alias."""


@cache
def example(*systems: str) -> Catalog:
    """The catalogue of examples, read once; of all four without a name."""
    return Catalog.read([path_of(system) for system in systems or SYSTEMS])


def path_of(system: str) -> Path:
    """The catalogue of an example."""
    return EXAMPLES / system / "asyncapi.yaml"


def catalog_of(*texts: str) -> Catalog:
    """A catalogue of documents given as text, named 1.yaml, 2.yaml, …"""
    return Catalog([parse(dedent(text), f"{number}.yaml") for number, text in enumerate(texts, 1)])
