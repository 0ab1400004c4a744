"""What one running studio consists of: settings, catalogue, device, engines, sessions.

Built at once and cheaply; the slow part (torch, the first model) happens in ``warm_up``, in a thread that
starts after the page answers. Knows no Gradio and no torch.
"""

from __future__ import annotations

import logging
import secrets
import threading
from dataclasses import dataclass, replace
from typing import Any

from pipelines import catalog, device
from pipelines.catalog import Choice, Model
from pipelines.chat import Loader
from pipelines.engine import Engine, EngineState
from pipelines.errors import StudioError
from pipelines.jobs import Job, Ticket
from pipelines.params import Params, integer, number
from studio.session import Sessions
from studio.settings import Settings

log = logging.getLogger(__name__)

REMOTE_WORKERS = 16
DEVICE_SLOTS = 4  # jobs stepped in turn on the device
LEAST_BUDGET_BYTES = 512 * 1024**2


@dataclass(frozen=True, kw_only=True)
class Limits(Params):
    """What one job of anybody may take; the presenter may change it while the studio runs."""

    time_limit_s: float = number(120, minimum=1, maximum=86400, step=1, unit="s", help="A job is stopped after this.")
    max_new_tokens: int = integer(1024, minimum=16, maximum=4096, unit="tokens", help="Answers are cut here.")


@dataclass
class Ready:
    """What is known once the hardware was looked at."""

    compute: device.Compute
    hardware: device.Hardware
    choices: dict[str, Choice]


class Studio:
    """One studio. ``is_ready`` is set after ``warm_up``; jobs submitted earlier wait for it in their handler."""

    def __init__(self, settings: Settings) -> None:
        """Read the catalogue and set up; raises CatalogError for a wrong block. Nothing slow happens here."""
        self.settings = settings
        self.models = catalog.load(settings.catalog_file)
        self.sessions = Sessions(settings.presenter_password)
        self.limits = Limits(time_limit_s=settings.time_limit_s)
        self.loader = Loader(device.Request(settings.device, settings.dtype), settings.may_download)
        self.is_ready = threading.Event()
        self.ready: Ready | None = None
        self.failure: StudioError | None = None
        self._device_engine: Engine | None = None
        self._remote_engine = Engine(self.load, 0, workers=REMOTE_WORKERS, slots=1, max_waiting=settings.max_waiting)

    def load(self, model: Model, cancel: Any) -> Any:
        """The engine's loader; looks up ``loader`` at each call, as the presenter may change the device."""
        return self.loader(model, cancel)

    # --- starting ----------------------------------------------------------------------------------------

    def look(self) -> Ready:
        """Probe the hardware and choose the models. Slow (imports torch). Raises StudioError."""
        hardware = device.probe()
        compute = device.pick(self.loader.request, hardware)
        choices = {
            "chat": catalog.choose(
                "chat",
                self.settings.chat_model,
                self.models.values(),
                compute,
                may_download=self.settings.may_download,
            )
        }
        return Ready(compute, hardware, choices)

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
            log.info("%s %s", self.ready.compute.reason, self.ready.choices["chat"].reason)
            self.is_ready.set()
            default = self.ready.choices["chat"].model
            if not default.is_remote and catalog.is_present(default):
                self._device_engine.preload(default)
        except StudioError as error:  # after ``ready`` is set it is about the default model only
            self.failure = error
            log.error("%s", error)
        finally:
            self.is_ready.set()

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
        return device.for_model(ready.compute, self.loader.request, ready.hardware, catalog.weight_bytes(model))

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

    def change_limits(self, session: str, time_limit_s: Any, max_new_tokens: Any) -> None:
        """Presenter only: what one job of anybody may take. Raises Forbidden or InvalidParams."""
        self.sessions.require_presenter(session, "change limits")
        self.limits = Limits(time_limit_s=time_limit_s, max_new_tokens=max_new_tokens)

    def change_default_model(self, session: str, model_id: str) -> Choice:
        """Presenter only: the model that everybody gets. Raises Forbidden or ModelUnavailable."""
        self.sessions.require_presenter(session, "change the model for everybody")
        ready = self.wait_until_ready()
        choice = catalog.choose(
            "chat", model_id, self.models.values(), ready.compute, may_download=self.settings.may_download
        )
        ready.choices["chat"] = choice
        self.failure = None
        return choice

    def change_device(self, session: str, request: device.Request) -> device.Compute:
        """Presenter only: where models loaded from now on run; loaded ones are dropped as soon as unused."""
        self.sessions.require_presenter(session, "change the device")
        ready = self.wait_until_ready()
        compute = device.pick(request, ready.hardware)
        self.loader = replace(self.loader, request=request)
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
