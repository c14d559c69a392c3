"""The documentation for people and programs: `/openapi.json`, and `/docs`, a page without scripts that needs no network."""

import json
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any, Final

from aiohttp import web
from jinja2 import Environment, PackageLoader, StrictUndefined

from dispatcher.api.openapi import document
from dispatcher.api.operations import Operation
from dispatcher.api.problems import KINDS

POLICY: Final = (
    "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'"
)
"""Nothing but our own style sheet is loaded: no script, no frame, no other host."""

Json = Mapping[str, Any]


def routes(operations: Sequence[Operation]) -> list[web.RouteDef]:
    """Make the routes; all that they answer is made once."""
    described = document(operations)
    as_json = json.dumps(described, ensure_ascii=False, indent=1).encode()
    page = _page(described)
    style = (files("dispatcher.api") / "static" / "docs.css").read_bytes()

    async def openapi(_: web.Request) -> web.Response:
        return web.Response(body=as_json, content_type="application/json")

    async def docs(_: web.Request) -> web.Response:
        headers = {"Content-Security-Policy": POLICY, "Referrer-Policy": "no-referrer"}
        return web.Response(text=page, content_type="text/html", headers=headers)

    async def css(_: web.Request) -> web.Response:
        return web.Response(body=style, content_type="text/css", headers={"Cache-Control": "max-age=3600"})

    return [web.get("/openapi.json", openapi), web.get("/docs", docs), web.get("/docs/docs.css", css)]


def _page(described: Json) -> str:
    groups = [(tag["name"], tag["description"], _operations(described, tag["name"])) for tag in described["tags"]]
    return (
        _environment()
        .get_template("docs/page.html")
        .render(
            info=described["info"],
            groups=groups,
            schemas=described["components"]["schemas"],
            responses=described["components"]["responses"],
            arrival=described["webhooks"]["event"]["post"],
            operational={name: told["post"] for name, told in described["webhooks"].items() if name != "event"},
            kinds=KINDS,
            security=described["components"]["securitySchemes"].values(),
        )
    )


def _operations(described: Json, tag: str) -> list[tuple[str, str, Json]]:
    return [
        (method.upper(), path, operation)
        for path, methods in described["paths"].items()
        for method, operation in methods.items()
        if tag in operation["tags"]
    ]


def _type_of(schema: Json) -> str:
    """Say in a word or two what a schema takes."""
    if "$ref" in schema:
        return str(schema["$ref"].rpartition("/")[2])
    if "anyOf" in schema:
        return " | ".join(dict.fromkeys(_type_of(choice) for choice in schema["anyOf"]))
    if "enum" in schema:
        return " | ".join(f"“{value}”" for value in schema["enum"])
    kind = str(schema.get("type", "any"))
    if kind == "array":
        return f"[{_type_of(schema.get('items', {}))}]"
    return f"{kind} ({schema['format']})" if "format" in schema else kind


def _limits(schema: Json) -> str:
    """Say what a schema restricts beside its type."""
    names = {"minimum": "at least", "maximum": "at most", "maxItems": "at most", "default": "if left out:"}
    said = [
        f"{words} {json.dumps(schema[name])}" for name, words in names.items() if schema.get(name) not in (None, "")
    ]
    return "; ".join(said)


def _referred(name: str) -> str:
    return name.rpartition("/")[2]


def _code(text: str) -> list[tuple[bool, str]]:
    """Take a text apart at its backticks: what stands between them is code."""
    return [(place % 2 == 1, part) for place, part in enumerate(text.split("`"))]


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("dispatcher"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        type_of=_type_of,
        limits=_limits,
        referred=_referred,
        code=_code,
        pretty=lambda value: json.dumps(value, ensure_ascii=False, indent=2),
    )
    return environment
