"""Who is let into the console and the tenants' pages, and what protects those who are."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from ipaddress import ip_network
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from structlog.testing import capture_logs

from dispatcher.console.doors import LINK_COOKIE, SESSION_COOKIE, Access
from dispatcher.console.gate import OPEN_BYTES, REPORT_BYTES, REPORTS
from dispatcher.console.throttle import FREE
from dispatcher.embedded import EmbeddedPostgres
from support.clock import FakeClock
from support.pages import OPERATOR, PASSWORD, Answer, Served, Visitor, serving_pages
from support.postgres import shared_clone

LOOPBACK = (ip_network("127.0.0.1/32"),)


@pytest.fixture(scope="module")
def database(postgres_server: EmbeddedPostgres) -> Iterator[str]:
    """One for all: what a test leaves is nothing to the others."""
    with shared_clone(postgres_server) as url:
        yield url


@pytest.fixture
async def served(database: str) -> AsyncIterator[Served]:
    """Both listeners."""
    async with serving_pages(database) as served:
        yield served


def headed(header: str = "X-User", *, proxies: Any = LOOPBACK) -> Access:
    """Rules by which a proxy says who looks."""
    return Access(session=3600.0, trusted_header=header, trusted_proxies=proxies)


# signing in


async def test_who_is_not_signed_in_is_sent_to_do_so(served: Served) -> None:
    """And nothing is shown on the way."""
    answer = await served.visitor().get("/audit?target=x", allow_redirects=False)

    assert (answer.status, answer.headers["Location"]) == (303, "/sign-in?next=%2Faudit%3Ftarget%3Dx")


async def test_an_operator_signs_in_and_comes_to_where_they_wanted(served: Served) -> None:
    """The page that was asked for first."""
    visitor = served.visitor()

    answer = await visitor.submit(await visitor.get("/audit?target=x"), "/sign-in", name=OPERATOR, password=PASSWORD)

    assert (answer.status, answer.path) == (200, "/audit?target=x")


async def test_signing_in_is_noted(served: Served) -> None:
    """With who and from where; the password is nowhere."""
    await served.operator()

    entry = (await served.admin.audit_page()).entries[0]

    assert (entry.who, entry.action, entry.address) == (OPERATOR, "operator.signed_in", "127.0.0.1")
    assert PASSWORD not in str(entry)


@pytest.mark.parametrize(
    "name, password",
    [(OPERATOR, "wrong"), ("nobody", PASSWORD), (OPERATOR, ""), ("", ""), (OPERATOR, "x" * 2000)],
    ids=["password", "name", "no password", "nothing", "long password"],
)
async def test_a_wrong_name_or_password_is_refused(served: Served, name: str, password: str) -> None:
    """In the same words, whichever it was."""
    answer = await served.visitor().sign_in(name, password)

    assert answer.status == 403
    assert "That name and password do not go together." in answer.text
    assert not any(SESSION_COOKIE in cookie for cookie in answer.cookies)


async def test_a_refusal_keeps_where_to_go(served: Served) -> None:
    """The second try ends at the page that was asked for."""
    visitor = served.visitor()
    refused = await visitor.submit(await visitor.get("/audit"), "/sign-in", name=OPERATOR, password="wrong")

    answer = await visitor.submit(refused, "/sign-in", name=OPERATOR, password=PASSWORD)

    assert answer.path == "/audit"


@pytest.mark.parametrize(
    "path",
    [
        "https://evil.example/",
        "//evil.example/",
        "/\\evil.example/",
        "\\\\evil.example",
        "/\t/evil.example",
        "javascript:alert(1)",
        "evil",
    ],
)
async def test_nobody_is_sent_elsewhere(served: Served, path: str) -> None:
    """Signing in leads to pages of this listener only."""
    visitor = served.visitor()
    page = await visitor.get(f"/sign-in?next={quote(path)}")
    form = page.page.form("/sign-in").fields | {"name": OPERATOR, "password": PASSWORD, "next": path}

    answer = await visitor("POST", "/sign-in", data=form, allow_redirects=False)

    assert (page.page.form("/sign-in").fields["next"], answer.headers["Location"]) == ("", "/")


async def test_tries_are_slowed_down(database: str) -> None:
    """Also right ones, until the pause is over."""
    clock = FakeClock()
    async with serving_pages(database, clock=clock) as served:
        visitor = served.visitor()
        for _ in range(FREE + 1):
            assert (await visitor.sign_in(password="wrong")).status == 403

        held = await visitor.sign_in()
        clock.advance(2)
        let = await visitor.sign_in()

    assert (held.status, let.status) == (429, 200)
    assert "Too many tries. Wait 2 s." in held.text


async def test_tries_at_the_same_moment_are_slowed_down_too(database: str) -> None:
    """Not one guess more is checked than one after the other."""
    async with serving_pages(database, clock=FakeClock()) as served:
        visitor = served.visitor()
        page = await visitor.get("/sign-in")

        answers = await asyncio.gather(
            *(visitor.submit(page, "/sign-in", name=OPERATOR, password="wrong") for _ in range(FREE + 5))
        )

    assert sorted(answer.status for answer in answers) == [403] * (FREE + 1) + [429] * 4


async def test_nobody_is_signed_in_by_another_site(served: Served) -> None:
    """The form carries a token of the browser that was shown it: somebody else's is worth nothing."""
    others = await served.visitor().get("/sign-in")
    visitor = served.visitor()
    await visitor.get("/sign-in")

    answer = await visitor.submit(others, "/sign-in", name=OPERATOR, password=PASSWORD)

    assert answer.status == 409
    assert visitor.cookie(SESSION_COOKIE) is None


# sessions


async def test_a_session_is_begun_anew(served: Served) -> None:
    """A token that was there before is not taken over, and the session before it ends."""
    visitor = await served.operator()
    before = visitor.cookie(SESSION_COOKIE)

    await visitor.sign_in()

    assert visitor.cookie(SESSION_COOKIE) not in (before, None)
    assert await served.admin.operator_of(before or "") is None


@pytest.mark.parametrize("secure", [False, True], ids=["http", "https"])
async def test_the_session_is_kept_from_scripts_and_other_sites(database: str, secure: bool) -> None:  # noqa: FBT001 - a case
    """And, where people come by https, from every other way and host."""
    async with serving_pages(database, secure=secure) as served:
        visitor = served.visitor()
        page = await visitor.get("/sign-in")
        visits = {line.partition(";")[0].partition("=")[0]: line for line in page.cookies}
        # a browser would not send it back by http
        jar = {name: line.partition("=")[2].partition(";")[0] for name, line in visits.items()}
        form = page.page.form("/sign-in").fields | {"name": OPERATOR, "password": PASSWORD}

        answer = await visitor("POST", "/sign-in", data=form, cookies=jar, allow_redirects=False)

    cookie = next(line for line in answer.cookies if SESSION_COOKIE in line)
    attributes = {part.strip() for part in cookie.split(";")[1:]}
    assert {"HttpOnly", "SameSite=Lax", "Path=/"} <= attributes
    assert ("Secure" in attributes, cookie.startswith("__Host-")) == (secure, secure)


async def test_a_session_ends(database: str) -> None:
    """After the configured time one has to sign in again."""
    clock = FakeClock()
    async with serving_pages(database, clock=clock) as served:
        visitor = await served.operator()
        clock.advance(3599)
        still = await visitor.get("/")
        clock.advance(2)

        # the cookie is shown although a browser would have dropped it
        over = await visitor.get("/", allow_redirects=False)

    assert (still.status, over.status) == (200, 303)


async def test_signing_out_ends_the_session(served: Served) -> None:
    """On the server, too: the token is worth nothing any more."""
    visitor = await served.operator()
    token = visitor.cookie(SESSION_COOKIE) or ""

    answer = await visitor.submit(await visitor.get("/"), "/sign-out")

    assert (answer.path, "You are signed out." in answer.text) == ("/sign-in", True)
    assert await served.admin.operator_of(token) is None


async def test_another_password_and_removal_end_sessions(served: Served) -> None:
    """At once."""
    await served.admin.create_operator("bob", PASSWORD)
    visitor = served.visitor()
    await visitor.sign_in("bob")
    await served.admin.set_password("bob", "another horse battery")
    changed = await visitor.get("/", allow_redirects=False)
    signed_in = await visitor.sign_in("bob", "another horse battery")
    await served.admin.remove_operator("bob")

    removed = await visitor.get("/", allow_redirects=False)

    assert (changed.status, signed_in.status, removed.status) == (303, 200, 303)


async def test_a_made_up_session_lets_nobody_in(served: Served) -> None:
    """Whatever it looks like."""
    statuses = [
        (await served.visitor().get("/", cookies={SESSION_COOKIE: token}, allow_redirects=False)).status
        for token in ("x", "", "a" * 3000, "header:anna")
    ]

    assert statuses == [303] * 4


# forms


@pytest.mark.parametrize(
    "headers, token",
    [
        pytest.param({}, None, id="no token"),
        pytest.param({}, "AAAA", id="foreign token"),
        pytest.param({}, "ünïcödé", id="odd token"),
        pytest.param({"Sec-Fetch-Site": "cross-site"}, "own", id="another site"),
        pytest.param({"Sec-Fetch-Site": "same-site"}, "own", id="a site beside it"),
        pytest.param({"Origin": "null"}, "own", id="no origin"),
    ],
)
async def test_a_form_from_elsewhere_is_refused(served: Served, headers: dict[str, str], token: str | None) -> None:
    """By what the browser says, and by the token; nothing is done."""
    visitor = await served.operator()
    page = await visitor.get("/")
    fields = {} if token == "own" else {"form_token": token}

    answer = await visitor.submit(page, "/sign-out", sending=headers, **fields)

    assert answer.status == 409
    assert "did not come from a page of your session" in answer.text
    assert (await visitor.get("/")).status == 200


async def test_a_form_of_another_session_is_refused(served: Served) -> None:
    """Tokens belong to one session."""
    page = await (await served.operator()).get("/")
    visitor = await served.operator()

    answer = await visitor.submit(page, "/sign-out")

    assert answer.status == 409


async def test_a_form_as_browsers_send_it_is_taken(served: Served) -> None:
    """With the headers that they add."""
    visitor = await served.operator()
    headers = {"Sec-Fetch-Site": "same-origin", "Origin": served.ops}

    answer = await visitor.submit(await visitor.get("/"), "/sign-out", sending=headers)

    assert answer.path == "/sign-in"


async def test_strangers_can_send_little(served: Served) -> None:
    """Neither much, nor no one knows how much."""

    async def slowly() -> AsyncIterator[bytes]:
        yield b"name=anna"

    visitor = served.visitor()

    big = await visitor("POST", "/sign-in", data=b"a" * (OPEN_BYTES + 1))
    endless = await visitor("POST", "/sign-in", data=slowly())

    assert (big.status, endless.status) == (413, 411)


@pytest.mark.parametrize(
    "content_type, body",
    [
        ("multipart/form-data; boundary=x", b"--x\r\nbroken"),
        (
            "multipart/form-data; boundary=x",
            b'--x\r\nContent-Disposition: form-data; name="name"\r\n\r\n\xff\r\n--x--\r\n',
        ),
        ("multipart/form-data", b"x"),
        ("application/x-www-form-urlencoded; charset=none-such", b"name=anna"),
        ("application/x-www-form-urlencoded", b"name=%00&password=%ff"),
        ("application/x-www-form-urlencoded", b"\xff=\xff"),
        ("application/json", b"{}"),
    ],
)
async def test_broken_forms_are_no_fault_of_ours(served: Served, content_type: str, body: bytes) -> None:
    """Whoever sends them."""
    answer = await served.visitor()("POST", "/sign-in", data=body, headers={"Content-Type": content_type})

    assert 400 <= answer.status < 500


# behind a proxy


async def test_a_trusted_proxy_names_the_operator(database: str) -> None:
    """Nobody signs in, and there is no place for it."""
    async with serving_pages(database, access=headed()) as served:
        visitor = served.visitor()
        answer = await visitor.get("/", headers={"X-User": "bob"})
        form = await visitor.get("/sign-in", headers={"X-User": "bob"})

    assert (answer.status, form.status) == (200, 404)
    assert "signed in as bob" in answer.text
    assert "Sign out" not in answer.text


@pytest.mark.parametrize(
    "proxies, names",
    [
        pytest.param((ip_network("192.0.2.0/24"),), ["bob"], id="from elsewhere"),
        pytest.param((), ["bob"], id="no proxy is trusted"),
        pytest.param(LOOPBACK, [], id="it names nobody"),
        pytest.param(LOOPBACK, [""], id="it names nothing"),
        pytest.param(LOOPBACK, ["bob", "eve"], id="two names"),
        pytest.param(LOOPBACK, ["b" * 256], id="a long name"),
    ],
)
async def test_a_header_from_others_counts_for_nothing(database: str, proxies: Any, names: list[str]) -> None:
    """Whoever can reach the listener could write it."""
    async with serving_pages(database, access=headed(proxies=proxies)) as served:
        answer = await served.visitor().get("/", headers=[("X-User", name) for name in names])

    assert answer.status == 403
    assert "The proxy in front did not say who you are." in answer.text


async def test_who_asks_is_no_proxy_because_a_header_says_so(database: str) -> None:
    """`X-Forwarded-For` makes nobody trusted."""
    async with serving_pages(database, access=headed(proxies=(ip_network("192.0.2.1/32"),))) as served:
        headers = {"X-User": "bob", "X-Forwarded-For": "192.0.2.1"}
        answer = await served.visitor().get("/", headers=headers)

    assert answer.status == 403


async def test_forms_are_protected_behind_a_proxy_too(database: str) -> None:
    """Its header comes with every request, a forged one included: the token decides."""
    async with serving_pages(database, access=headed()) as served:
        answer = await served.visitor()("POST", "/", headers={"X-User": "bob"}, data={})

    assert answer.status == 409


@pytest.mark.parametrize(
    "told, address",
    [
        ("203.0.113.7", "203.0.113.7"),
        ("198.51.100.9, 203.0.113.7", "203.0.113.7"),
        ("203.0.113.7, 127.0.0.1", "203.0.113.7"),
        ("nonsense", "127.0.0.1"),
    ],
    ids=["one", "somebody made the first one up", "two proxies", "no address"],
)
async def test_a_proxy_tells_for_whom_it_asks(database: str, told: str, address: str) -> None:
    """Tries are counted, and deeds noted, by where people are."""
    access = Access(session=3600.0, trusted_proxies=LOOPBACK)
    async with serving_pages(database, access=access) as served:
        visitor = served.visitor()
        page = await visitor.get("/sign-in")
        await visitor.submit(page, "/sign-in", sending={"X-Forwarded-For": told}, name=OPERATOR, password=PASSWORD)

        entry = (await served.admin.audit_page()).entries[0]

    assert entry.address == address


# what every answer carries


async def test_every_answer_is_protected(served: Served) -> None:
    """Pages, errors, files and refusals, on both listeners."""
    operator, stranger = await served.operator(), served.visitor()
    await make_tenant(served, "acme")
    guest = await served.guest("acme")
    answers = [
        await operator.get("/"),
        await operator.get("/nowhere"),
        await operator.get("/sign-out"),
        await operator("POST", "/sign-out"),
        await operator.get("/static/console.css"),
        await operator.get("/static/nothing.css"),
        await stranger.get("/", allow_redirects=False),
        await stranger.get("/sign-in"),
        await stranger.get("/metrics"),
        await guest.get("/portal/nowhere"),
        await served.visitor(served.api).get("/portal"),
        await served.visitor(served.api).get("/portal/enter?token=x"),
    ]

    assert [answer.status for answer in answers] == [200, 404, 405, 409, 200, 404, 303, 200, 200, 404, 403, 403]
    for answer in answers:
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'; script-src 'self'; style-src 'self'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["X-Frame-Options"] == "DENY"
        assert answer.headers["Referrer-Policy"] == "same-origin"
        is_file = answer.path.startswith("/static/console")
        assert ("immutable" if is_file else "no-store") in answer.headers["Cache-Control"]


@pytest.mark.parametrize("path", ["/", "/audit", "/nowhere", "/sign-in"])
async def test_pages_hold_no_inline_script_or_style(served: Served, path: str) -> None:
    """Nothing that the policy would refuse."""
    page = (await (await served.operator()).get(path)).page

    inline = [attributes for tag, attributes in page.elements if tag == "script" and "src" not in attributes]
    assert all(attributes.get("type") == "application/json" for attributes in inline)
    assert not page.having("style")
    assert not [name for _, attributes in page.elements for name in attributes if name == "style" or name[:2] == "on"]


@pytest.mark.parametrize(
    "path",
    [
        "/static/..%2ftemplates%2fbase.html",
        "/static/..%2f..%2f..%2fdispatcher%2fconsole%2fstatic%2fconsole.css",
        "/static/%2e%2e%2fstatic%2fconsole.css",
        "/static/%2fetc%2fpasswd.css",
        "/static/NOTICE",
        "/static/",
        "/static/a%00.css",
    ],
)
async def test_no_other_file_is_served(served: Served, path: str) -> None:
    """No name leads out of the folder."""
    status = await asked(served.ops, path)

    assert status in (303, 404, 422)


async def asked(url: str, path: str) -> int:
    """Ask for a path as it is written, which clients mend, without a session."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    head = (await reader.read()).split(b"\r\n", 1)[0]
    writer.close()
    await writer.wait_closed()
    return int(head.split()[1])


async def test_paths_that_only_look_open_are_not(served: Served) -> None:
    """What the router takes for another page needs a session."""
    paths = ["/sign-in/../audit", "/static/../audit", "//audit", "/csp-report/../audit", "/%61udit", "/audit/"]

    statuses = [await asked(served.ops, path) for path in paths]

    assert 200 not in statuses


async def test_reports_of_browsers_are_logged_and_bounded(database: str) -> None:
    """From anybody, so not many, and each cut."""
    clock = FakeClock()
    async with serving_pages(database, clock=clock) as served:
        visitor = served.visitor()
        with capture_logs() as logs:
            answers = [await visitor("POST", "/csp-report", data=b"r" * 8000) for _ in range(REPORTS + 5)]
            clock.advance(61)
            await visitor("POST", "/csp-report", data=b"{}")
            await visitor("POST", f"{served.api}/portal/csp-report", data=b"{}")

    reports = [line for line in logs if line["event"] == "console.policy_violated"]
    dropped = [line["count"] for line in logs if line["event"] == "console.policy_reports_dropped"]
    assert {answer.status for answer in answers} == {204}
    assert len(reports) == REPORTS + 2
    assert {len(line["report"]) for line in reports} == {REPORT_BYTES, 2}
    assert dropped == [5]


async def test_a_big_report_is_refused(served: Served) -> None:
    """Nothing of it is read."""
    answer = await served.visitor()("POST", "/csp-report", data=b"r" * (OPEN_BYTES + 1))

    assert answer.status == 413


# links for tenants


@pytest.fixture
async def links(database: str) -> AsyncIterator[tuple[Served, FakeClock]]:
    """Both listeners with two tenants, and time."""
    clock = FakeClock()
    async with serving_pages(database, clock=clock) as served:
        await make_tenant(served, "acme")
        await make_tenant(served, "beta")
        yield served, clock


async def make_tenant(served: Served, name: str) -> None:
    """Register a tenant, unless there is one."""
    if name not in {known.name for known in await served.admin.list_tenants()}:
        await served.admin.create_tenant(name)


async def entered(served: Served, url: str) -> tuple[Visitor, Answer]:
    """Somebody who follows a link."""
    visitor = served.visitor(served.api)
    return visitor, await visitor.get(url)


async def test_a_link_opens_its_tenants_pages(links: tuple[Served, FakeClock]) -> None:
    """And the address shows the token no more."""
    served, _ = links

    visitor, answer = await entered(served, (await served.admin.create_portal_link("acme")).url)

    assert (answer.status, answer.path) == (200, "/portal/endpoints")
    assert "for acme" in answer.text
    assert visitor.cookie(LINK_COOKIE) is not None


async def test_the_cookie_of_a_link_stays_below_the_portal(links: tuple[Served, FakeClock]) -> None:
    """The API of the same listener never sees it, and no script does."""
    served, _ = links
    url = (await served.admin.create_portal_link("acme")).url

    answer = await served.visitor(served.api).get(url, allow_redirects=False)

    attributes = {part.strip() for part in answer.cookies[0].split(";")[1:]}
    assert {"HttpOnly", "SameSite=Lax", "Path=/portal"} <= attributes


async def test_a_link_ends_for_who_is_in_as_well(links: tuple[Served, FakeClock]) -> None:
    """Each request looks at it again."""
    served, clock = links
    url = (await served.admin.create_portal_link("acme", expires_in="10m")).url
    visitor, _ = await entered(served, url)
    clock.advance(601)

    inside, outside = await visitor.get("/portal/endpoints"), (await entered(served, url))[1]

    assert (inside.status, outside.status) == (403, 403)
    assert "This link is over" in inside.text


@pytest.mark.parametrize("change", ["", "x", ".", "x.y"], ids=["none", "no dot", "empty", "made up"])
async def test_a_link_that_is_none_is_refused(links: tuple[Served, FakeClock], change: str) -> None:
    """With a page that says so."""
    served, _ = links

    _, answer = await entered(served, f"{served.api}/portal/enter?token={change}")

    assert answer.status == 403


async def test_a_link_cannot_be_turned_into_another_tenants(links: tuple[Served, FakeClock]) -> None:
    """The name and the end are signed."""
    served, _ = links
    acme, beta = [(await served.admin.create_portal_link(name)).url for name in ("acme", "beta")]
    said = beta.rpartition("=")[2].partition(".")[0]
    signature = acme.rpartition(".")[2]

    _, answer = await entered(served, f"{served.api}/portal/enter?token={said}.{signature}")

    assert answer.status == 403


async def test_a_link_of_another_installation_is_refused(links: tuple[Served, FakeClock]) -> None:
    """Whose key is another."""
    from dispatcher.admin import ConsoleKey

    served, _ = links
    token = ConsoleKey(bytes(32)).link_token("acme", 2_000_000_000)

    _, answer = await entered(served, f"{served.api}/portal/enter?token={token}")

    assert answer.status == 403


async def test_a_link_of_a_tenant_that_is_not_there_is_refused(links: tuple[Served, FakeClock]) -> None:
    """Signed or not."""
    served, clock = links
    token = (await served.admin.console_key()).link_token("gone", int(clock.now()) + 600)

    _, answer = await entered(served, f"{served.api}/portal/enter?token={token}")

    assert answer.status == 403


async def test_a_link_opens_no_page_of_operators(links: tuple[Served, FakeClock]) -> None:
    """Neither below the portal, nor on the other listener."""
    served, _ = links
    visitor = await served.guest("acme")
    token = visitor.cookie(LINK_COOKIE) or ""

    below = [
        (await visitor.get(f"/portal/{name}")).status for name in ("audit", "events", "system", "catalogue", "tail")
    ]
    beside = await served.visitor().get("/", cookies={SESSION_COOKIE: token}, allow_redirects=False)

    assert (below, beside.status) == ([404] * 5, 303)


async def test_a_session_of_an_operator_is_no_link(links: tuple[Served, FakeClock]) -> None:
    """Each door has keys of its own."""
    served, _ = links
    token = (await served.operator()).cookie(SESSION_COOKIE) or ""

    answer = await served.visitor(served.api).get("/portal/endpoints", cookies={LINK_COOKIE: token})

    assert answer.status == 403


async def test_forms_of_tenants_are_protected(links: tuple[Served, FakeClock]) -> None:
    """A link's cookie alone does nothing."""
    served, _ = links
    visitor = await served.guest("acme")

    answer = await visitor("POST", "/portal/endpoints/new", data={})

    assert answer.status == 409
