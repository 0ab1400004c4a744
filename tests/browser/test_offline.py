"""As shipped, with the model that ships, on a machine without a network: everything comes from this machine."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Visit, Visitors, start_app
from tests.serving import App


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """``python app.py`` with nothing but a port and a data directory."""
    made = start_app(tmp_path_factory.mktemp("offline") / "data")
    yield made
    assert made.attempts == []
    assert made.stop() == 0


def test_the_first_page_shows_what_there_is_without_asking_any_other_host(visitor: Visit) -> None:
    expect(visitor.page).to_have_title("Generative AI 101 Studio")
    expect(visitor.page.locator("#chip-device")).to_contain_text("Mote")
    expect(visitor.page.get_by_text("Ask Mote about generative AI")).to_be_visible()
    assert len(visitor.requests) > 10
    assert visitor.foreign_requests() == []


def test_pictures_and_fonts_are_there(visitor: Visit) -> None:
    expect(visitor.page.locator(".welcome img")).to_be_visible()
    broken = "[...document.images].filter((i) => i.complete && !i.naturalWidth).map((i) => i.src)"
    visitor.page.wait_for_function("[...document.images].every((i) => i.complete)")
    assert visitor.page.evaluate(broken) == []
    visitor.page.evaluate("document.fonts.ready")
    assert visitor.page.evaluate("[...document.fonts].filter((f) => f.status === 'error').length") == 0


def test_the_model_that_ships_answers(visitor: Visit) -> None:
    visitor.ask("What is a GAN?")
    expect(visitor.questions).to_have_text(["What is a GAN?"])
    visitor.wait_for_answer()
    expect(visitor.numbers).to_contain_text("mote")
    visitor.page.reload()
    expect(visitor.questions).to_have_text(["What is a GAN?"])
    assert visitor.foreign_requests() == []


def test_the_page_looks_as_it_should_with_the_browser_offline_after_loading(visitors: Visitors) -> None:
    """A phone that loses the network says so and finds back by itself."""
    visit = visitors()
    expect(visit.page.locator("#chip-load")).to_have_text("free now")
    visit.context.set_offline(True)
    expect(visit.page.locator("#chip-load")).to_have_text("no connection")
    visit.context.set_offline(False)
    expect(visit.page.locator("#chip-load")).to_have_text("free now")
    visit.complaints.clear()  # the browser itself reports the requests that failed


def test_the_page_opens_in_dark_and_light(visitors: Visitors) -> None:
    brightness = {}
    for scheme in ("light", "dark"):
        visit = visitors(color_scheme=scheme)
        colour = visit.page.evaluate("getComputedStyle(document.body).backgroundColor")
        brightness[scheme] = sum(int(part) for part in colour.strip("rgba()").split(",")[:3])
    assert brightness["light"] > 600 > 200 > brightness["dark"]
