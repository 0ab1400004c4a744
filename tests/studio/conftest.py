"""A real studio on tiny models, and a stand-in for the browser that calls the chat tab's handlers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import gradio as gr
import httpx
import pytest

from studio import conversations, shell
from studio.runtime import DEFAULT_MODEL, Studio
from studio.settings import Settings
from studio.tabs.chat import ChatTab, LastAnswer
from tests.endless import make_endless_model
from tests.serving import free_port
from tests.studio.image_page import IMAGE_BLOCK

T = TypeVar("T")
PASSWORD = "open sesame"
BLOCK = """
[[model]]
id = "{id}"
task = "chat"
title = "{id}"
summary = "Random weights."
source = "local"
path = "{path}"
license = "Apache-2.0"
memory_mb = 20
context = {context}
rank = -1
"""


@pytest.fixture(scope="session")
def catalog_text(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A user's catalogue with two models that never end by themselves: ``tiny`` is quick, ``slow`` is not."""
    folder = tmp_path_factory.mktemp("endless")
    tiny = make_endless_model(folder / "tiny", layers=2, context=128)
    slow = make_endless_model(folder / "slow", layers=24, context=2048)
    return BLOCK.format(id="tiny", path=tiny, context=128) + BLOCK.format(id="slow", path=slow, context=2048)


@pytest.fixture(scope="session")
def make_studio(catalog_text: str) -> Callable[..., Studio]:
    """Makes a studio, not yet warmed up, whose default model is ``tiny``."""

    def make(data_dir: Path, more_models: str = "", **changes: Any) -> Studio:
        data_dir.mkdir(parents=True, exist_ok=True)
        (data_dir / "catalog.toml").write_text(catalog_text + more_models)
        return Studio(Settings(**({"data_dir": data_dir, "chat_model": "tiny", "device": "cpu"} | changes)))

    return make


@pytest.fixture(scope="module")
def studio(make_studio: Callable[..., Studio], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    """A warm studio without a password, shared by the tests of one file."""
    made = make_studio(tmp_path_factory.mktemp("data"))
    made.warm_up()
    yield made
    made.close()


class Browser:
    """One page of one person: remembers what the handlers show and sends it back, as a browser does."""

    def __init__(self, tab: ChatTab, session: str = "somebody") -> None:
        self.tab, self.request = tab, gr.Request(session_hash=session)
        self.values: dict[Any, Any] = {
            tab.chatbot: [],
            tab.prompt: "",
            tab.model: DEFAULT_MODEL,
            tab.store: None,
            tab.last: LastAnswer(),
        }
        self.values |= dict(zip(tab.controls.components.values(), tab.controls.defaults(), strict=True))
        self.visible: dict[Any, bool] = {tab.ask: True, tab.stop: False, tab.again: False, tab.back: False}

    def set(self, **values: Any) -> None:
        """Change settings by name, or ``prompt`` and ``model``."""
        for name, value in values.items():
            named = {"prompt": self.tab.prompt, "model": self.tab.model, **self.tab.controls.components}
            self.values[named[name]] = value

    def show(self, update: dict[Any, Any]) -> None:
        for component, value in update.items():
            if isinstance(value, dict) and value.get("__type__") == "update":
                if "visible" in value:
                    self.visible[component] = value["visible"]
                if "value" in value:
                    self.values[component] = value["value"]
            else:
                self.values[component] = value

    async def run(self, steps: AsyncIterator[dict[Any, Any]]) -> list[dict[Any, Any]]:
        """Everything a streaming handler shows, taken into the page as it comes."""
        updates = []
        async for update in steps:
            updates.append(update)
            self.show(update)
        return updates

    async def ask(self, question: Any, **settings: Any) -> list[dict[Any, Any]]:
        self.set(prompt=question, **settings)
        return await self.run(self.tab.on_ask(dict(self.values), self.request))

    def quick(self, values: list[Any], components: list[Any]) -> None:
        """Take in what a handler returned for ``components``."""
        self.show(dict(zip(components, values, strict=True)))

    @property
    def messages(self) -> list[tuple[str, str]]:
        return [(m["role"], m["content"]) for m in self.values[self.tab.chatbot]]

    @property
    def answer(self) -> str:
        role, text = self.messages[-1]
        assert role == "assistant"
        return text

    @property
    def error(self) -> str:
        return str(self.values.get(self.tab.error, ""))

    @property
    def stored(self) -> list[tuple[str, str]]:
        """The messages of the conversation on screen, as the browser would keep them."""
        one = conversations.current(conversations.clean(self.values[self.tab.store]))
        return [(m["role"], m["content"]) for m in one["messages"]]


def in_loop(make: Callable[[], T]) -> T:
    """Call ``make`` inside an event loop: a page built outside one makes loops of its own and never closes them."""

    async def made() -> T:
        return make()

    return asyncio.run(made())


def make_tab(studio: Studio) -> tuple[ChatTab, gr.Blocks]:
    """The chat tab on a page of its own, not served."""

    def make() -> tuple[ChatTab, gr.Blocks]:
        with gr.Blocks(analytics_enabled=False) as page:
            return ChatTab(studio, page), page

    return in_loop(make)


@pytest.fixture(scope="module")
def tab(studio: Studio) -> ChatTab:
    return make_tab(studio)[0]


@dataclass(frozen=True)
class Served:
    """A page that answers on this machine, and what a program without a browser may send to it."""

    url: str
    studio: Studio
    config: dict[str, Any]

    def function(self, api_name: str) -> dict[str, Any]:
        return next(f for f in self.config["dependencies"] if f["api_name"] == api_name)

    def body(self, api_name: str, session: str, **values: Any) -> dict[str, Any]:
        """A request to a handler: what the page shows at first, but for ``values`` by element id or storage key (- as _)."""
        function = self.function(api_name)
        props = {c["id"]: c["props"] for c in self.config["components"]}
        wanted = dict(values)
        data = []
        for component in function["inputs"]:
            name = str(props[component].get("elem_id") or props[component].get("storage_key")).replace("-", "_")
            data.append(wanted.pop(name) if name in wanted else props[component].get("value"))
        assert not wanted, f"{api_name} takes no {wanted}"
        return {"data": data, "fn_index": function["id"], "session_hash": session, "event_data": None}

    def ask_queue(self, body: dict[str, Any], path: str = "/queue/join") -> str:
        """Send a request through the queue; everything that came back until it ended, as text."""
        api = f"{self.url}gradio_api"
        with httpx.Client(timeout=120) as client:
            joined = client.post(api + path, json=body)
            if joined.status_code != 200:
                return f"{joined.status_code} {joined.text}"
            event = joined.json()["event_id"]
            if path != "/queue/join":
                return client.get(f"{api}{path}/{event}").text
            lines = []
            with client.stream("GET", f"{api}/queue/data", params={"session_hash": body["session_hash"]}) as stream:
                for line in stream.iter_lines():
                    lines.append(line)
                    if '"msg":"process_completed"' in line.replace(" ", "") and event in line:
                        break
            return "\n".join(lines)

    def ask_directly(self, body: dict[str, Any], path: str) -> str:
        """Send a request past the queue; the answer as text."""
        answer = httpx.post(f"{self.url}gradio_api{path}", json=body, timeout=120)
        return f"{answer.status_code} {answer.text}"


@pytest.fixture(scope="module")
def served(make_studio: Callable[..., Studio], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The whole page with a presenter's password, served in this process; every task has a model in the catalogue."""
    folder = tmp_path_factory.mktemp("data")
    painter = IMAGE_BLOCK.format(id="painter", title="Painter", path="never opened", steps=2)
    studio = make_studio(folder, painter, presenter_password=PASSWORD, port=free_port())
    page = in_loop(lambda: shell.build(studio))
    url = in_loop(lambda: shell.serve(studio, page, block=False))
    studio.wait_until_ready()
    yield Served(url, studio, httpx.get(f"{url}config", timeout=60).json())
    page.close()
    studio.close()
