"""The image tab's runs: painting, the grid, noise and the written prompt, each a job of the engine watched step by step.

One run at a time for one page; Stop ends that run and nothing else of the session. Pictures are encoded in threads,
so that nobody's page waits for somebody else's.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import gradio as gr

from pipelines import image_noising, pictures
from pipelines.catalog import Model
from pipelines.chat import TASK as CHAT
from pipelines.chat import ChatParams
from pipelines.errors import Busy, InvalidParams, StudioError
from pipelines.jobs import Ticket
from pipelines.params import clean_text
from pipelines.text_to_image import TASK, ImageParams, ImageResult, StepView
from studio import bridge
from studio.runtime import DEFAULT_MODEL, Studio
from studio.tabs import text_to_image_grid as grids
from studio.tabs.text_to_image_cards import numbers_line, pair
from studio.tabs.text_to_image_layout import Layout
from studio.tabs.text_to_image_results import Painted, Shown, kept, save
from studio.tabs.text_to_image_settings import NEW_SEED, again, check_limits, params_of, uploads
from studio.tabs.text_to_image_words import LONGEST_WISH, WRITER, completed, written_prompt
from studio.views import film_view, grid_view, stage_view, word_view
from studio.views.picture_data import data_uri

Update = dict[Any, Any]
#: Makes model and settings of a run; may block, may raise StudioError.
Make = Callable[[], tuple[Model, ImageParams]]
OTHER_GUIDANCES = "1, 2, 3, 5, 8"


@dataclass
class _Turn:
    """A run in progress: what Stop stops."""

    ticket: Ticket | None = None
    is_stopped: bool = False

    def follow(self, ticket: Ticket) -> Ticket:
        self.ticket = ticket
        if self.is_stopped:
            ticket.cancel()
        return ticket

    def stop(self) -> None:
        self.is_stopped = True
        if self.ticket is not None:
            self.ticket.cancel()


async def _outcome(submit: Callable[[], Ticket]) -> bridge.View:
    """How a job ended, for those that show nothing on the way."""
    outcome = bridge.View()
    async with aclosing(bridge.follow(submit)) as views:
        async for view in views:
            outcome = view
    return outcome


class Runs(Layout):
    """The handlers that take time. Of people it holds only whose run is in progress."""

    def __init__(self, studio: Studio) -> None:
        super().__init__(studio)
        self._turns: dict[str, _Turn] = {}
        #: Seconds per step of a model, as measured last, for the prediction before the click.
        self.pace: dict[str, float] = {}

    # --- what a run is made of ---------------------------------------------------------------------------

    def _from_page(self, data: Mapping[Any, Any], session: str) -> Make:
        """Model and settings as the page shows them."""

        def make() -> tuple[Model, ImageParams]:
            model = self.studio.model_for(TASK, str(data[self.model]), session)
            values = {"prompt": data[self.prompt], **self.controls.values(dict(data))}
            sent = uploads(data[self.editor], data[self.lora_files], [data[weight] for weight in self.lora_weights])
            params = params_of(values, data[self.shape], data[self.seed_mode], sent, model, self.studio, session)
            return model, params

        return make

    def _from_picture(
        self, painted: Painted | None, session: str, change: Callable[[ImageParams], ImageParams]
    ) -> Make:
        """Model and settings of a picture of this session, changed."""

        def make() -> tuple[Model, ImageParams]:
            if painted is None:
                raise InvalidParams("There is no picture yet.", "Paint one first.")
            model = self.studio.model_for(TASK, str(painted.record["model"]), session)
            return model, check_limits(change(painted.params), self.studio, session)

        return make

    # --- one at a time -----------------------------------------------------------------------------------

    async def _drive(
        self, request: gr.Request, work: Callable[[_Turn, str], AsyncIterator[Update]]
    ) -> AsyncIterator[Update]:
        """Run ``work`` unless this page has a run already. Whatever happens, Paint comes back."""
        session = request.session_hash or ""
        if session in self._turns:
            busy = Busy("A picture is still being painted.", "Wait for it, or stop it first.")
            yield {self.error: bridge.error_card(busy)}
            return
        turn = self._turns[session] = _Turn()
        try:
            yield {
                self.paint: gr.update(visible=False),
                self.stop: gr.update(visible=True),
                self.error: "",
                self.notice: "",
            }
            async with aclosing(work(turn, session)) as updates:  # type: ignore[type-var]
                async for update in updates:
                    yield update
            yield {self.paint: gr.update(visible=True), self.stop: gr.update(visible=False)}
        finally:
            turn.stop()
            if self._turns.get(session) is turn:
                del self._turns[session]

    def on_image_stop(self, request: gr.Request) -> None:
        turn = self._turns.get(request.session_hash or "")
        if turn is not None:
            turn.stop()

    # --- painting ----------------------------------------------------------------------------------------

    async def _paint(self, turn: _Turn, session: str, data: Mapping[Any, Any], make: Make) -> AsyncIterator[Update]:
        """One run, from its first preview to its pictures in the gallery."""
        shown: Shown = data[self.shown]
        model: Model | None = None
        params: ImageParams | None = None

        def submit() -> Ticket:
            nonlocal model, params
            model, params = make()
            return turn.follow(self.studio.submit(model, params, session))

        view = bridge.View()
        frames: dict[int, dict[str, Any]] = {}
        yield {self.gallery: gr.update(visible=False), self.stage: stage_view.working(view), self.numbers: ""}
        async with aclosing(bridge.follow(submit)) as views:
            async for view in views:
                if view.has_ended:
                    continue
                update: Update = {
                    self.stage: await asyncio.to_thread(stage_view.working, view),
                    self.notice: bridge.notice_card(view.notices),
                }
                step = view.preview
                if isinstance(step, StepView) and step.step not in frames and params is not None:
                    frames[step.step] = await asyncio.to_thread(film_view.frame, step)
                    guidance = max(params.guidance_scale, 0.0)
                    update[self.film] = film_view.payload(list(frames.values()), step.total, guidance)
                yield update
        made: list[Painted] = []
        if view.phase == "done" and isinstance(view.artifact, ImageResult) and model is not None and params is not None:
            try:
                made = await asyncio.to_thread(kept, view.artifact, params, self.gallery.GRADIO_CACHE)
            except StudioError as error:
                view.error = error
            if "seconds_per_step" in view.record:
                self.pace[model.id] = view.record["seconds_per_step"]
        yield self._ended(view, shown, made, model, data)

    def _ended(
        self, view: bridge.View, shown: Shown, made: list[Painted], model: Model | None, data: Mapping[Any, Any]
    ) -> Update:
        """What the page shows when a run is over, however it ended."""
        update: Update = {self.error: bridge.error_card(view.error), self.notice: bridge.notice_card(view.notices)}
        if not made:
            is_stopped = view.phase == "stopped"
            has_preview = is_stopped and isinstance(view.preview, StepView)
            stage = stage_view.working(view) if has_preview else self.stage_at_rest(shown, model)
            return update | {
                self.stage: stage,
                self.gallery: gr.update(visible=bool(shown.pictures)),
                self.numbers: '<div class="numbers">Stopped.</div>' if is_stopped else self._numbers(shown),
            }
        shown = shown.with_new(made)
        update |= {
            self.shown: shown,
            self.gallery: gr.update(value=shown.gallery, selected_index=0, visible=True),
            self.stage: stage_view.HIDDEN,
            self.numbers: numbers_line(view.record, model.title if model else ""),
            self.actions: gr.update(visible=True),
            self.film: made[0].film,
            self.words: made[0].words,
            self.store: {"prompt": str(data[self.prompt])[:2000]},
        }
        if data[self.seed_mode] == NEW_SEED:
            update[self.controls.components["seed"]] = made[0].record["seed"]
        return update

    def _numbers(self, shown: Shown) -> str:
        current = shown.current
        if current is None:
            return ""
        model = self.studio.models.get(str(current.record["model"]))
        return numbers_line(current.record, model.title if model else str(current.record["model"]))

    def stage_at_rest(self, shown: Shown, model: Model | None) -> dict[str, Any]:
        """What stands on the stage when nothing runs; ``ImageTab`` says it."""
        raise NotImplementedError

    async def on_paint(self, data: Update, request: gr.Request) -> AsyncIterator[Update]:
        make = self._from_page(data, request.session_hash or "")
        async with aclosing(self._drive(request, lambda turn, s: self._paint(turn, s, data, make))) as updates:  # type: ignore[type-var]
            async for update in updates:
                yield update

    async def on_vary(self, data: Update, request: gr.Request) -> AsyncIterator[Update]:
        """The current picture's settings with a new seed."""
        make = self._from_picture(data[self.shown].current, request.session_hash or "", again)
        async with aclosing(self._drive(request, lambda turn, s: self._paint(turn, s, data, make))) as updates:  # type: ignore[type-var]
            async for update in updates:
                yield update

    async def on_again_exactly(self, data: Update, request: gr.Request) -> AsyncIterator[Update]:
        """The current picture once more, whatever the controls say by now."""
        make = self._from_picture(data[self.shown].current, request.session_hash or "", lambda params: params)
        async with aclosing(self._drive(request, lambda turn, s: self._paint(turn, s, data, make))) as updates:  # type: ignore[type-var]
            async for update in updates:
                yield update

    # --- the grid ----------------------------------------------------------------------------------------

    async def _paint_grid(
        self, turn: _Turn, session: str, make: Make, axes: tuple[Any, Any, Any, Any]
    ) -> AsyncIterator[Update]:
        """Every cell a job of its own, so that others get their turn in between."""
        try:
            model, params = await asyncio.to_thread(make)
            grid = grids.plan(params, *axes)
            for cell in grid.cells.values():
                check_limits(cell, self.studio, session)
        except StudioError as error:
            yield {self.error: bridge.error_card(error)}
            return
        sources: dict[tuple[int, int], str] = {}
        cells: dict[str, Painted] = {}
        error: StudioError | None = None
        for place, cell in grid.cells.items():
            number = f"{len(sources) + 1} of {len(grid.cells)}"
            view = bridge.View()

            def submit(cell: ImageParams = cell) -> Ticket:
                return turn.follow(self.studio.submit(model, cell, session))

            async with aclosing(bridge.follow(submit, interval_s=0.2)) as views:
                async for view in views:
                    if not view.has_ended:
                        yield {
                            self.grid: grid_view.payload(grid.x, grid.y, sources, f"Picture {number}: {view.status}")
                        }
            if view.phase != "done":
                error = view.error
                break
            painted = await asyncio.to_thread(self._cell, view.artifact, cell)
            sources[place] = await asyncio.to_thread(data_uri, view.artifact.pictures[0].image, longest=192)
            cells[f"{place[0]},{place[1]}"] = painted
        is_whole = len(sources) == len(grid.cells)
        status = f"{len(sources)} pictures." if is_whole else f"Stopped after {len(sources)} of {len(grid.cells)}."
        yield {
            self.grid: grid_view.payload(grid.x, grid.y, sources, status),
            self.cells: cells,
            self.error: bridge.error_card(error),
        }

    def _cell(self, result: ImageResult, params: ImageParams) -> Painted:
        """A cell's picture; its steps are not kept."""
        picture = result.pictures[0]
        path = save(picture.image, picture.record, self.gallery.GRADIO_CACHE)
        note = word_view.nothing("Pictures of a grid are painted without being watched.")
        return Painted(path, picture.record, params, film_view.EMPTY, note)

    async def on_grid(self, data: Update, request: gr.Request) -> AsyncIterator[Update]:
        make = self._from_page(data, request.session_hash or "")
        axes = (data[self.x], data[self.x_values], data[self.y], data[self.y_values])
        async with aclosing(self._drive(request, lambda turn, s: self._paint_grid(turn, s, make, axes))) as updates:  # type: ignore[type-var]
            async for update in updates:
                yield update

    async def on_guidances(self, data: Update, request: gr.Request) -> AsyncIterator[Update]:
        """The current picture at several guidance scales, same seed."""
        make = self._from_picture(data[self.shown].current, request.session_hash or "", lambda params: params)
        axes = ("guidance_scale", OTHER_GUIDANCES, grids.NOTHING, "")
        async with aclosing(self._drive(request, lambda turn, s: self._paint_grid(turn, s, make, axes))) as updates:  # type: ignore[type-var]
            async for update in updates:
                yield update

    # --- noise and words ---------------------------------------------------------------------------------

    async def on_noise(self, data: Update, request: gr.Request) -> AsyncIterator[Update]:
        """The current picture under noise, and the model's one-step guess."""
        session, current = request.session_hash or "", data[self.shown].current

        def submit() -> Ticket:
            if current is None:
                raise InvalidParams("There is no picture to put under noise.", "Paint one first.")
            model = self.studio.model_for(TASK, str(current.record["model"]), session)
            params = image_noising.NoiseParams(
                image=pictures.open_image(current.path), level=data[self.noise], prompt=current.params.prompt
            )
            return self.studio.submit(model, params, session)

        view = await _outcome(submit)
        update: Update = {self.noise_error: bridge.error_card(view.error)}
        if view.phase == "done":
            sources = await asyncio.to_thread(lambda: tuple(data_uri(one, longest=512) for one in view.artifact))
            level = round(100 * view.record["level"])
            captions = (f"with {level} % noise", f"the model's guess in one step ({view.record['seconds']:.1f} s)")
            update[self.noise_pair] = pair((sources[0], sources[1]), captions)
        yield update

    async def on_write(self, data: Update, request: gr.Request) -> AsyncIterator[Update]:
        """A few words become a prompt, by the chat model; where its text is none, that is said."""
        session = request.session_hash or ""
        model: Model | None = None
        try:
            wish = clean_text(data[self.wish], "Your words", LONGEST_WISH).strip()
            if not wish:
                raise InvalidParams("There are no words to begin with.", "Type one or two, such as: fox, winter.")
        except StudioError as error:
            yield {self.error: bridge.error_card(error)}
            return

        def submit() -> Ticket:
            nonlocal model
            model = self.studio.model_for(CHAT, DEFAULT_MODEL, session)
            messages = ({"role": "user", "content": f"Write an image prompt about: {wish}"},)
            params = ChatParams(messages=messages, system=WRITER, max_new_tokens=64).seeded()
            return self.studio.submit(model, params, session)

        yield {self.write: gr.update(interactive=False, value="Writing"), self.error: ""}
        view = await _outcome(submit)
        update: Update = {self.write: gr.update(interactive=True, value="Write my prompt")}
        if view.error is not None:
            yield update | {self.error: bridge.error_card(view.error)}
            return
        prompt, title = written_prompt(view.text, wish), model.title if model else "The chat model"
        if prompt:
            said = [f"{title} wrote the prompt from: {wish}"]
        else:
            prompt = completed(wish)
            said = [
                f"{title} wrote no usable prompt ({view.text.strip()[:120] or 'nothing'}).",
                "This one is put together from your words and the composer's; a larger chat model can do better.",
            ]
        before = str(data[self.prompt] or "").strip()
        yield update | {
            self.prompt: prompt,
            self.notice: bridge.notice_card(said + ([f"Before: {before}"] if before else [])),
        }
