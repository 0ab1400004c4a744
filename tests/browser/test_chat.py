"""The chat tab as a person meets it: in a browser, with a mouse, a keyboard, a phone."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Locator, expect

from tests.browser.conftest import Visit, Visitors, start_app
from tests.serving import App

QUESTION = "What is a cat?"
PHONE = {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def app(two_models: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """The program without a password, answering with a tiny model that never ends by itself."""
    made = start_app(tmp_path_factory.mktemp("chat") / "data", two_models, "--chat-model", "tiny")
    yield made
    made.stop()


# --- asking and stopping ---------------------------------------------------------------------------------


def test_an_answer_arrives_token_by_token_and_ends_with_its_numbers(visitor: Visit) -> None:
    visitor.choose("#chat-model", "slow")
    lengths = visitor.records_of('#chat-messages [data-testid="bot"]')
    visitor.ask(QUESTION)
    expect(visitor.stop_button).to_be_visible()
    answer = visitor.wait_for_answer()
    grown = [length for length in lengths() if length > 1]
    assert len(grown) >= 5, "one sees it grow"
    assert grown == sorted(grown)
    assert len(answer) > 50
    expect(visitor.numbers).to_contain_text(re.compile(r"160 tokens.*tokens/s.*context \d+ of 2048.*seed.*slow"))
    expect(visitor.prompt).to_have_value("")


def test_stop_ends_an_answer_in_the_middle_and_keeps_it(visitor: Visit) -> None:
    visitor.start_slow_answer()
    visitor.stop_button.click()
    expect(visitor.ask_button).to_be_visible()
    expect(visitor.stop_button).to_be_hidden()
    expect(visitor.numbers).to_contain_text("Stopped")
    visitor.app.until(lambda now: now["running"] == 0, "stopped", 10)
    kept = visitor.answer
    assert kept
    visitor.page.wait_for_timeout(500)  # nothing to wait for: the text must not change any more
    assert visitor.answer == kept
    visitor.choose("#chat-model", "tiny")
    assert visitor.ask_and_wait("And now?")


def test_closing_the_page_in_the_middle_of_an_answer_frees_the_engine(visitor: Visit) -> None:
    visitor.start_slow_answer()
    visitor.app.until(lambda now: now["running"] == 1, "running")
    visitor.page.close()
    visitor.app.until(lambda now: now["running"] == 0, "free after the page was closed", 60)


def test_two_people_do_not_see_each_others_conversation(visitors: Visitors) -> None:
    one, other = visitors(), visitors()
    one.ask_and_wait("My secret plan")
    other.page.reload()
    expect(other.prompt).to_be_visible()
    expect(other.questions).to_have_count(0)
    other.ask_and_wait("Hello")
    expect(other.questions).to_have_text(["Hello"])
    expect(one.questions).to_have_text(["My secret plan"])


def test_an_example_is_asked_with_one_click(visitor: Visit) -> None:
    visitor.page.get_by_text("Who are you?").click()
    expect(visitor.questions).to_have_text(["Who are you?"])
    assert visitor.wait_for_answer()


def test_an_error_is_a_card_in_place_and_the_question_is_kept(visitor: Visit) -> None:
    visitor.ask_button.click()
    expect(visitor.error).to_contain_text("There is no question yet.")
    visitor.ask("x " * 400)
    expect(visitor.error).to_contain_text("128 at most")
    expect(visitor.prompt).to_have_value("x " * 400)
    expect(visitor.questions).to_have_count(0)
    assert visitor.ask_and_wait(QUESTION)
    expect(visitor.error).to_have_count(0)


# --- see inside ------------------------------------------------------------------------------------------


@pytest.fixture
def answered(visitor: Visit) -> Visit:
    """A page with one answer whose tokens are shown."""
    visitor.unfold("#chat-inside")
    visitor.ask_and_wait(QUESTION)
    expect(visitor.tokens.first).to_be_visible()
    return visitor


def bars(visitor: Visit) -> Locator:
    return visitor.page.locator("#chat-tokens .bar-row")


def token_texts(visitor: Visit) -> list[str]:
    found: list[str] = visitor.page.evaluate(
        "[...document.querySelectorAll('#chat-tokens .token-line .token')].map((t) => t.textContent)"
    )
    return found


def test_every_token_is_coloured_by_its_probability(answered: Visit) -> None:
    look = "(nodes) => nodes.map((n) => [n.className.match(/\\bp[0-4]\\b/)?.[0], getComputedStyle(n).backgroundColor])"
    seen = answered.tokens.evaluate_all(look)
    assert len(seen) > 20
    assert all(band and colour != "rgba(0, 0, 0, 0)" for band, colour in seen)
    colours = dict(map(tuple, seen))
    assert len(set(colours.values())) == len(colours) > 1, "each band has a colour of its own"
    assert "".join(token_texts(answered)).replace("\u00b7", " ").strip() == answered.answer


def test_a_click_on_a_token_shows_ten_bars_and_another_closes_them(answered: Visit) -> None:
    answered.tokens.nth(5).click()
    expect(bars(answered)).to_have_count(10)
    expect(answered.page.locator("#chat-tokens .bar-row.picked")).to_have_count(1)
    expect(answered.page.locator("#chat-tokens .bars")).to_contain_text("%")
    answered.tokens.nth(5).click()
    expect(bars(answered)).to_have_count(0)


def test_a_branch_changes_the_answer_from_that_token_on_and_can_be_undone(answered: Visit) -> None:
    before, text = token_texts(answered), answered.answer
    answered.tokens.nth(6).click()
    row = bars(answered).filter(has=answered.page.get_by_role("button", name="Continue the answer with")).first
    other = row.locator(".bar-token").inner_text()
    row.get_by_role("button").click()
    expect(answered.page.locator("#chat-unbranch")).to_be_visible()
    answered.wait_for_answer()
    after = token_texts(answered)
    assert after[:6] == before[:6]
    assert after[6] == other != before[6]
    assert answered.answer != text
    expect(answered.questions).to_have_text([QUESTION])
    answered.page.locator("#chat-unbranch").click()
    expect(answered.answers.last).to_have_text(text)
    expect(answered.page.locator("#chat-unbranch")).to_be_hidden()
    assert token_texts(answered) == before


def test_the_prompt_is_shown_as_the_tokens_that_the_model_sees(answered: Visit) -> None:
    answered.page.get_by_role("tab", name="Prompt").click()
    texts = token_texts(answered)
    assert "<|user|>" in texts
    assert QUESTION in "".join(texts).replace("\u00b7", " ")


def test_whether_the_tokens_are_shown_is_remembered(answered: Visit) -> None:
    answered.open()
    expect(answered.page.locator("#chat-inside > button.label-wrap")).to_have_class(re.compile(r"\bopen\b"))


# --- otherwise, again, back ------------------------------------------------------------------------------


def test_regenerate_again_exactly_and_undo(visitor: Visit) -> None:
    visitor.unfold("#chat-more")
    visitor.set_number("temperature", 2)
    first = visitor.ask_and_wait(QUESTION)
    visitor.page.get_by_role("button", name="Retry").click()
    expect(visitor.answers.last).not_to_have_text(first)
    second = visitor.wait_for_answer()
    assert second != first
    visitor.set_number("temperature", 0)
    with visitor.page.expect_request("**/queue/join*"):
        visitor.page.locator("#chat-again").click()
    expect(visitor.stop_button).to_be_hidden()
    assert visitor.wait_for_answer() == second
    visitor.page.get_by_role("button", name="Undo", exact=True).click()
    expect(visitor.prompt).to_have_value(QUESTION)
    expect(visitor.answers).to_have_count(0)
    expect(visitor.page.locator("#chat-again")).to_be_hidden()


def test_an_edited_question_is_answered_in_place_of_the_old_one(visitor: Visit) -> None:
    visitor.ask_and_wait(QUESTION)
    visitor.questions.first.hover()
    visitor.page.get_by_role("button", name="Edit").first.click()
    box = visitor.page.locator("#chat-messages textarea")
    box.fill("What is a rat?")
    visitor.page.get_by_role("button", name="Submit").click()
    expect(visitor.questions).to_have_text(["What is a rat?"])
    assert visitor.wait_for_answer()
    expect(visitor.answers).to_have_count(1)


def test_a_reload_keeps_the_conversation_and_its_likes(visitor: Visit) -> None:
    answer = visitor.ask_and_wait(QUESTION)
    kept = visitor.stored("studio-chat")
    visitor.page.get_by_role("button", name="Like", exact=True).click()
    visitor.page.wait_for_function("(kept) => localStorage.getItem('studio-chat') !== kept", arg=kept)
    visitor.open()
    expect(visitor.questions).to_have_text([QUESTION])
    expect(visitor.answers).to_have_text([answer])
    expect(visitor.page.get_by_role("button", name="Liked")).to_be_visible()


def test_conversations_can_be_started_switched_and_deleted(visitor: Visit) -> None:
    picker = visitor.page.locator("#chat-conversations input")
    visitor.ask_and_wait("First question")
    visitor.page.locator("#chat-new").click()
    expect(visitor.questions).to_have_count(0)
    visitor.ask_and_wait("Second question")
    expect(picker).to_have_value("Second question")
    visitor.choose("#chat-conversations", "First question")
    expect(visitor.questions).to_have_text(["First question"])
    visitor.open()
    expect(visitor.questions).to_have_text(["First question"])
    visitor.page.locator("#chat-delete").click()
    expect(visitor.questions).to_have_text(["Second question"])
    visitor.page.locator("#chat-delete").click()
    expect(visitor.questions).to_have_count(0)
    visitor.open()
    expect(visitor.questions).to_have_count(0)


def test_a_new_conversation_in_the_middle_of_an_answer_stays_new(visitor: Visit) -> None:
    visitor.start_slow_answer("A long story")
    visitor.page.locator("#chat-new").click()
    expect(visitor.questions).to_have_count(0)
    expect(visitor.ask_button).to_be_visible()
    expect(visitor.stop_button).to_be_hidden()
    visitor.app.until(lambda now: now["running"] == 0, "stopped", 60)
    visitor.page.wait_for_timeout(500)  # nothing to wait for: the old answer must not come back
    expect(visitor.questions).to_have_count(0)
    visitor.choose("#chat-model", "tiny")
    visitor.ask_and_wait("Something short")
    expect(visitor.questions).to_have_text(["Something short"])


def test_enter_during_an_answer_neither_loses_the_question_nor_mixes_answers(visitor: Visit) -> None:
    visitor.choose("#chat-model", "slow")
    visitor.unfold("#chat-more")
    visitor.set_number("max_new_tokens", 1024)
    visitor.page.get_by_text("Who are you?").click()
    expect(visitor.numbers).to_contain_text("Writing")
    visitor.prompt.fill("And then?")
    visitor.prompt.press("Enter")
    expect(visitor.error).to_contain_text("still being written")
    expect(visitor.prompt).to_have_value("And then?")
    expect(visitor.questions).to_have_text(["Who are you?"])
    visitor.stop_button.click()
    expect(visitor.numbers).to_contain_text("Stopped")


# --- hostile text ----------------------------------------------------------------------------------------


def as_shown(text: str) -> str:
    """A pattern for text as a person sees it: between any two characters may stand one that takes no room."""
    return "\u2060?".join(re.escape(character) for character in text)


def test_markup_in_a_question_is_shown_as_text_and_runs_nothing(visitor: Visit) -> None:
    visitor.page.evaluate("window.alert = () => { window.hasRun = true; }")
    nasty = "<script>alert(1)</script><img src=x onerror=alert(2)>"
    visitor.ask(nasty)
    expect(visitor.questions).to_have_text([re.compile(as_shown(nasty))])
    visitor.wait_for_answer()
    visitor.unfold("#chat-inside")
    visitor.page.get_by_role("tab", name="Prompt").click()
    assert "onerror" in "".join(token_texts(visitor))
    visitor.open()
    expect(visitor.questions).to_have_text([re.compile(as_shown(nasty))])
    assert visitor.page.evaluate("window.hasRun") is None
    assert visitor.page.locator("#chat-messages img[onerror], #chat-messages script").count() == 0


def test_a_picture_in_a_question_is_not_fetched(visitor: Visit) -> None:
    nasty = "![x](http://192.0.2.1/a.png)"
    visitor.ask(nasty)
    expect(visitor.questions).to_have_text([re.compile(as_shown(nasty))])
    visitor.wait_for_answer()
    assert visitor.foreign_requests() == []


# --- keyboard, phone, large type -------------------------------------------------------------------------


def focused(visitor: Visit) -> str:
    return str(
        visitor.page.evaluate(
            """() => {
              const node = document.activeElement;
              if (node === document.body) return '';
              const name = node.getAttribute('aria-label') || node.textContent || '';
              return (node.closest('[id]')?.id || '') + ' ' + name.trim();
            }"""
        )
    )


def tab_to(visitor: Visit, wanted: str, most: int = 60) -> None:
    """Press Tab until the focused element's id or name holds ``wanted``."""
    passed = []
    for _ in range(most):
        visitor.page.keyboard.press("Tab")
        passed.append(focused(visitor))
        if wanted in passed[-1]:
            return
    raise AssertionError(f"{wanted} is not reached by Tab: {passed}")


def test_everything_can_be_done_with_the_keyboard_alone(visitor: Visit) -> None:
    keyboard = visitor.page.keyboard
    tab_to(visitor, "chat-prompt") if "chat-prompt" not in focused(visitor) else None
    keyboard.type(QUESTION)
    keyboard.press("Control+Enter")
    expect(visitor.questions).to_have_text([QUESTION])
    visitor.wait_for_answer()
    expect(visitor.questions).to_have_text([QUESTION])  # asked once, although two listeners hear the keys
    tab_to(visitor, "chat-inside")
    keyboard.press("Enter")
    expect(visitor.tokens.first).to_be_visible()
    tab_to(visitor, " %")  # the first token: its text and its probability
    keyboard.press("Enter")
    expect(bars(visitor)).to_have_count(10)
    assert "%" in focused(visitor), "the focus stays on the token"
    tab_to(visitor, "Continue the answer with", 200)
    keyboard.press("Enter")
    expect(visitor.page.locator("#chat-unbranch")).to_be_visible()
    visitor.wait_for_answer()


def test_enter_asks_and_escape_stops(visitor: Visit) -> None:
    visitor.choose("#chat-model", "slow")
    visitor.unfold("#chat-more")
    visitor.set_number("max_new_tokens", 1024)
    visitor.prompt.focus()
    visitor.page.keyboard.type("Go on")
    visitor.page.keyboard.press("Enter")
    expect(visitor.numbers).to_contain_text("Writing")
    visitor.page.keyboard.press("Escape")
    expect(visitor.numbers).to_contain_text("Stopped")
    expect(visitor.ask_button).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_phone_nothing_scrolls_sideways_and_ask_is_in_reach(visitors: Visitors, scheme: str) -> None:
    phone = visitors(viewport=PHONE, color_scheme=scheme, has_touch=True, is_mobile=True)
    for _ in range(2):
        width = phone.page.evaluate("document.scrollingElement.scrollWidth")
        assert width <= phone.page.evaluate("window.innerWidth") <= PHONE["width"]
        box = phone.ask_button.bounding_box()
        assert box is not None
        assert 0 <= box["x"] <= PHONE["width"] - box["width"]
        assert 0 <= box["y"] <= PHONE["height"] - box["height"]
        assert box["height"] >= 36
        if phone.answers.count() == 0:
            phone.unfold("#chat-inside")
            phone.ask_and_wait(QUESTION)
            phone.tokens.nth(3).click()
            expect(bars(phone)).to_have_count(10)
            phone.page.evaluate("document.scrollingElement.scrollTop = 0")
    size = phone.prompt.evaluate("(node) => parseFloat(getComputedStyle(node).fontSize)")
    assert size >= 16, "smaller text makes a phone zoom in"


def test_large_type_enlarges_the_text_and_is_remembered(visitor: Visit) -> None:
    size = "parseFloat(getComputedStyle(document.querySelector('#chat-prompt textarea')).fontSize)"
    visitor.ask_and_wait(QUESTION)
    message = "parseFloat(getComputedStyle(document.querySelector('#chat-messages [data-testid=bot]')).fontSize)"
    before = visitor.page.evaluate(size), visitor.page.evaluate(message)
    button = visitor.page.locator("#large-type")
    button.click()
    expect(button).to_have_attribute("aria-pressed", "true")
    after = visitor.page.evaluate(size), visitor.page.evaluate(message)
    assert after[0] >= 1.3 * before[0]
    assert after[1] >= 24
    visitor.open()
    expect(button).to_have_attribute("aria-pressed", "true")
    assert visitor.page.evaluate(size) == after[0]
    button.click()
    expect(button).to_have_attribute("aria-pressed", "false")
    assert visitor.page.evaluate(size) == before[0]


NAMELESS = """() => {
  const nameOf = (node) => {
    const by = (node.getAttribute('aria-labelledby') || '').split(' ').map((id) => document.getElementById(id)?.textContent || '');
    const labels = [...(node.labels || [])].map((label) => label.textContent);
    const pictures = [...node.querySelectorAll('img[alt], svg title')].map((p) => p.getAttribute('alt') || p.textContent);
    return [node.getAttribute('aria-label'), ...by, ...labels, node.textContent, ...pictures, node.title]
      .filter((text) => text && text.trim()).join(' ');
  };
  return [...document.querySelectorAll('button, input, select, textarea, a[href], [role=button]')]
    .filter((node) => node.type !== 'hidden' && node.checkVisibility() && !node.closest('[aria-hidden=true]') && !nameOf(node))
    .map((node) => node.outerHTML.slice(0, 200) + ' in ' + (node.closest('[id]')?.id || ''));
}"""


def test_every_control_has_a_name_for_those_who_hear_the_page(answered: Visit) -> None:
    answered.tokens.nth(2).click()
    answered.unfold("#chat-more")
    expect(answered.page.locator("#setting-seed input")).to_be_visible()
    assert answered.page.evaluate(NAMELESS) == []


def test_the_header_tells_device_model_and_load(visitor: Visit) -> None:
    chip = visitor.page.locator("#chip-device")
    expect(chip).to_have_text("CPU, fp32, tiny")
    expect(chip).to_have_attribute("title", re.compile("CPU with"))
    expect(visitor.page.locator("#chip-load")).to_have_text("free now")
    expect(visitor.page.locator("#footer-model")).to_contain_text("Apache-2.0")


def test_settings_are_reset_with_one_button(visitor: Visit) -> None:
    visitor.unfold("#chat-more")
    field = visitor.page.locator("#setting-temperature input[type=number]")
    default = field.input_value()
    visitor.set_number("temperature", 1.5)
    visitor.page.locator("#chat-reset").click()
    expect(field).to_have_value(default)
