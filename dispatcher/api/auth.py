"""Lets in who shows a key that may act for the tenant they name: the headers `TENANT` and `API-KEY`."""

import hashlib
from collections.abc import Sequence

from aiohttp import web

from dispatcher.admin import Admin
from dispatcher.api.limits import Buckets, whole_seconds
from dispatcher.api.problems import TOO_MANY, UNAUTHORISED, Problem, Wrong

TENANT = "TENANT"
KEY = "API-KEY"

REFUSAL = (
    "The API key is unknown or revoked, or may not act for this tenant, or there is no such tenant. Check both headers; "
    "whoever runs the service creates keys."
)


async def admit(request: web.Request, admin: Admin, buckets: Buckets) -> str:
    """Return the tenant for whom the request may act. Raises `Problem`.

    What is wrong with a key or a tenant is never said: an answer that did would tell which tenants there are.
    """
    missing = [name for name in (TENANT, KEY) if not request.headers.get(name)]
    if missing:
        errors = [Wrong(f"The header `{name}` is missing.", header=name) for name in missing]
        raise _unauthorised(" ".join(wrong.detail for wrong in errors), errors)
    tenant = _text(request.headers[TENANT])
    key = request.headers[KEY]
    # before the database is asked: who floods it with one key is held back here
    wait = buckets.take(hashlib.sha256(key.encode(errors="surrogateescape")).digest())
    if wait:
        seconds = whole_seconds(wait)
        raise Problem(
            TOO_MANY,
            f"This key asks too much at once. Try again in {seconds} s.",
            headers={"Retry-After": str(seconds)},
        )
    if await admin.admit(key, tenant) is None:
        raise _unauthorised(REFUSAL)
    return tenant


def _unauthorised(detail: str, errors: Sequence[Wrong] = ()) -> Problem:
    # RFC 9110 §15.5.2 wants the header; the scheme is ours, as the headers are
    return Problem(UNAUTHORISED, detail, errors, headers={"WWW-Authenticate": f'{KEY} realm="dispatcher"'})


def _text(header: str) -> str:
    """Read a header's bytes as UTF-8, which names of tenants may need, as far as they are."""
    return header.encode(errors="surrogateescape").decode(errors="replace")
