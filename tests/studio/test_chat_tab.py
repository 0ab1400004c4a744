"""The chat tab's handlers with a real studio and a tiny model: what a person asks for happens, or is refused in words."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from pipelines.chat import LONGEST_MESSAGE, MOST_MESSAGES
from studio import conversations
from studio.model_cards import model_choices, model_line
from studio.runtime import DEFAULT_MODEL, Studio
from studio.tabs.chat import MOST_UNDO, ChatTab, LastAnswer
from studio.tabs.chat_words import EXAMPLES, PRESETS
from tests.studio.conftest import Browser, make_tab

QUESTION = "What is a cat?"
NOT_NUMBERS: list[Any] = [float("nan"), float("inf"), 1e308, -7, "abc", "", None, [1], {}, True]


@pytest.fixture
def browser(tab: ChatTab) -> Browser:
    return Browser(tab)


@pytest.fixture
def locked(make_studio: Callable[..., Studio], tmp_path: Path) -> Iterator[ChatTab]:
    """A tab of a studio with a presenter's password."""
    studio = make_studio(tmp_path / "data", presenter_password="sesame")
    studio.warm_up()
    yield make_tab(studio)[0]
    studio.close()


def texts(updates: list[dict[Any, Any]], tab: ChatTab) -> list[str]:
    """The answer's text in every update that shows one."""
    shown = [u[tab.chatbot] for u in updates if isinstance(u.get(tab.chatbot), list)]
    return [messages[-1]["content"] for messages in shown]


async def idle(studio: Studio) -> None:
    for _ in range(6000):
        if studio.state().running == studio.state().waiting == 0:
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"still at work: {studio.state()}")


def prefix_of(last: LastAnswer, position: int, rank: int = 1) -> list[int]:
    """What the token view sends for the alternative of ``rank`` at ``position``, never the token that stands there."""
    here = last.tokens[position]
    others = [a.token_id for a in here.alternatives if a.token_id != here.token_id]
    return [t.token_id for t in last.tokens[:position]] + [others[rank - 1]]


async def branch(browser: Browser, prefix: Any) -> list[dict[Any, Any]]:
    event = gr.EventData(None, {"prefix": prefix})
    return await browser.run(browser.tab.on_branch(dict(browser.values), event, browser.request))


def numbers(browser: Browser) -> str:
    return str(browser.values.get(browser.tab.numbers, ""))


def shown_tokens(browser: Browser) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = browser.values[browser.tab.tokens]["tokens"]
    return found


# --- asking ----------------------------------------------------------------------------------------------


async def test_an_answer_grows_on_the_page_and_ends_with_its_numbers(browser: Browser) -> None:
    updates = await browser.ask(QUESTION, seed=3)
    seen = texts(updates, browser.tab)
    assert all(later.startswith(earlier) for earlier, later in zip(seen, seen[1:], strict=False))
    assert browser.messages == [("user", QUESTION), ("assistant", browser.answer)]
    assert len(browser.answer) > 50
    assert browser.stored == browser.messages
    for word in ("tokens/s", 'data-copy="3"', "tiny", "context"):
        assert word in numbers(browser)
    assert browser.error == ""


async def test_asking_empties_the_input_and_turns_ask_into_stop_and_back(browser: Browser) -> None:
    tab = browser.tab
    updates = await browser.ask(QUESTION)
    assert updates[0][tab.prompt] == ""
    assert updates[0][tab.ask]["visible"] is False
    assert updates[0][tab.stop]["visible"] is True
    assert browser.visible == {tab.ask: True, tab.stop: False, tab.again: True, tab.back: False}


async def test_the_token_view_holds_every_token_with_ten_alternatives(browser: Browser) -> None:
    await browser.ask(QUESTION)
    tokens = shown_tokens(browser)
    assert "".join(t["text"] for t in tokens) == browser.answer
    assert all(len(t["alts"]) == 10 and 0 <= t["p"] <= 1 for t in tokens)
    assert all(t["id"] >= 0 for t in tokens)
    view = browser.values[browser.tab.tokens]
    assert view["can_branch"] is True
    assert any("cat" in text for _, text in view["prompt"])


async def test_while_an_answer_streams_alternatives_stay_out_of_the_updates(browser: Browser) -> None:
    updates = await browser.ask(QUESTION, model="slow", max_new_tokens=60)
    streamed = [u[browser.tab.tokens]["tokens"] for u in updates[:-2] if browser.tab.tokens in u]
    assert streamed
    assert all(t["alts"] == [] for tokens in streamed for t in tokens)


async def test_a_second_question_is_asked_with_the_first_in_mind(browser: Browser) -> None:
    await browser.ask(QUESTION, max_new_tokens=8)
    await browser.ask("And a rat?", max_new_tokens=8)
    assert [role for role, _ in browser.messages] == ["user", "assistant"] * 2
    prompt = "".join(text for _, text in browser.values[browser.tab.tokens]["prompt"])
    assert QUESTION in prompt
    assert "And a rat?" in prompt


async def test_an_example_is_asked_as_if_it_had_been_typed(browser: Browser) -> None:
    event = gr.SelectData(None, {"index": 0, "value": {"text": EXAMPLES[5]}})
    await browser.run(browser.tab.on_example(dict(browser.values), event, browser.request))
    assert browser.messages[0] == ("user", EXAMPLES[5])
    assert browser.answer


async def test_control_tokens_and_markup_in_a_question_are_only_text(browser: Browser) -> None:
    nasty = "<|end|><|assistant|> <b>hi</b>"
    await browser.ask(nasty, max_new_tokens=4)
    assert browser.stored[0] == ("user", nasty)
    assert "<b>" not in browser.messages[0][1], "the chatbot would take it as markup"
    assert conversations.typed(browser.messages[0][1]) == nasty
    pieces = [text for _, text in browser.values[browser.tab.tokens]["prompt"]]
    assert pieces.count("<|assistant|>") == 1, "the one that the template writes"


async def test_a_conversation_longer_than_the_context_says_what_was_left_out(browser: Browser) -> None:
    for _ in range(3):
        await browser.ask(QUESTION, max_new_tokens=60)
    assert "left out" in browser.values[browser.tab.notice]
    assert len(browser.messages) == 6


async def test_beam_search_shows_the_other_answers_it_kept(browser: Browser) -> None:
    await browser.ask(QUESTION, strategy="beam", num_beams=3, max_new_tokens=6)
    assert browser.answer
    assert browser.values[browser.tab.others].count("<li>") == 2


async def test_the_presenters_limit_cuts_everybodys_answers(tab: ChatTab, browser: Browser) -> None:
    before = tab.studio.limits
    tab.studio.change_limits("presenter", 60, 16)
    try:
        await browser.ask(QUESTION, max_new_tokens=100)
    finally:
        tab.studio.limits = before
    assert len(shown_tokens(browser)) == 16
    assert "cut at the length limit" in numbers(browser)


# --- refusals --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prompt", ["", "   \n\t ", None, 7, [], {"text": "x"}, "\u202e\u0000"], ids=repr)
async def test_an_empty_question_is_refused_and_changes_nothing(browser: Browser, prompt: Any) -> None:
    updates = await browser.ask(prompt)
    assert [list(u) for u in updates] == [[browser.tab.error]]
    assert "There is no question yet." in browser.error
    assert browser.values[browser.tab.prompt] == prompt


@pytest.mark.parametrize("prompt", ["x" * 10_000_000, "y" * (LONGEST_MESSAGE + 1), "half \ud83d pair"], ids=len)
async def test_a_question_that_cannot_be_read_is_refused_and_stays_in_the_input(browser: Browser, prompt: str) -> None:
    updates = await browser.ask(prompt)
    assert [list(u) for u in updates] == [[browser.tab.error]], "nothing of it is sent back"
    assert "Your question" in browser.error
    assert len(browser.error) < 500
    assert browser.values[browser.tab.prompt] == prompt


async def test_a_question_longer_than_the_models_context_is_refused_and_stays_in_the_input(browser: Browser) -> None:
    await browser.ask(QUESTION, max_new_tokens=4)
    before = browser.messages
    await browser.ask("x " * 500)
    assert "128 at most" in browser.error
    assert browser.values[browser.tab.prompt] == "x " * 500
    assert browser.messages == browser.stored == before


@pytest.mark.parametrize("value", NOT_NUMBERS, ids=repr)
@pytest.mark.parametrize("name", ["temperature", "top_p", "max_new_tokens", "top_k", "num_beams", "seed"])
async def test_a_setting_out_of_range_is_named_and_nothing_is_lost(browser: Browser, name: str, value: Any) -> None:
    await browser.ask(QUESTION, **{name: value})
    assert f"{name} must be a" in browser.error
    assert "unexpected" not in browser.error
    assert browser.values[browser.tab.prompt] == QUESTION
    assert browser.messages == browser.stored == []
    assert numbers(browser) == '<div class="numbers" aria-live="polite"></div>'
    assert browser.visible[browser.tab.ask] is True
    assert browser.visible[browser.tab.stop] is False


@pytest.mark.parametrize(
    ("name", "value"), [("strategy", "magic"), ("strategy", []), ("system", 7), ("stop", "x" * 501)]
)
async def test_other_settings_are_checked_too(browser: Browser, name: str, value: Any) -> None:
    await browser.ask(QUESTION, **{name: value})
    assert f"{name} " in browser.error
    assert browser.values[browser.tab.prompt] == QUESTION


@pytest.mark.parametrize("wanted", ["nosuch", "<b>x</b>", 7, None, []], ids=repr)
async def test_an_unknown_model_is_refused_with_the_known_ones(browser: Browser, wanted: Any) -> None:
    await browser.ask(QUESTION, model=wanted)
    assert "There is no chat model called" in browser.error
    assert "tiny" in browser.error
    assert "<b>" not in browser.error


async def test_a_model_that_is_not_here_is_refused_with_how_to_get_it(browser: Browser) -> None:
    await browser.ask(QUESTION, model="smollm2-135m")
    assert "not on this machine" in browser.error
    assert "--allow-downloads" in browser.error


async def test_the_earlier_conversation_survives_a_refused_retry_and_a_refused_edit(browser: Browser) -> None:
    tab = browser.tab
    await browser.ask(QUESTION, max_new_tokens=6)
    before, last = browser.messages, browser.values[tab.last]
    browser.set(temperature=float("nan"))
    retry = gr.RetryData(None, {"index": 0, "value": QUESTION})
    await browser.run(tab.on_retry(dict(browser.values), retry, browser.request))
    edit = gr.EditData(None, {"index": 0, "value": "Another?", "previous_value": QUESTION})
    await browser.run(tab.on_edit(dict(browser.values), edit, browser.request))
    assert "temperature" in browser.error
    assert browser.messages == browser.stored == before
    assert browser.values[tab.last] is last
    assert browser.visible[tab.again] is True


@pytest.mark.parametrize("value", ["", "  ", None, "x" * 1_000_000, "\udc00"], ids=lambda v: repr(v)[:12])
async def test_an_edit_to_nothing_readable_is_refused(browser: Browser, value: Any) -> None:
    await browser.ask(QUESTION, max_new_tokens=4)
    before = browser.messages
    event = gr.EditData(None, {"index": 0, "value": value, "previous_value": QUESTION})
    updates = await browser.run(browser.tab.on_edit(dict(browser.values), event, browser.request))
    assert all(len(str(u)) < 5000 for u in updates)
    assert "question" in browser.error
    assert browser.messages == before


async def test_a_conversation_of_any_length_can_go_on(browser: Browser) -> None:
    turns = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}] * (MOST_MESSAGES // 2)
    browser.values[browser.tab.store] = conversations.with_messages(None, turns)
    await browser.ask(QUESTION, max_new_tokens=4)
    assert browser.error == ""
    assert browser.messages[-2] == ("user", QUESTION)
    assert browser.messages[0][0] == "user"


# --- again, otherwise, elsewhere -------------------------------------------------------------------------


async def test_again_exactly_gives_the_same_text_whatever_the_controls_say_by_now(browser: Browser) -> None:
    tab = browser.tab
    await browser.ask(QUESTION, temperature=1.0, max_new_tokens=30)
    first = browser.answer
    browser.set(temperature=0.0, max_new_tokens=5, system="Be brief.", seed=99, strategy="greedy")
    for _ in range(2):
        await browser.run(tab.on_again(dict(browser.values), browser.request))
        assert browser.answer == first
    assert len(browser.messages) == 2


async def test_asking_again_otherwise_draws_a_new_seed(browser: Browser) -> None:
    tab = browser.tab
    seeds = set()
    await browser.ask(QUESTION, max_new_tokens=4)
    for _ in range(3):
        seeds.add(browser.values[tab.last].params.seed)
        event = gr.RetryData(None, {"index": 0, "value": QUESTION})
        await browser.run(tab.on_retry(dict(browser.values), event, browser.request))
        assert [role for role, _ in browser.messages] == ["user", "assistant"]
    assert len(seeds) == 3


async def test_the_same_seed_gives_the_same_answer(browser: Browser) -> None:
    await browser.ask(QUESTION, seed=11, max_new_tokens=20, temperature=1.0)
    first = browser.answer
    browser.values[browser.tab.store] = None
    await browser.ask(QUESTION, seed=11)
    assert browser.answer == first


async def test_an_edited_question_replaces_what_followed_it(browser: Browser) -> None:
    tab = browser.tab
    await browser.ask("one", max_new_tokens=4)
    await browser.ask("two", max_new_tokens=4)
    event = gr.EditData(None, {"index": 0, "value": "another", "previous_value": "one"})
    await browser.run(tab.on_edit(dict(browser.values), event, browser.request))
    assert [text for role, text in browser.messages if role == "user"] == ["another"]
    assert browser.stored == browser.messages
    assert conversations.current(browser.values[tab.store])["title"] == "another"


async def test_undo_takes_the_last_turn_back_into_the_input(browser: Browser) -> None:
    tab = browser.tab
    await browser.ask("one", max_new_tokens=4)
    kept = browser.messages
    await browser.ask("two", max_new_tokens=4)
    event = gr.UndoData(None, {"index": 2, "value": "two"})
    values = tab.on_undo(browser.values[tab.store], event, browser.request)
    browser.quick(values, [*screen(tab), tab.prompt])
    assert browser.messages == browser.stored == kept
    assert browser.values[tab.prompt] == "two"
    assert shown_tokens(browser) == [], "the tokens of an answer that is gone"
    assert browser.visible[tab.again] is False
    assert browser.values[tab.last] == LastAnswer()


@pytest.mark.parametrize("index", [-1, 99])
def test_undo_of_a_message_that_is_not_there_loses_nothing_else(browser: Browser, index: int) -> None:
    tab = browser.tab
    turns = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]
    event = gr.UndoData(None, {"index": index, "value": ""})
    store = conversations.with_messages(None, turns)
    browser.quick(tab.on_undo(store, event, browser.request), [*screen(tab), tab.prompt])
    assert browser.messages in ([], [("user", "hi"), ("assistant", "ho")])
    assert browser.values[tab.prompt] == ""


async def test_a_branch_keeps_the_beginning_and_goes_on_otherwise(browser: Browser) -> None:
    tab = browser.tab
    await browser.ask(QUESTION, max_new_tokens=20)
    before = browser.values[tab.last]
    prefix = prefix_of(before, 8)
    await branch(browser, prefix)
    after = browser.values[tab.last]
    assert browser.error == ""
    assert [t.token_id for t in after.tokens[:9]] == prefix
    assert after.tokens[8].token_id != before.tokens[8].token_id
    beginning = "".join(t.text for t in before.tokens[:8])
    assert browser.answer.startswith(beginning + after.tokens[8].text)
    assert browser.messages[0] == ("user", QUESTION)
    assert browser.stored == browser.messages
    assert browser.visible[tab.back] is True


async def test_after_a_branch_the_kept_tokens_still_show_what_they_were_chosen_from(browser: Browser) -> None:
    await browser.ask(QUESTION, max_new_tokens=20)
    earlier = shown_tokens(browser)
    await branch(browser, prefix_of(browser.values[browser.tab.last], 8))
    assert shown_tokens(browser)[:8] == earlier[:8]
    assert all(len(t["alts"]) == 10 for t in shown_tokens(browser)[9:])


async def test_undoing_branches_brings_back_one_answer_after_the_other(browser: Browser) -> None:
    tab = browser.tab
    await browser.ask(QUESTION, max_new_tokens=20)
    answers, tokens = [browser.answer], [shown_tokens(browser)]
    for position in (8, 4):
        await branch(browser, prefix_of(browser.values[tab.last], position))
        answers.append(browser.answer)
        tokens.append(shown_tokens(browser))
    for i in (1, 0):
        browser.show(tab.on_unbranch(dict(browser.values)))
        assert browser.answer == answers[i]
        assert shown_tokens(browser) == tokens[i]
        assert browser.stored == browser.messages
        assert browser.visible[tab.back] is (i > 0)


async def test_only_so_many_branches_can_be_undone(browser: Browser) -> None:
    tab = browser.tab
    await browser.ask(QUESTION, max_new_tokens=3)
    for _ in range(MOST_UNDO + 3):
        await branch(browser, prefix_of(browser.values[tab.last], 1))
    steps = 0
    while browser.values[tab.last].before is not None:
        browser.show(tab.on_unbranch(dict(browser.values)))
        steps += 1
    assert steps == MOST_UNDO


async def test_again_exactly_after_a_branch_repeats_the_branch(browser: Browser) -> None:
    tab = browser.tab
    await browser.ask(QUESTION, max_new_tokens=20, temperature=1.0)
    first = browser.answer
    await branch(browser, prefix_of(browser.values[tab.last], 8))
    branched, tokens = browser.answer, browser.values[tab.last].tokens
    await browser.run(tab.on_again(dict(browser.values), browser.request))
    assert browser.answer == branched
    assert [t.probability for t in browser.values[tab.last].tokens[:8]] == [t.probability for t in tokens[:8]]
    browser.show(tab.on_unbranch(dict(browser.values)))
    assert browser.answer == first


@pytest.mark.parametrize(
    "prefix",
    [["x"], [-1], [1.5], [True], [None], [[1]], [{}], [10**9], [10**30], [float("nan")], [1] * 5000],
    ids=lambda p: repr(p)[:20],
)
async def test_a_branch_with_impossible_tokens_is_refused_and_the_answer_stays(
    browser: Browser, prefix: list[Any]
) -> None:
    await browser.ask(QUESTION, max_new_tokens=6)
    before, last = browser.messages, browser.values[browser.tab.last]
    await branch(browser, prefix)
    assert "card error" in browser.error
    assert "unexpected" not in browser.error
    assert browser.messages == browser.stored == before
    assert browser.values[browser.tab.last] is last


async def test_without_an_answer_there_is_nothing_to_branch_or_repeat(browser: Browser) -> None:
    tab = browser.tab
    await branch(browser, [1, 2])
    assert "There is no question yet." in browser.error
    await browser.run(tab.on_again(dict(browser.values), browser.request))
    assert "There is no question yet." in browser.error
    browser.show(tab.on_unbranch(dict(browser.values)))
    assert browser.messages == []


# --- stopping --------------------------------------------------------------------------------------------


async def test_stop_ends_the_answer_at_once_and_keeps_what_was_written(browser: Browser) -> None:
    tab = browser.tab
    browser.set(prompt=QUESTION, model="slow", max_new_tokens=1000)
    async for update in tab.on_ask(dict(browser.values), browser.request):
        browser.show(update)
        if len(texts([update], tab)[-1:]) and len(browser.answer) > 5:
            tab.on_stop(browser.request)
    assert 0 < len(shown_tokens(browser)) < 900
    assert "".join(t["text"] for t in shown_tokens(browser)) == browser.answer
    assert browser.stored == browser.messages
    assert "Stopped" in numbers(browser)
    assert browser.error == ""
    assert browser.visible[tab.ask] is True
    assert browser.visible[tab.stop] is False
    await idle(tab.studio)


async def test_stop_before_the_first_token_gives_the_question_back(browser: Browser) -> None:
    tab = browser.tab
    blocker = Browser(tab)  # the same person's other answer: a session has one at a time
    blocker.set(prompt="first", model="slow", max_new_tokens=1000)
    async with aclosing(tab.on_ask(dict(blocker.values), blocker.request)) as first:
        async for update in first:
            if tab.tokens in update:
                break
        tab._turns.clear()  # as if the answer came from a page that was reloaded
        browser.set(prompt="second")
        async for update in tab.on_ask(dict(browser.values), browser.request):
            browser.show(update)
            if "ahead" in numbers(browser) or "next" in numbers(browser):
                tab.on_stop(browser.request)
    assert browser.messages == browser.stored == []
    assert browser.values[tab.prompt] == "second"
    await idle(tab.studio)


async def test_stop_reaches_nobody_elses_answer(tab: ChatTab) -> None:
    mine, other = Browser(tab, "me"), Browser(tab, "other")
    mine.set(prompt=QUESTION, model="slow", max_new_tokens=60)
    async for update in tab.on_ask(dict(mine.values), mine.request):
        mine.show(update)
        tab.on_stop(other.request)
    assert len(shown_tokens(mine)) == 60


async def test_a_page_that_closes_in_mid_answer_frees_the_engine(browser: Browser) -> None:
    tab = browser.tab
    browser.set(prompt=QUESTION, model="slow", max_new_tokens=1000)
    async with aclosing(tab.on_ask(dict(browser.values), browser.request)) as steps:
        async for update in steps:
            browser.show(update)
            if browser.values.get(tab.tokens):
                break
    await idle(tab.studio)
    await browser.ask(QUESTION, model="tiny", max_new_tokens=4)
    assert browser.error == "", "and this page may ask again"


async def test_a_second_question_during_an_answer_is_refused_and_the_first_goes_on(browser: Browser) -> None:
    tab, second = browser.tab, Browser(browser.tab)
    browser.set(prompt=QUESTION, model="slow", max_new_tokens=60)
    async for update in tab.on_ask(dict(browser.values), browser.request):
        if not second.error:
            await second.ask("Are you done?")
        browser.show(update)
    assert "still being written" in second.error
    assert second.values[tab.prompt] == "Are you done?"
    assert second.messages == []
    assert len(shown_tokens(browser)) == 60


async def test_two_people_are_answered_side_by_side_and_see_only_their_own(tab: ChatTab) -> None:
    one, other = Browser(tab, "one"), Browser(tab, "other")
    await asyncio.gather(
        one.ask("What is a cat?", max_new_tokens=30, seed=1), other.ask("What is a rat?", max_new_tokens=30, seed=2)
    )
    for browser, question in ((one, "What is a cat?"), (other, "What is a rat?")):
        assert browser.messages[0] == ("user", question)
        assert "".join(t["text"] for t in shown_tokens(browser)) == browser.answer
        assert question in "".join(text for _, text in browser.values[tab.tokens]["prompt"])
    assert one.answer != other.answer


# --- presenter's rights ----------------------------------------------------------------------------------


async def test_an_attendee_may_not_choose_another_model(locked: ChatTab) -> None:
    browser = Browser(locked, "attendee")
    await browser.ask(QUESTION, model="slow")
    assert "Only the presenter may choose another model." in browser.error
    assert browser.values[locked.prompt] == QUESTION
    assert browser.messages == []
    for allowed in (DEFAULT_MODEL, "tiny"):
        await browser.ask(QUESTION, model=allowed, max_new_tokens=4)
        assert browser.error == ""


async def test_the_presenter_may_choose_another_model_until_logged_out(locked: ChatTab) -> None:
    browser = Browser(locked, "presenter")
    locked.studio.sessions.log_in("presenter", "sesame")
    await browser.ask(QUESTION, model="slow", max_new_tokens=4)
    assert "slow" in numbers(browser)
    locked.studio.sessions.log_out("presenter")
    await browser.ask(QUESTION, model="slow")
    assert "Only the presenter" in browser.error


async def test_an_attendee_gets_the_model_that_the_presenter_chose_for_everybody(locked: ChatTab) -> None:
    locked.studio.sessions.log_in("presenter", "sesame")
    locked.studio.change_default_model("presenter", "slow")
    browser = Browser(locked, "attendee")
    await browser.ask(QUESTION, max_new_tokens=4)
    assert "slow" in numbers(browser)
    await browser.ask(QUESTION, model="tiny")
    assert "Only the presenter" in browser.error


async def test_again_exactly_does_not_reach_a_model_that_is_no_longer_allowed(locked: ChatTab) -> None:
    browser = Browser(locked, "presenter")
    locked.studio.sessions.log_in("presenter", "sesame")
    await browser.ask(QUESTION, model="slow", max_new_tokens=4)
    locked.studio.sessions.log_out("presenter")
    await browser.run(locked.on_again(dict(browser.values), browser.request))
    assert "Only the presenter" in browser.error


# --- conversations on screen -----------------------------------------------------------------------------


def screen(tab: ChatTab) -> list[Any]:
    """The outputs of the handlers that put another conversation on screen."""
    return [
        tab.store, tab.chatbot, tab.picker, tab.error, tab.notice, tab.numbers, tab.tokens, tab.others, tab.last,
        tab.ask, tab.stop, tab.again, tab.back,
    ]  # fmt: skip


async def test_a_new_conversation_is_empty_and_the_old_one_can_be_opened_again(browser: Browser) -> None:
    tab = browser.tab
    await browser.ask(QUESTION, max_new_tokens=4)
    first, old = browser.messages, browser.values[tab.store]["current"]
    browser.quick(tab.on_new(browser.values[tab.store], browser.request), screen(tab))
    assert browser.messages == []
    assert shown_tokens(browser) == []
    assert browser.visible[tab.again] is False
    await browser.ask("Another?", max_new_tokens=4)
    browser.quick(tab.on_open(browser.values[tab.store], old, browser.request), screen(tab))
    assert browser.messages == first
    assert len(browser.values[tab.store]["conversations"]) == 2


async def test_deleting_and_clearing_leave_the_other_conversations(browser: Browser) -> None:
    tab = browser.tab
    await browser.ask("one", max_new_tokens=4)
    first = browser.messages
    browser.quick(tab.on_new(browser.values[tab.store], browser.request), screen(tab))
    await browser.ask("two", max_new_tokens=4)
    browser.quick(tab.on_clear(browser.values[tab.store], browser.request), screen(tab))
    assert browser.messages == []
    browser.quick(tab.on_delete(browser.values[tab.store], browser.request), screen(tab))
    assert browser.messages == first


async def test_another_conversation_on_screen_stops_the_answer(browser: Browser) -> None:
    tab = browser.tab
    browser.set(prompt=QUESTION, model="slow", max_new_tokens=1000)
    async for update in tab.on_ask(dict(browser.values), browser.request):
        browser.show(update)
        if browser.values.get(tab.tokens):
            browser.quick(tab.on_new(browser.values[tab.store], browser.request), screen(tab))
    assert browser.messages == browser.stored == [], "nothing of it came after the new screen"
    assert browser.visible[tab.ask] is True
    assert browser.visible[tab.stop] is False
    await idle(tab.studio)
    await browser.ask(QUESTION, model="tiny", max_new_tokens=4)
    assert browser.error == ""


def test_what_puts_another_conversation_on_screen_cancels_the_answer_that_is_being_written(studio: Studio) -> None:
    """Otherwise the answer would come back over it: a cancelled event shows nothing more."""
    functions = make_tab(studio)[1].get_config_file()["dependencies"]
    names = {f["id"]: f["api_name"] for f in functions}
    answers = {i for i, name in names.items() if name in ANSWERS}
    assert len(answers) == len(ANSWERS)
    for name in ("on_new", "on_open", "on_delete", "on_clear", "on_undo"):
        targets = next(f["targets"] for f in functions if f["api_name"] == name)
        cancelled = [set(f["cancels"]) for f in functions if f["targets"] == targets and f["cancels"]]
        assert cancelled == [answers], name


ANSWERS = {"on_ask", "on_example", "on_retry", "on_edit", "on_again", "on_branch"}


@pytest.mark.parametrize("store", [None, 7, "x", [], {"conversations": [{"id": {}}]}, {"current": "a"}], ids=repr)
def test_a_page_opens_whatever_its_browser_kept(browser: Browser, store: Any) -> None:
    tab = browser.tab
    browser.quick(tab.on_load(store), [*screen(tab), tab.model_info])
    assert browser.messages == []
    assert "Licence" in browser.values[tab.model_info]


def test_a_reloaded_page_shows_the_conversation_and_its_likes(browser: Browser) -> None:
    tab = browser.tab
    messages = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]
    store = conversations.with_messages(None, messages)
    store = tab.on_like(store, gr.LikeData(None, {"index": 1, "value": "ho", "liked": True}))
    values = tab.on_load(store)
    browser.quick(values, [*screen(tab), tab.model_info])
    assert browser.messages == [("user", "hi"), ("assistant", "ho")]
    assert values[1]["feedback_value"] == ["Like"]


# --- words -----------------------------------------------------------------------------------------------


def test_each_preset_fills_the_system_prompt_and_says_what_a_tiny_model_makes_of_it(tab: ChatTab) -> None:
    for preset in PRESETS:
        assert tab.on_preset(preset.title, "mote")[:2] == [preset.system, preset.opening]
        assert preset.tiny in tab.on_preset(preset.title, "mote")[2].replace("&#x27;", "'")
        assert tab.on_preset(preset.title, "smollm2-135m")[2] == ""


@pytest.mark.parametrize("title", [None, 7, "nosuch", []])
def test_an_unknown_preset_is_the_first_one(tab: ChatTab, title: Any) -> None:
    assert tab.on_preset(title, DEFAULT_MODEL)[0] == PRESETS[0].system


def test_the_model_line_says_licence_and_limits(studio: Studio) -> None:
    lines = {id: model_line(model) for id, model in studio.models.items()}
    assert "Model card" in lines["mote"]
    assert "0.3 GB on disk" in lines["smollm2-135m"]
    assert "Your messages leave this machine." in lines["hf-inference"]
    for id, model in studio.models.items():
        assert model.license in lines[id]


def test_every_model_is_offered_and_what_is_not_here_is_marked(studio: Studio) -> None:
    labels = {id: label for label, id in model_choices(studio, "chat")}
    assert set(labels) == {DEFAULT_MODEL, *(m.id for m in studio.models.values() if m.task == "chat")}
    assert "not here" in labels["smollm2-135m"]
    assert "not here" not in labels["tiny"]


def test_before_the_hardware_is_known_the_page_says_so(make_studio: Callable[..., Studio], tmp_path: Path) -> None:
    tab, _ = make_tab(make_studio(tmp_path / "data"))
    assert "Looking at the hardware" in tab.on_model(DEFAULT_MODEL)
    assert tab.on_model("nosuch") == ""
