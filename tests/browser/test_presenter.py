"""A room with a presenter: one person may change things for everybody, the others see that they may not."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Locator, expect

from tests.browser.conftest import Visit, Visitors, start_app
from tests.serving import App

PASSWORD = "open s\u00e9same"


@pytest.fixture(scope="module")
def app(two_models: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    folder = tmp_path_factory.mktemp("presenter") / "data"
    made = start_app(folder, two_models, "--chat-model", "tiny", "--presenter-password", PASSWORD)
    yield made
    made.stop()


def said(visit: Visit) -> Locator:
    return visit.page.locator("#presenter-said .card")


def controls(visit: Visit) -> Locator:
    return visit.page.locator("#presenter-apply")


def log_in(visit: Visit, password: str) -> None:
    visit.unfold("#presenter")
    visit.page.locator("#presenter-password input").fill(password)
    visit.page.locator("#presenter-login").click()


def set_limits(visit: Visit, seconds: str, tokens: str) -> None:
    visit.page.locator("#presenter-seconds input").fill(seconds)
    visit.page.locator("#presenter-tokens input").fill(tokens)
    visit.page.locator("#presenter-apply").click()


def test_an_attendee_sees_the_model_but_cannot_choose_another(visitor: Visit) -> None:
    expect(visitor.page.locator("#chat-model input")).to_be_disabled()
    expect(controls(visitor)).to_be_hidden()
    assert visitor.ask_and_wait("Hello")


def test_a_wrong_password_is_refused_with_a_card(visitor: Visit) -> None:
    log_in(visitor, "guess")
    expect(said(visitor)).to_contain_text("That is not the presenter's password.")
    expect(controls(visitor)).to_be_hidden()
    expect(visitor.page.locator("#presenter-password input")).to_have_value("")


def test_the_presenter_logs_in_stays_so_after_a_reload_and_logs_out(visitor: Visit) -> None:
    log_in(visitor, PASSWORD)
    expect(controls(visitor)).to_be_visible()
    expect(said(visitor)).to_contain_text("You are the presenter")
    visitor.open()
    visitor.unfold("#presenter")
    expect(controls(visitor)).to_be_visible()
    visitor.page.locator("#presenter-logout").click()
    expect(controls(visitor)).to_be_hidden()
    visitor.open()
    visitor.unfold("#presenter")
    expect(visitor.page.locator("#presenter-login")).to_be_visible()
    expect(controls(visitor)).to_be_hidden()


def test_a_changed_limit_holds_for_everybody_and_a_wrong_one_is_refused(visitors: Visitors) -> None:
    presenter, attendee = visitors(), visitors()
    log_in(presenter, PASSWORD)
    expect(controls(presenter)).to_be_visible()
    set_limits(presenter, "60", "20")
    expect(said(presenter)).to_contain_text("Limits set.")
    attendee.ask_and_wait("Hello")
    expect(attendee.numbers).to_contain_text("20 tokens")
    expect(attendee.numbers).to_contain_text("cut at the length limit")
    presenter.page.locator("#presenter-seconds input").fill("")
    presenter.page.locator("#presenter-apply").click()
    expect(said(presenter)).to_contain_text("time_limit_s must be a number")
    set_limits(presenter, "120", "1024")
    expect(said(presenter)).to_contain_text("Limits set.")


def test_the_presenter_changes_the_model_for_everybody(visitors: Visitors) -> None:
    presenter, attendee = visitors(), visitors()
    log_in(presenter, PASSWORD)
    expect(controls(presenter)).to_be_visible()
    for name in ("slow", "tiny"):
        presenter.choose("#presenter-model", name)
        presenter.page.locator("#presenter-apply").click()
        expect(said(presenter)).to_contain_text(f"{name}, because it was asked for")
        expect(attendee.page.locator("#chip-device")).to_contain_text(name)
    attendee.ask_and_wait("Hello")
    expect(attendee.numbers).to_contain_text("tiny")


def test_an_attendees_page_holds_neither_password_nor_rights(visitor: Visit) -> None:
    assert PASSWORD not in visitor.page.content()
    visitor.unfold("#presenter")
    expect(controls(visitor)).to_be_hidden()
