"""What people come to the console for, from the beginning to the end: with scripts and without, by mouse and by keyboard."""

import re
from dataclasses import dataclass
from typing import Any, Literal
from uuid import UUID

import pytest
from playwright.async_api import Locator, Page, expect

from support.browser import MARKS, PHONE, Open, Screen
from support.console import Console
from support.lively import portal_link
from support.receiver import Receiver, answer
from support.world import insert_event, make_endpoint, until

pytestmark = MARKS

Scripts = Literal["on", "off"]

READ_ONLY = answer(500, headers={"Content-Type": "application/json"}, body=b'{"error": "the database is read-only"}')

MOST_TABS = 200
"""To any place of a page."""


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody who looks at a screen, and loads pages anew where no script does."""

    screen: Screen
    scripts: Scripts

    @property
    def page(self) -> Page:
        """What they see."""
        return self.screen.page

    async def click(self, name: str, *, role: Literal["link", "button"] = "link") -> None:
        """Click on what has this name."""
        await self.page.get_by_role(role, name=name, exact=True).first.click()

    async def fill(self, **fields: str) -> None:
        """Fill fields in, by their names; those in a fold are unfolded first."""
        for name, text in fields.items():
            field = self.page.locator(f"[name={name}]").first
            fold = self.page.locator("details:not([open])").filter(has=field)
            if await fold.count():
                await fold.locator("summary").click()
            await field.fill(text)

    async def sees(self, wanted: Locator) -> None:
        """Wait until it is there: of itself, or because the page is loaded again."""
        if self.scripts == "on":
            await expect(wanted.first).to_be_visible(timeout=20_000)
            return

        async def there() -> bool:
            await self.page.reload()
            return await wanted.first.is_visible()

        await until(there, timeout=20, why=str(wanted))

    async def finds_it_sound(self) -> None:
        """Look at a page that cannot be asked for: no barrier, and nothing sticks out."""
        if self.scripts == "on":
            assert await self.screen.barriers() == []
            assert await self.screen.overflowing() == []


@pytest.mark.parametrize("scripts", ["on", "off"])
async def test_an_operator_mends_an_endpoint_and_replays_what_it_missed(
    open_screen: Open, console: Console, receiver: Receiver, connection: Any, scripts: Scripts
) -> None:
    """Registered, seen to fail, understood, mended, replayed, arrived: a producer inserts, all else is done in the console."""
    receiver.on("/old", READ_ONLY)
    person = Person(await open_screen(scripts=scripts), scripts)
    person.screen.expect("status of 422")  # of a tenant that is not there yet
    tenant = f"clinic-{scripts}"
    await console.sign_in(person.screen)

    await registers(person, tenant, f"{receiver.url}/old")
    await person.click("Live tail")
    event = await insert_event(connection, tenant=tenant)
    await reads_why(person, tenant)
    await mends(person, f"{receiver.url}/new")
    await replays(person)

    (arrived,) = await receiver.wait_for(1, path="/new")
    assert arrived.headers["webhook-id"] == str(event)
    await person.click("Deliveries")
    states = person.page.get_by_role("row").filter(has_text=tenant).locator("td[data-label=State]")
    await expect(states).to_have_text([re.compile("delivered"), "dead"])
    await was_noted(person, ["replay.created", "endpoint.changed", "endpoint.created", "tenant.created"])


async def registers(person: Person, tenant: str, url: str) -> None:
    """Register an endpoint of a tenant that nobody knows yet; what is tried once only dies at once."""
    await person.click("Endpoints")
    await person.click("New endpoint")
    await person.fill(tenant=tenant, url=url, subscriptions="*", retry_schedule="none", description="Scheduling")
    await person.click("Register", role="button")
    await expect(person.page.get_by_text("There is no tenant").first).to_be_visible()
    await person.finds_it_sound()
    await person.page.get_by_label("It is a new tenant: register it").check()
    await person.click("Register", role="button")
    await expect(person.page.get_by_text("The endpoint is registered.")).to_be_visible()
    await expect(person.page.locator("#secret-1")).to_have_text(re.compile("^whsec_"))
    await person.finds_it_sound()


async def reads_why(person: Person, tenant: str) -> None:
    """See in the live tail that an attempt failed, and read all of it."""
    row = person.page.get_by_role("row").filter(has_text=tenant)
    await person.sees(row.get_by_text("500"))
    await row.locator("td[data-label=Delivery] a").click()
    why = person.page.get_by_role("region", name="Why")
    await person.sees(why.get_by_text("500"))
    await expect(person.page.get_by_role("heading", level=1)).to_contain_text("dead")
    await expect(person.page.get_by_text('"error": "the database is read-only"')).to_be_visible()
    await person.click("Check the signature")
    await expect(person.page.locator("#attempt-1")).to_contain_text("valid")


async def mends(person: Person, url: str) -> None:
    """Go from the delivery to its endpoint, change its URL and try it."""
    await person.page.get_by_role("region", name="What").get_by_role("link", name="/old").click()
    await person.click("Edit")
    await person.fill(url=url)
    await person.click("Save", role="button")
    await expect(person.page.get_by_text("Saved.")).to_be_visible()
    await expect(person.page.get_by_role("heading", level=1)).to_have_text(url)


async def replays(person: Person) -> None:
    """Send again what died: count it, begin, and see the end."""
    await person.click("Replay some")
    await person.click("Count first", role="button")
    await expect(person.page.get_by_role("status")).to_contain_text("1 would be sent again")
    await person.finds_it_sound()
    await person.click("Begin", role="button")
    await person.sees(person.page.get_by_role("heading", level=1).get_by_text("done"))
    await expect(person.page.get_by_role("heading", name="1 sent again")).to_be_visible()


async def was_noted(person: Person, deeds: list[str]) -> None:
    """Find what was done in the audit log, the latest first."""
    await person.click("Audit log")
    noted = await person.page.locator("td[data-label=What]").all_inner_texts()
    assert [deed for deed in noted if not deed.startswith("operator.")][: len(deeds)] == deeds


async def test_by_keyboard_a_delivery_is_sent_again(screen: Screen, receiver: Receiver, connection: Any) -> None:
    """Past the list of pages, to the delivery, to the button: the subscriber works again, and gets it."""
    receiver.on("/hook", READ_ONLY, answer(204))
    endpoint = await make_endpoint(connection, f"{receiver.url}/hook", tenant="keys", retry_schedule=[3600.0])
    await insert_event(connection, tenant="keys")
    await until(lambda: attempts(connection, endpoint), why="an attempt")
    await screen.go(f"/deliveries?webhook={endpoint}")

    await screen.press("Tab", "Enter")
    assert await screen.page.evaluate("document.activeElement.id") == "main"
    await tab_to(screen, "td[data-label=Delivery] a")
    await screen.press("Enter")
    await screen.page.get_by_role("heading", level=1).get_by_text("pending").wait_for()
    await tab_to(screen, "button.primary")
    await screen.press("Space")

    await screen.page.get_by_text("It is due now.").wait_for()
    first, again = await receiver.wait_for(2)
    assert again.headers["webhook-id"] == first.headers["webhook-id"]


async def attempts(connection: Any, endpoint: UUID) -> int:
    """How many were made to an endpoint."""
    count: int = await connection.fetchval("select count(*) from dispatcher.attempts where endpoint_id = $1", endpoint)
    return count


async def tab_to(screen: Screen, selector: str) -> None:
    """Press Tab until what is meant has the focus."""
    for _ in range(MOST_TABS):
        await screen.press("Tab")
        if await screen.page.evaluate("(one) => document.activeElement.matches(one)", selector):
            return
    raise AssertionError(f"Tab does not get to {selector}.")


async def test_a_tenants_people_help_themselves(
    open_screen: Open, console: Console, receiver: Receiver, connection: Any
) -> None:
    """By a link, on a telephone: they see their own endpoints and deliveries, and nothing else."""
    theirs = await make_endpoint(connection, f"{receiver.url}/theirs", tenant="north")
    other = await make_endpoint(connection, f"{receiver.url}/other", tenant="south")
    for tenant in ("north", "south"):
        await insert_event(connection, f"of.{tenant}", tenant=tenant)
    await until(lambda: attempts(connection, theirs), why="their attempt")
    await until(lambda: attempts(connection, other), why="the other's attempt")
    screen = await open_screen(size=PHONE)
    screen.expect("status of 404")
    page = screen.page

    await screen.go(await portal_link(console, "north"))

    assert await page.get_by_role("navigation", name="Pages").get_by_role("link").all_inner_texts() == [
        "Endpoints",
        "Deliveries",
        "Replays",
    ]
    assert await page.locator("td[data-label=Endpoint] a").all_inner_texts() == [f"{receiver.url}/theirs"]
    await page.get_by_role("link", name="Deliveries").click()
    assert await page.locator("td[data-label='Event type']").all_inner_texts() == ["of.north"]
    assert await screen.go(f"{console.api}/portal/endpoints/{other}") == 404
    await expect(page.get_by_role("heading", level=1)).to_have_text("Not there")
    assert await screen.go(f"{console.api}/portal/audit") == 404
    await sends_a_test(screen, receiver)


async def sends_a_test(screen: Screen, receiver: Receiver) -> None:
    """Register an endpoint where no tenant is asked for, and see that it works."""
    person = Person(screen, "on")
    await person.click("Endpoints")
    await person.click("New endpoint")
    assert await person.page.get_by_label("Tenant", exact=True).count() == 0
    await person.fill(url=f"{receiver.url}/new", subscriptions="appointment.*")
    await person.click("Register", role="button")
    await person.finds_it_sound()
    await person.click("Send a test", role="button")
    await expect(person.page.get_by_text("It arrived")).to_be_visible()
    await receiver.wait_for(1, path="/new")


async def test_a_link_that_is_over_lets_nobody_in(open_screen: Open, console: Console, connection: Any) -> None:
    """Neither who follows it late, nor who kept what it gave."""
    await make_endpoint(connection, "https://example.com/", tenant="late")
    link = await portal_link(console, "late", expires_in="1s")
    screen = await open_screen()
    screen.expect("status of 403")

    await until(lambda: refused(screen, link), timeout=20, why="the end of the link")

    await expect(screen.page.get_by_role("alert")).to_contain_text("This link is over")
    await screen.page.context.add_cookies(
        [{"name": "dispatcher_portal", "value": link.partition("token=")[2], "url": console.api}]
    )
    assert await screen.go(f"{console.api}/portal/deliveries") == 403


async def refused(screen: Screen, address: str) -> bool:
    """Whether nobody is let in."""
    return await screen.go(address) == 403
