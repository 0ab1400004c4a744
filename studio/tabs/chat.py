"""The chat tab: ask, see every token arrive, and see why each was chosen.

Lays out and wires; the work is ``pipelines.chat``, the conversations ``studio.conversations``, the drawing
of tokens ``studio.views.token_view``, the small print ``studio.tabs.chat_cards``.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any

import gradio as gr

from pipelines.catalog import Model
from pipelines.chat import LONGEST_MESSAGE, MOST_MESSAGES, TASK, ChatParams
from pipelines.errors import Busy, InvalidParams, StudioError
from pipelines.events import Token
from pipelines.params import clean_text
from studio import bridge, conversations
from studio.controls import Controls
from studio.model_cards import model_choices, model_line
from studio.runtime import DEFAULT_MODEL, Studio
from studio.tabs.chat_cards import alternatives_card, numbers_line
from studio.tabs.chat_words import BY_TITLE, EXAMPLES, PRESETS
from studio.views import token_view

LONGEST_HISTORY = MOST_MESSAGES - 2  # messages before the question; even, so that they begin with a question
MOST_UNDO = 10  # branches that can be taken back; each keeps an answer with its alternatives in memory
IN_VIEW = ("temperature",)
FOLDED = (
    "system", "strategy", "max_new_tokens", "top_p", "top_k", "min_p", "repetition_penalty", "num_beams", "seed", "stop",
)  # fmt: skip
WELCOME = """<div class="welcome"><img src="studio/web/mote.svg" alt="" width="72" height="72">
<h2>Ask Mote about generative AI</h2>
<p><span class="badge">tiny model, trained by this project; it knows generative AI and nothing else</span></p></div>"""

SETTLING_S = 0.3  # updates on their way to the browser arrive before a new screen does


@dataclass
class _Turn:
    """One answer being written: ``is_over`` when the next may be asked for, ``is_left`` when nobody looks any more."""

    is_over: bool = False
    is_left: bool = False


@dataclass(frozen=True)
class LastAnswer:
    """What the server remembers of a session's last answer, so that it can be branched or done again."""

    text: str = ""
    tokens: tuple[Token, ...] = ()
    model: str = ""
    params: ChatParams | None = None  # with the seed that was really used
    before: LastAnswer | None = None


def _trimmed(answer: LastAnswer | None, most: int) -> LastAnswer | None:
    """``answer`` with at most ``most`` answers to go back to, itself included."""
    if answer is None or most == 0:
        return None
    return replace(answer, before=_trimmed(answer.before, most - 1))


def _with_earlier(tokens: list[Token], branched_from: LastAnswer | None, given: int) -> list[Token]:
    """After a branch the ``given`` first tokens show the trace they had when the answer was first written.

    The token branched to was an alternative there: it shows that probability and the same alternatives.
    """
    found = list(tokens)
    earlier = branched_from.tokens if branched_from else ()
    for i, (old, new) in enumerate(zip(earlier[:given], tokens, strict=False)):
        if old.token_id == new.token_id:
            found[i] = old
        else:
            known = (a.probability for a in old.alternatives if a.token_id == new.token_id)
            found[i] = replace(new, probability=next(known, 0.0), alternatives=old.alternatives)
    return found


class ChatTab:
    """The tab's components and handlers. One instance per page build; of people it holds only who is being answered."""

    def __init__(self, studio: Studio, page: gr.Blocks) -> None:
        self.studio = studio
        self._turns: dict[str, _Turn] = {}
        self.controls = Controls(ChatParams)
        self._lay_out()
        self._wire(page)

    # --- layout ------------------------------------------------------------------------------------------

    def _lay_out(self) -> None:
        studio = self.studio
        self.store = gr.BrowserState(None, storage_key="studio-chat", secret=studio.browser_secret())
        self.last = gr.State(LastAnswer(), time_to_live=3600)
        with gr.Row(elem_classes="conversation-bar"):
            self.picker = gr.Dropdown([], label="Conversation", elem_id="chat-conversations", scale=1, min_width=120)
            self.new = gr.Button("New", elem_id="chat-new", scale=0, min_width=72)
            self.delete = gr.Button("Delete", elem_id="chat-delete", scale=0, min_width=84)
        self.chatbot = gr.Chatbot(
            show_label=False,
            label="Conversation",
            elem_id="chat-messages",
            height="min(56vh, 620px)",
            placeholder=WELCOME,
            examples=[{"text": e} for e in EXAMPLES],
            editable="user",
            buttons=["copy", "copy_all"],
            layout="bubble",
            avatar_images=(None, token_view.WEB / "mote.svg"),
            reasoning_tags=[("<think>", "</think>")],
            allow_tags=False,
            sanitize_html=True,
            group_consecutive_messages=False,
        )
        self.error = gr.HTML(elem_id="chat-error", elem_classes="quiet")
        self.notice = gr.HTML(elem_id="chat-notice", elem_classes="quiet")
        with gr.Row(elem_classes="ask-bar"):
            self.prompt = gr.Textbox(
                show_label=False, label="Your question", placeholder="Ask about generative AI", lines=1, max_lines=6,
                max_length=8000, elem_id="chat-prompt", scale=6, autofocus=True,
            )  # fmt: skip
            self.ask = gr.Button("Ask", variant="primary", elem_id="chat-ask", scale=0, min_width=96)
            self.stop = gr.Button("Stop", variant="stop", elem_id="chat-stop", scale=0, min_width=96, visible=False)
        with gr.Row(elem_classes="under-answer"):
            self.numbers = gr.HTML(elem_id="chat-numbers")
            self.again = gr.Button(
                "Do it again exactly", size="sm", elem_id="chat-again", visible=False, scale=0, min_width=160
            )
            self.back = gr.Button(
                "Undo the branch", size="sm", elem_id="chat-unbranch", visible=False, scale=0, min_width=150
            )
        with gr.Accordion("See inside: every token and why it was chosen", open=False, elem_id="chat-inside"):
            self.tokens = token_view.build("chat-tokens")
            self.others = gr.HTML(elem_id="chat-beams", elem_classes="quiet")
        with gr.Row(elem_classes="in-view"):
            self.model = gr.Dropdown(
                model_choices(studio, TASK), value=DEFAULT_MODEL, label="Model", elem_id="chat-model",
                interactive=not studio.sessions.is_locked,
            )  # fmt: skip
            self.preset = gr.Dropdown(
                [p.title for p in PRESETS], value=PRESETS[0].title, label="Use it to", elem_id="chat-preset"
            )
            self.controls.add(*IN_VIEW)
        self.model_info = gr.HTML(elem_id="chat-model-info")
        with gr.Accordion("More", open=False, elem_id="chat-more"):
            self.controls.add(*FOLDED)
            self.reset = gr.Button("Reset all settings", size="sm", elem_id="chat-reset")

    # --- wiring ------------------------------------------------------------------------------------------

    def _wire(self, page: gr.Blocks) -> None:
        inputs: set[Any] = {self.prompt, self.model, self.store, self.last, *self.controls.inputs}
        outputs = [
            self.chatbot, self.prompt, self.store, self.last, self.picker, self.error, self.notice, self.numbers,
            self.tokens, self.others, self.ask, self.stop, self.again, self.back,
        ]  # fmt: skip
        running: dict[str, Any] = {
            "inputs": inputs, "outputs": outputs, "show_progress": "hidden", "concurrency_limit": None,
            "api_visibility": "private", "trigger_mode": "once",
        }  # fmt: skip
        quick: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
        answers = [
            gr.on([self.ask.click, self.prompt.submit], self.on_ask, **running),
            self.chatbot.example_select(self.on_example, **running),
            self.chatbot.retry(self.on_retry, **running),
            self.chatbot.edit(self.on_edit, **running),
            self.again.click(self.on_again, **running),
            self.tokens.select(self.on_branch, **running),
        ]
        # What puts something else on screen ends the answer that is being written there, or that would come back.
        leaving = quick | {"cancels": answers}
        self.stop.click(self.on_stop, None, None, **quick)
        self.back.click(
            self.on_unbranch, {self.store, self.last},
            [self.chatbot, self.store, self.tokens, self.last, self.back], **quick,
        )  # fmt: skip
        self.chatbot.like(self.on_like, [self.store], [self.store], **quick)
        screen = [
            self.store, self.chatbot, self.picker, self.error, self.notice, self.numbers, self.tokens, self.others,
            self.last, self.ask, self.stop, self.again, self.back,
        ]  # fmt: skip
        self.chatbot.undo(self.on_undo, [self.store], [*screen, self.prompt], **leaving)
        self.chatbot.clear(self.on_clear, [self.store], screen, **leaving)
        self.new.click(self.on_new, [self.store], screen, **leaving)
        self.delete.click(self.on_delete, [self.store], screen, **leaving)
        self.picker.input(self.on_open, [self.store, self.picker], screen, **leaving)
        page.load(self.on_load, [self.store], [*screen, self.model_info], **quick)
        self.model.input(self.on_model, [self.model], [self.model_info], **quick)
        self.preset.input(
            self.on_preset,
            [self.preset, self.model],
            [self.controls.components["system"], self.prompt, self.notice],
            **quick,
        )
        self.reset.click(self.controls.defaults, None, list(self.controls.components.values()), **quick)

    # --- asking ------------------------------------------------------------------------------------------

    def _model(self, wanted: Any, session: str) -> Model:
        """The model called ``wanted``, if this session may use it. Raises StudioError."""
        return self.studio.model_for(TASK, str(wanted), session)

    async def _answer(
        self,
        turn: _Turn,
        data: dict[Any, Any],
        request: gr.Request,
        messages: list[dict[str, str]],
        *,
        prefix: tuple[int, ...] = (),
        branched_from: LastAnswer | None = None,
        exactly: LastAnswer | None = None,
        question: str | None = None,
    ) -> AsyncIterator[dict[Any, Any]]:
        """Run one answer to ``messages`` (the user's last) and yield what the page shows of it.

        ``exactly`` is an answer to give once more, ``question`` what was taken from the input box. A request
        that fails or is stopped before its first token changes nothing: what was on screen comes back.
        """
        session = request.session_hash or ""
        model: Model | None = None
        params: ChatParams | None = None

        def submit() -> Any:
            nonlocal model, params
            model = self._model(exactly.model if exactly else data[self.model], session)
            if exactly and exactly.params:
                params = exactly.params
            else:
                values = self.controls.values(data)
                params = ChatParams(messages=tuple(messages), prefix_ids=prefix, **values).seeded()
            longest = min(params.max_new_tokens, self.studio.limits.max_new_tokens)
            params = replace(params, max_new_tokens=longest)
            return self.studio.submit(model, params, session)

        store = conversations.with_messages(data[self.store], messages)
        asked = conversations.shown(messages)
        waiting = [*asked, {"role": "assistant", "content": "\u2026"}]
        feedback = conversations.shown_feedback(conversations.current(store))
        async with aclosing(bridge.follow(submit)) as views:
            view = await anext(views)  # the job is under way from here on
            yield {
                self.chatbot: gr.update(value=waiting, feedback_value=[*feedback, None]),
                self.store: store,
                self.picker: gr.update(choices=conversations.choices(store), value=store["current"]),
                self.ask: gr.update(visible=False),
                self.stop: gr.update(visible=True),
                self.again: gr.update(visible=False),
                self.back: gr.update(visible=False),
                self.error: "",
                self.notice: "",
                self.others: "",
            } | ({} if question is None else {self.prompt: ""})
            async for view in views:
                tokens = _with_earlier(view.tokens, branched_from, len(prefix))
                can_branch = model is not None and not model.is_remote
                update = {self.numbers: numbers_line(view), self.notice: bridge.notice_card(view.notices)}
                if view.text:
                    update[self.chatbot] = [*asked, {"role": "assistant", "content": view.text}]
                    update[self.tokens] = token_view.payload(
                        tokens, view.prompt, with_alternatives=view.has_ended, can_branch=can_branch
                    )
                yield update
        turn.is_over = True
        ended = {
            self.error: bridge.error_card(view.error),
            self.numbers: numbers_line(view),
            self.ask: gr.update(visible=True),
            self.stop: gr.update(visible=False),
        }
        if not view.text and view.phase != "done":
            yield ended | self._as_before(data) | ({} if question is None else {self.prompt: question})
            return
        answer = [{"role": "assistant", "content": view.text}] if view.text else []
        store = conversations.with_messages(data[self.store], [*messages, *answer])
        tokens = _with_earlier(view.tokens, branched_from, len(prefix))
        name = model.id if model else ""
        yield ended | {
            self.chatbot: [*asked, *answer],
            self.store: store,
            self.last: LastAnswer(view.text, tuple(tokens), name, params, _trimmed(branched_from, MOST_UNDO)),
            self.tokens: token_view.payload(tokens, view.prompt, with_alternatives=True, can_branch=can_branch),
            self.others: alternatives_card(view),
            self.again: gr.update(visible=bool(view.record)),
            self.back: gr.update(visible=branched_from is not None),
        }

    def _as_before(self, data: dict[Any, Any]) -> dict[Any, Any]:
        """What was on screen when the request was made."""
        store = conversations.clean(data[self.store])
        return {
            self.chatbot: _chat(store),
            self.store: store,
            self.picker: gr.update(choices=conversations.choices(store), value=store["current"]),
            self.again: gr.update(visible=data[self.last].params is not None),
            self.back: gr.update(visible=data[self.last].before is not None),
        }

    async def _drive(
        self, data: dict[Any, Any], request: gr.Request, messages: list[dict[str, str]], **options: Any
    ) -> AsyncIterator[dict[Any, Any]]:
        """Check the question, then answer: one answer at a time for one page, a second request is refused."""
        session = request.session_hash or ""
        try:
            running = self._turns.get(session)
            if running is not None and not (running.is_over or running.is_left):
                raise Busy("An answer is still being written.", "Wait for it, or stop it first.")
            text = clean_text(messages[-1]["content"] if messages else "", "Your question", LONGEST_MESSAGE)
            if not text.strip():
                raise InvalidParams("There is no question yet.", "Type one, or click an example.")
        except StudioError as error:
            yield {self.error: bridge.error_card(error)}
            return
        messages = [*messages[:-1][-LONGEST_HISTORY:], {"role": "user", "content": text}]
        turn = self._turns[session] = _Turn()
        try:
            async with aclosing(self._answer(turn, data, request, messages, **options)) as updates:  # type: ignore[type-var]
                async for update in updates:
                    if turn.is_left:
                        return
                    yield update
        finally:
            if self._turns.get(session) is turn:
                del self._turns[session]

    async def on_ask(self, data: dict[Any, Any], request: gr.Request) -> AsyncIterator[dict[Any, Any]]:
        text = data[self.prompt] if isinstance(data[self.prompt], str) else ""
        messages = [*conversations.history(data[self.store]), {"role": "user", "content": text}]
        async with aclosing(self._drive(data, request, messages, question=text)) as updates:
            async for update in updates:
                yield update

    async def on_example(self, data: dict[Any, Any], event: gr.SelectData, request: gr.Request) -> AsyncIterator[Any]:
        text = event.value.get("text", "") if isinstance(event.value, dict) else ""
        async with aclosing(self.on_ask({**data, self.prompt: text}, request)) as updates:
            async for update in updates:
                yield update

    async def on_retry(self, data: dict[Any, Any], event: gr.RetryData, request: gr.Request) -> AsyncIterator[Any]:
        messages = conversations.history(data[self.store])[: int(event.index) + 1]
        async with aclosing(self._drive(data, request, messages)) as updates:
            async for update in updates:
                yield update

    async def on_edit(self, data: dict[Any, Any], event: gr.EditData, request: gr.Request) -> AsyncIterator[Any]:
        messages = conversations.history(data[self.store])[: int(event.index)]
        messages.append({"role": "user", "content": conversations.typed(event.value)})
        async with aclosing(self._drive(data, request, messages)) as updates:
            async for update in updates:
                yield update

    async def on_again(self, data: dict[Any, Any], request: gr.Request) -> AsyncIterator[Any]:
        """The same messages, model, settings and seed once more, whatever the controls say by now."""
        last: LastAnswer = data[self.last]
        messages = _up_to_last_question(data[self.store])
        options: dict[str, Any] = {}
        if last.params:
            options = {"exactly": last, "branched_from": last.before, "prefix": last.params.prefix_ids}
        async with aclosing(self._drive(data, request, messages, **options)) as updates:
            async for update in updates:
                yield update

    async def on_branch(self, data: dict[Any, Any], event: gr.EventData, request: gr.Request) -> AsyncIterator[Any]:
        """Continue the last answer from another token; the browser sends the ids up to and with that token."""
        sent = event._data.get("prefix") if isinstance(event._data, dict) else None
        prefix = tuple(sent) if isinstance(sent, list) else ()
        messages = _up_to_last_question(data[self.store])
        last = data[self.last] if data[self.last].tokens else None
        async with aclosing(self._drive(data, request, messages, prefix=prefix, branched_from=last)) as updates:
            async for update in updates:
                yield update

    # --- quick handlers ----------------------------------------------------------------------------------

    def on_stop(self, request: gr.Request) -> None:
        self.studio.stop(request.session_hash or "")

    def on_unbranch(self, data: dict[Any, Any]) -> dict[Any, Any]:
        """Put the answer back that stood before the branch."""
        last = data[self.last].before
        if last is None:
            return {self.back: gr.update(visible=False)}
        messages = [*_up_to_last_question(data[self.store]), {"role": "assistant", "content": last.text}]
        store = conversations.with_messages(data[self.store], messages)
        return {
            self.chatbot: _chat(store),
            self.store: store,
            self.tokens: token_view.payload(list(last.tokens), None, with_alternatives=True, can_branch=True),
            self.last: last,
            self.back: gr.update(visible=last.before is not None),
        }

    def on_undo(self, store: Any, event: gr.UndoData, request: gr.Request) -> list[Any]:
        """Take the last question and its answer back; the question returns to the input."""
        self._leave(request)
        messages, index = conversations.history(store), int(event.index)
        question = messages[index]["content"] if 0 <= index < len(messages) else ""
        kept = messages[: max(0, index)]
        return [*self._screen(conversations.with_messages(store, kept)), question]

    def on_like(self, store: Any, event: gr.LikeData) -> Any:
        liked = {True: "Like", False: "Dislike"}.get(event.liked) if isinstance(event.liked, bool) else None
        return conversations.with_feedback(store, int(event.index), liked)

    def _screen(self, store: conversations.Store) -> list[Any]:
        """Everything that changes when another conversation comes on screen, in the order of ``screen``."""
        return [
            store,
            _chat(store),
            gr.update(choices=conversations.choices(store), value=store["current"]),
            "",
            "",
            "",
            token_view.EMPTY,
            "",
            LastAnswer(),
            gr.update(visible=True),
            gr.update(visible=False),
            gr.update(visible=False),
            gr.update(visible=False),
        ]

    def _leave(self, request: gr.Request) -> None:
        """End the answer in progress: from here on it shows nothing, so that it cannot come back over a new screen."""
        session = request.session_hash or ""
        turn = self._turns.get(session)
        if turn is not None and not turn.is_over:
            turn.is_left = True
            time.sleep(SETTLING_S)
        self.studio.stop(session)

    def on_clear(self, store: Any, request: gr.Request) -> list[Any]:
        self._leave(request)
        return self._screen(conversations.with_messages(store, []))

    def on_new(self, store: Any, request: gr.Request) -> list[Any]:
        self._leave(request)
        return self._screen(conversations.added(store))

    def on_delete(self, store: Any, request: gr.Request) -> list[Any]:
        self._leave(request)
        return self._screen(conversations.deleted(store))

    def on_open(self, store: Any, wanted: Any, request: gr.Request) -> list[Any]:
        self._leave(request)
        return self._screen(conversations.opened(store, wanted))

    def on_load(self, store: Any) -> list[Any]:
        return [*self._screen(conversations.clean(store)), self.on_model(DEFAULT_MODEL)]

    def on_model(self, wanted: Any) -> str:
        if wanted == DEFAULT_MODEL:
            ready = self.studio.ready
            if ready is None:
                return '<p class="model-line">Looking at the hardware.</p>'
            return model_line(ready.choices["chat"].model)
        model = self.studio.models.get(str(wanted))
        return model_line(model) if model else ""

    def on_preset(self, title: Any, wanted: Any) -> list[Any]:
        """A preset fills the system prompt and the input, and says what the tiny model can do of it."""
        preset = BY_TITLE.get(str(title), PRESETS[0])
        ready = self.studio.ready
        default = ready.choices["chat"].model if ready else None
        model = default if wanted == DEFAULT_MODEL else self.studio.models.get(str(wanted))
        is_tiny = model is None or model.is_tiny
        return [preset.system, preset.opening, bridge.notice_card([preset.tiny] if is_tiny else [])]


def _chat(store: conversations.Store) -> Any:
    """The conversation on screen as the chatbot shows it, with its likes."""
    one = conversations.current(store)
    return gr.update(value=conversations.shown(one["messages"]), feedback_value=conversations.shown_feedback(one))


def _up_to_last_question(store: Any) -> list[dict[str, str]]:
    messages = conversations.history(store)
    while messages and messages[-1]["role"] != "user":
        messages.pop()
    return messages


def build(studio: Studio, page: gr.Blocks) -> None:
    """Lay out and wire the chat tab inside the page that is being built."""
    ChatTab(studio, page)
