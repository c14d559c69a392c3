"""Reads AsyncAPI documents, YAML or JSON, into plain trees with places that can be named; leaves judging them to `checking`.

YAML is read by PyYAML: its C parser takes a fifth of the time, and it is what most people have installed already; ruamel's
strength, keeping comments through changes, is of no use here. Its YAML 1.1, in which `no` is false and `2024-03-15` no text,
is replaced by the rules of JSON, as AsyncAPI demands.
"""

import re
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import orjson
import yaml

from dispatcher.errors import CatalogError, CatalogFault

MOST_BYTES = 16 * 1024 * 1024
"""Of one document: a hundred times the largest known catalogue."""

MOST_STEPS = 32
"""From reference to reference: more is a circle."""

_VERBATIM = frozenset({"const", "default", "enum", "example", "examples"})
"""Keys below which a `$ref` is data, not a reference."""

_NAMES = frozenset(
    {"properties", "patternProperties", "definitions", "$defs", "schemas", "channels", "operations", "messages"}
)
"""Keys below which keys are names, which say nothing of what is below them."""


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """YAML with the scalars of JSON, and without keys that are there twice."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - PyYAML's way

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:  # noqa: FBT001, FBT002
        """Refuse a key that would silently replace an earlier one, and one that is no text."""
        mapping: dict[Hashable, Any] = {}
        for key_node, value_node in node.value:
            # a response code or a version, 2.0, is meant as the text that it is
            key = key_node.value if isinstance(key_node, yaml.ScalarNode) else None
            if key is None or key in mapping:
                problem = "a key that is no text" if key is None else f"the key `{key}` is there twice"
                raise yaml.constructor.ConstructorError(None, None, problem, key_node.start_mark)
            mapping[key] = self.construct_object(value_node, deep=deep)
        return mapping


def _resolve_as(tag: str, pattern: str, first: str) -> None:
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(rf"^(?:{pattern})$"), list(first))


_resolve_as("null", "null|~|", "n~")
_Loader.yaml_implicit_resolvers.setdefault("", []).append(("tag:yaml.org,2002:null", re.compile("^$")))
_resolve_as("bool", "true|false", "tf")
_resolve_as("int", r"-?(?:0|[1-9][0-9]*)", "-0123456789")


class _Dumper(yaml.SafeDumper):
    """YAML that reads as the same under these rules and under those of YAML 1.1."""


_FLOAT = r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?"

for _reader in (_Loader, _Dumper):  # PyYAML takes `1e3` for a text, and would write that text so
    _reader.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(rf"^(?:{_FLOAT})$"), list("-0123456789"))


@dataclass(frozen=True, slots=True)
class Place:
    """Something in a document, and the pointer (RFC 6901) to it."""

    pointer: str
    value: Any


@dataclass(frozen=True, slots=True, eq=False)
class Document:
    """A document as it was read; `name` is the file's, for messages."""

    name: str
    tree: dict[str, Any]

    def fault(self, pointer: str, message: str) -> CatalogFault:
        """Name what is wrong, and where."""
        return CatalogFault(file=self.name, pointer=pointer, message=message)

    def find(self, reference: str) -> Place:
        """Follow a reference within this document, `#/components/schemas/Visit`; raises LookupError with the reason."""
        if not reference.startswith("#"):
            raise LookupError(
                f"`{reference}` leads out of the document. Nothing is fetched: bundle all parts into one document."
            )
        value: Any = self.tree
        pointer = unquote(reference[1:])
        for part in _parts(pointer):
            if isinstance(value, list) and part.isdecimal() and int(part) < len(value):
                value = value[int(part)]
            elif isinstance(value, dict) and part in value:
                value = value[part]
            else:
                near = get_close_matches(part, list(value) if isinstance(value, dict) else [], n=1)
                meant = f" Did you mean `{near[0]}`?" if near else ""
                raise LookupError(f"`{reference}` leads nowhere: there is no `{part}`.{meant}")
        return Place(pointer, value)

    def resolve(self, place: Place) -> Place:
        """Follow references until something else comes; raises LookupError."""
        for _ in range(MOST_STEPS):
            if not (isinstance(place.value, dict) and isinstance(reference := place.value.get("$ref"), str)):
                return place
            place = self.find(reference)
        raise LookupError(f"The references behind {place.pointer} lead in a circle.")

    def child(self, place: Place, *keys: str) -> Place:
        """Go down, through references; the value is None where there is nothing."""
        for key in keys:
            place = self.resolve(place)
            value = place.value.get(key) if isinstance(place.value, dict) else None
            place = Place(pointer_to(place.pointer, key), value)
        return self.resolve(place)

    def children(self, place: Place) -> Iterator[tuple[str, Place]]:
        """Give the members of a mapping, each behind its references."""
        place = self.resolve(place)
        if isinstance(place.value, dict):
            for key in place.value:
                yield key, self.child(place, key)

    @property
    def root(self) -> Place:
        """The whole document."""
        return Place("", self.tree)


def pointer_to(pointer: str, *keys: str | int) -> str:
    """Lengthen a pointer."""
    return pointer + "".join("/" + str(key).replace("~", "~0").replace("/", "~1") for key in keys)


def _parts(pointer: str) -> list[str]:
    if not pointer:
        return []
    if not pointer.startswith("/"):
        raise LookupError(f"`#{pointer}` is not a pointer: it begins with `#/`.")
    return [part.replace("~1", "/").replace("~0", "~") for part in pointer[1:].split("/")]


def references(value: Any, pointer: str = "") -> Iterator[tuple[str, str]]:
    """Give every reference in a tree: the pointer to it, and where it leads."""
    for place in _places(value, pointer):
        if isinstance(place.value, dict) and isinstance(reference := place.value.get("$ref"), str):
            yield place.pointer, reference


def _places(value: Any, pointer: str, *, names: bool = False) -> Iterator[Place]:
    """Give all lists and mappings of a tree that are not data; `names`: the keys here are the user's own."""
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from _places(item, pointer_to(pointer, index))
    elif isinstance(value, dict):
        yield Place(pointer, value)
        for key, item in value.items():
            if names or key not in _VERBATIM:
                yield from _places(item, pointer_to(pointer, key), names=not names and key in _NAMES)


def walk(value: Any, replace: Callable[[str], Any], *, names: bool = False) -> Any:
    """Return a copy of a tree in which every mapping with a reference is what `replace` makes of that reference."""
    if isinstance(value, list):
        return [walk(item, replace) for item in value]
    if not isinstance(value, dict):
        return value
    if isinstance(reference := value.get("$ref"), str):
        return replace(reference)
    return {
        key: walk(item, replace, names=not names and key in _NAMES) if names or key not in _VERBATIM else item
        for key, item in value.items()
    }


def parse(text: str | bytes, name: str) -> Document:
    """Read a document; raises CatalogError when it is neither YAML nor JSON, or no mapping."""
    if len(text) > MOST_BYTES:
        raise CatalogError([CatalogFault(name, "", f"It is longer than {MOST_BYTES} bytes.")])
    try:
        tree = orjson.loads(text)
    except orjson.JSONDecodeError:
        tree = _parse_yaml(text, name)
    if not isinstance(tree, dict):
        raise CatalogError([CatalogFault(name, "", "It is no AsyncAPI document, but a single value or a list.")])
    return Document(name, tree)


def write(tree: dict[str, Any]) -> str:
    """Write a document as YAML."""
    text: str = yaml.dump(tree, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=118)
    return text


def _parse_yaml(text: str | bytes, name: str) -> Any:
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - a safe loader
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise CatalogError([CatalogFault(name, "", f"It is neither YAML nor JSON{where}: {problem}.")]) from None
    except (RecursionError, UnicodeDecodeError, ValueError) as error:
        raise CatalogError([CatalogFault(name, "", f"It cannot be read: {error}.")]) from None


def read(paths: Iterable[Path]) -> Sequence[Document]:
    """Read files; raises CatalogError."""
    documents = []
    for path in paths:
        try:
            text = path.read_bytes()
        except OSError as error:
            raise CatalogError([CatalogFault(str(path), "", f"It cannot be read: {error.strerror}.")]) from None
        documents.append(parse(text, str(path)))
    return documents
