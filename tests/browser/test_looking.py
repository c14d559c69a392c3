"""What screens take note of, they do take note of: pages with one fault each, beside one with none."""

from collections.abc import AsyncIterator
from urllib.parse import urlencode

import pytest
import pytest_asyncio
from aiohttp import web
from playwright.async_api import Browser

from support.browser import MARKS, PHONE, Screen, showing
from support.world import until

pytestmark = MARKS

POLICY = "default-src 'none'; script-src 'self'; style-src 'unsafe-inline'; img-src *; report-uri /csp-report"

SOUND = """
<main><h1>Sound</h1><p>Words. <a href="/">A link</a></p>
<label>Name <input name="name"></label> <label>When <input type="datetime-local"></label>
<details><summary>More</summary><a href="/">Hidden</a></details>
<div style="overflow-x: auto" tabindex="0" role="region" aria-label="Wide">
<div style="width: 900px">It scrolls by itself.</div></div></main>
"""


async def page(request: web.Request) -> web.Response:
    """A page with the query's `body`."""
    text = f'<!doctype html><html lang="en"><title>A page</title><body>{request.query.get("body", "")}'
    return web.Response(text=text, content_type="text/html", headers={"Content-Security-Policy": POLICY})


async def script(request: web.Request) -> web.Response:
    """The query's `code`."""
    return web.Response(text=request.query["code"], content_type="text/javascript")


async def nothing(request: web.Request) -> web.Response:
    """An icon, or thanks for a report."""
    return web.Response(status=204)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def origin() -> AsyncIterator[str]:
    """Where the pages are."""
    app = web.Application()
    app.router.add_get("/", page)
    app.router.add_get("/script", script)
    app.router.add_get("/favicon.ico", nothing)
    app.router.add_post("/csp-report", nothing)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield "http://{}:{}".format(*runner.addresses[0])
    await runner.cleanup()


@pytest_asyncio.fixture(loop_scope="session")
async def looker(browser: Browser, origin: str) -> AsyncIterator[Screen]:
    """A telephone's screen, whose faults are the test's business."""
    async with showing(browser, [origin], size=PHONE) as screen:
        yield screen
        screen.expect("")


async def show(screen: Screen, body: str) -> None:
    """Go to a page with this in its body."""
    await screen.go(f"/?{urlencode({'body': body})}")


async def test_a_sound_page_is_left_alone(looker: Screen) -> None:
    """Nothing is found where nothing is wrong."""
    await show(looker, SOUND)

    assert await looker.barriers() == []
    assert await looker.overflowing() == []
    assert await looker.unreachable() == []
    assert looker.faults == []


@pytest.mark.parametrize(
    "body, rule",
    [
        pytest.param("<input>", "label", id="a field without a label"),
        pytest.param('<p style="color: #bbb; background: #fff">Faint.</p>', "color-contrast", id="faint words"),
        pytest.param('<img src="data:image/gif;base64,R0lGODlhAQABAAAAACw=">', "image-alt", id="a silent picture"),
    ],
)
async def test_barriers_are_found(looker: Screen, body: str, rule: str) -> None:
    """What keeps people out is named by axe-core's rule."""
    await show(looker, body)

    assert [found.partition(":")[0] for found in await looker.barriers()] == [rule]


async def test_what_sticks_out_is_found(looker: Screen) -> None:
    """A box wider than a telephone."""
    await show(looker, '<div style="width: 500px">wide</div>')

    assert await looker.overflowing() == ["the page", "div wide"]


@pytest.mark.parametrize(
    "body, missed",
    [
        pytest.param('<a href="/">seen</a><a href="/" style="outline: none">unseen</a>', "a unseen", id="no ring"),
        pytest.param(
            '<button>first</button><button id="trap">second</button><script src="/script?code='
            "trap.onfocus = () => trap.previousSibling.focus()"
            '"></script><button>third</button>',
            "button third",
            id="a trap",
        ),
    ],
)
async def test_what_keys_do_not_reach_is_found(looker: Screen, body: str, missed: str) -> None:
    """Focus that is not seen, or does not get there."""
    await show(looker, body)

    assert missed in await looker.unreachable()


@pytest.mark.parametrize(
    "body, fault",
    [
        pytest.param(
            '<img alt="" src="http://example.com/x.png">', "outside: http://example.com/x.png", id="elsewhere"
        ),
        pytest.param(
            '<img alt="" src="http://127.0.0.1:9/x.png">', "outside: http://127.0.0.1:9/x.png", id="next door"
        ),
        pytest.param("<script>document.title = 'owned'</script>", 'policy: {"csp-report":', id="a script in the page"),
        pytest.param(
            '<img alt="" src="data:," onerror="document.title = 1">', 'policy: {"csp-report":', id="a handler"
        ),
        pytest.param('<script src="/script?code=console.warn(1)"></script>', "console: 1", id="a warning"),
        pytest.param('<script src="/script?code=throw new Error(1)"></script>', "script: 1", id="an error"),
    ],
)
async def test_what_must_not_happen_is_noted(looker: Screen, body: str, fault: str) -> None:
    """Requests that leave, scripts that were kept from running, errors of scripts that did run."""
    await show(looker, body)

    await until(lambda: any(found.startswith(fault) for found in looker.faults), why=f"{fault!r} in {looker.faults}")
