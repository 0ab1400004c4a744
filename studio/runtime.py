"""What one running studio consists of: settings, catalogue, device, engines, sessions.

Built at once and cheaply; the slow part (torch, the first model) happens in ``warm_up``, in a thread that
starts after the page answers. Knows no Gradio and no torch.
"""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from pipelines import catalog, chat, device, image_noising, text_to_image
from pipelines.catalog import Choice, Model
from pipelines.engine import Engine, EngineState
from pipelines.errors import StudioError
from pipelines.jobs import Job, Ticket
from pipelines.params import Params, integer, number
from studio.session import Sessions
from studio.settings import Settings

log = logging.getLogger(__name__)

REMOTE_WORKERS = 16
DEFAULT_MODEL = "default"  # what a page calls the model that the studio has chosen for a task
DEVICE_SLOTS = 4  # jobs stepped in turn on the device
LEAST_BUDGET_BYTES = 512 * 1024**2
#: Task -> what opens its models, given (device request, may download). A new task is a line here.
LOADERS: dict[str, Callable[[device.Request, bool], Any]] = {
    chat.TASK: chat.Loader,
    text_to_image.TASK: image_noising.Loader,
}


@dataclass(frozen=True, kw_only=True)
class Limits(Params):
    """What one job of anybody may take; the presenter may change it while the studio runs."""

    time_limit_s: float = number(120, minimum=1, maximum=86400, step=1, unit="s", help="A job is stopped after this.")
    max_new_tokens: int = integer(1024, minimum=16, maximum=4096, unit="tokens", help="Answers are cut here.")
    max_inference_steps: int = integer(50, minimum=1, maximum=150, unit="steps", help="Most steps of one picture.")
    max_images: int = integer(4, minimum=1, maximum=8, unit="pictures", help="Most pictures of one job.")


@dataclass
class Ready:
    """What is known once the hardware was looked at: the default model of each task, or why there is none."""

    compute: device.Compute
    hardware: device.Hardware
    choices: dict[str, Choice]
    missing: dict[str, StudioError] = field(default_factory=dict)


class Studio:
    """One studio. ``is_ready`` is set after ``warm_up``; jobs submitted earlier wait for it in their handler."""

    def __init__(self, settings: Settings) -> None:
        """Read the catalogue and set up; raises CatalogError for a wrong block. Nothing slow happens here."""
        self.settings = settings
        self.models = catalog.load(settings.catalog_file)
        self.sessions = Sessions(settings.presenter_password)
        self.limits = Limits(time_limit_s=settings.time_limit_s)
        self.request = device.Request(settings.device, settings.dtype)
        self.is_ready = threading.Event()
        self.ready: Ready | None = None
        self.failure: StudioError | None = None
        self._device_engine: Engine | None = None
        self._remote_engine = Engine(self.load, 0, workers=REMOTE_WORKERS, slots=1, max_waiting=settings.max_waiting)

    def load(self, model: Model, cancel: Any) -> Any:
        """The engine's loader, by the model's task; reads ``request`` each time, as the presenter may change it."""
        return LOADERS[model.task](self.request, self.settings.may_download)(model, cancel)

    # --- starting ----------------------------------------------------------------------------------------

    def look(self) -> Ready:
        """Probe the hardware and choose the models. Slow (imports torch).

        Raises StudioError when there is no chat model; another task without one says so in its own tab.
        """
        hardware = device.probe()
        compute = device.pick(self.request, hardware)
        ready = Ready(compute, hardware, {})
        wanted = {chat.TASK: self.settings.chat_model, text_to_image.TASK: self.settings.image_model}
        for task, model_id in wanted.items():
            try:
                ready.choices[task] = catalog.choose(
                    task, model_id, self.models.values(), compute, may_download=self.settings.may_download
                )
            except StudioError as error:
                if task == chat.TASK:
                    raise
                ready.missing[task] = error
        return ready

    def warm_up(self) -> None:
        """Look at the hardware, then load the default models, so that the first question finds them warm."""
        try:
            self.ready = self.look()
            budget = int(self.settings.model_memory_gb * device.GIB) or self.ready.compute.memory_budget_bytes
            self._device_engine = Engine(
                self.load,
                max(budget, LEAST_BUDGET_BYTES),
                slots=DEVICE_SLOTS,
                max_waiting=self.settings.max_waiting,
            )
            reasons = [choice.reason for choice in self.ready.choices.values()]
            log.info("%s", " ".join([self.ready.compute.reason, *reasons, *map(str, self.ready.missing.values())]))
            self.is_ready.set()
            self._preload(self.ready, self._device_engine)
        except StudioError as error:  # after ``ready`` is set it is about the default model only
            self.failure = error
            log.error("%s", error)
        finally:
            self.is_ready.set()

    def _preload(self, ready: Ready, engine: Engine) -> None:
        """Load the default models, as long as all of them fit. Raises StudioError for the chat model only."""
        taken = 0
        for task, choice in ready.choices.items():
            model = choice.model
            taken += model.memory_bytes
            is_first = task == chat.TASK
            if model.is_remote or not catalog.is_present(model):
                continue
            if not is_first and taken > ready.compute.memory_budget_bytes:
                continue
            try:
                engine.preload(model)
                log.info("%s is loaded", model.title)
            except StudioError as error:
                if is_first:
                    raise
                log.error("%s", error)  # whoever asks for it is told

    def start(self) -> None:
        """Warm up in the background."""
        threading.Thread(target=self.warm_up, name="warm-up", daemon=True).start()

    def wait_until_ready(self) -> Ready:
        """Block until the hardware is known. Raises the StudioError that made it impossible."""
        self.is_ready.wait()
        if self.ready is None:
            raise self.failure or StudioError("The studio could not start.", "See the log.")
        return self.ready

    # --- jobs --------------------------------------------------------------------------------------------

    def compute_for(self, model: Model) -> device.Compute:
        """What ``model`` really runs on: a tiny model keeps full precision where a large one would not."""
        ready = self.wait_until_ready()
        return device.for_model(ready.compute, self.request, ready.hardware, catalog.weight_bytes(model))

    def model_for(self, task: str, wanted: str, session: str) -> Model:
        """The model called ``wanted`` ("default" is the studio's own), if this session may use it.

        Blocks until the hardware is known. Raises ModelUnavailable, or Forbidden for another one under the lock.
        """
        ready = self.wait_until_ready()
        default = ready.choices.get(task)
        if default is not None and wanted in (DEFAULT_MODEL, default.model.id):
            return default.model
        if wanted == DEFAULT_MODEL:
            raise ready.missing.get(task) or StudioError("No model is chosen for this.", "See the log.")
        self.sessions.require_presenter(session, "choose another model")
        return catalog.choose(
            task, wanted, self.models.values(), ready.compute, may_download=self.settings.may_download
        ).model

    def has_limits(self, session: str) -> bool:
        """Whether the limits on steps and pictures hold for this session: for attendees of a locked studio."""
        return self.sessions.is_locked and not self.sessions.is_presenter(session)

    def submit(self, model: Model, params: Any, session: str) -> Ticket:
        """Queue a job on the engine of the model's device. Call after ``wait_until_ready``."""
        self.wait_until_ready()
        engine = self._remote_engine if model.is_remote else self._device_engine
        assert engine is not None
        is_presenter = self.sessions.is_presenter(session)
        limit = self.limits.time_limit_s
        return engine.submit(Job(session, model, params, is_presenter, limit))

    def stop(self, session: str) -> int:
        """Stop everything of one session; returns how many jobs that were."""
        engines = [e for e in (self._device_engine, self._remote_engine) if e is not None]
        return sum(e.cancel_session(session) for e in engines)

    def state(self) -> EngineState:
        """How busy the device is."""
        return self._device_engine.state() if self._device_engine else EngineState(0, 0, 0.0, ())

    # --- presenter ---------------------------------------------------------------------------------------

    def change_limits(self, session: str, time_limit_s: Any, max_new_tokens: Any, **others: Any) -> None:
        """Presenter only: what one job of anybody may take. Raises Forbidden or InvalidParams."""
        self.sessions.require_presenter(session, "change limits")
        self.limits = replace(self.limits, time_limit_s=time_limit_s, max_new_tokens=max_new_tokens, **others)

    def change_default_model(self, session: str, model_id: str) -> Choice:
        """Presenter only: the model that everybody gets for its task. Raises Forbidden or ModelUnavailable."""
        self.sessions.require_presenter(session, "change the model for everybody")
        ready = self.wait_until_ready()
        task = self.models[model_id].task if model_id in self.models else chat.TASK
        choice = catalog.choose(
            task, model_id, self.models.values(), ready.compute, may_download=self.settings.may_download
        )
        ready.choices[task] = choice
        ready.missing.pop(task, None)
        if task == chat.TASK:
            self.failure = None
        return choice

    def change_device(self, session: str, request: device.Request) -> device.Compute:
        """Presenter only: where models loaded from now on run; loaded ones are dropped as soon as unused."""
        self.sessions.require_presenter(session, "change the device")
        ready = self.wait_until_ready()
        compute = device.pick(request, ready.hardware)
        self.request = request
        ready.compute = compute
        if self._device_engine is not None:
            self._device_engine.unload_all()
        return compute

    def close(self) -> None:
        """Stop all work within ten seconds and free the models."""
        for engine in (self._device_engine, self._remote_engine):
            if engine is not None:
                engine.close()

    def browser_secret(self) -> str:
        """Key under which browsers keep their conversations; made once, so that a restart loses none."""
        path = self.settings.data_dir / "browser_secret"
        try:
            if not path.exists():
                self.settings.data_dir.mkdir(parents=True, exist_ok=True)
                partial = path.with_suffix(".partial")
                partial.write_text(secrets.token_urlsafe(24))
                partial.chmod(0o600)
                partial.replace(path)
            return path.read_text()
        except OSError as error:
            log.warning("the data directory cannot be written (%s): conversations end with this run", error)
            return secrets.token_urlsafe(24)
