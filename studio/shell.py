"""The page frame: header, tabs from the registry, footer, presenter's lock; and the server around it.

``build`` makes the page, ``serve`` launches it. Everything the browser needs comes from this server.
"""

from __future__ import annotations

import contextlib
import html
import logging
import webbrowser
from typing import Any

import gradio as gr
from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipelines import device
from pipelines.errors import StudioError
from pipelines.params import specs
from studio import bridge
from studio.registry import tabs_of
from studio.runtime import Limits, Studio
from studio.views.token_view import WEB

log = logging.getLogger(__name__)
VERSION = "0.1.0"
TITLE = "Generative AI 101 Studio"
MOST_ACTIVE = 400  # handlers at once; they are coroutines that wait, the engine bounds the work
SERVED = {"mote.svg": "image/svg+xml", "favicon.svg": "image/svg+xml"}

#: Neither a question nor an answer may make a browser fetch a picture or a sound from elsewhere: an address
#: can carry a conversation away.
CONTENT_POLICY = "img-src 'self' data: blob:; media-src 'self' data: blob:; object-src 'none'; frame-src 'self'"

HEADER = f"""<header class="studio-header">
  <div class="brand"><img src="studio/web/favicon.svg" alt="" width="34" height="34"><h1>{TITLE}</h1></div>
  <div class="chips">
    <span class="chip" id="chip-device" title="">looking at the hardware</span>
    <span class="chip" id="chip-load" role="status">ready</span>
    <button type="button" class="chip" id="large-type" aria-pressed="false" title="Large type, for a projector">Large type</button>
  </div></header>"""
FOOTER = f"""<footer class="studio-footer"><span>Version {VERSION}, Apache-2.0</span>
  <span id="footer-model"></span><span>Everything here is made by AI and may be wrong.</span>
  <a href="studio/card/mote" target="_blank">Model card</a></footer>"""


def theme() -> gr.themes.Base:
    """Neutral surfaces, one accent, the fonts that Gradio ships (nothing is fetched from elsewhere).

    Weights 400 and 700: the semi-bold files of Gradio 6.31 lack most Latin letters.
    """
    local = gr.themes.utils.fonts.LocalFont
    return gr.themes.Base(
        primary_hue=gr.themes.colors.indigo,
        neutral_hue=gr.themes.colors.slate,
        radius_size=gr.themes.sizes.radius_md,
        font=[local("IBM Plex Sans", weights=(400, 700)), "system-ui", "sans-serif"],
        font_mono=[local("IBM Plex Mono", weights=(400, 700)), "ui-monospace", "monospace"],
    )


def _presenter(studio: Studio, page: gr.Blocks) -> None:
    """The lock: log in, then what changes things for everybody. Every handler checks on the server."""
    quick: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
    ticket = gr.BrowserState("", storage_key="studio-presenter", secret=studio.browser_secret())
    chat_models = [(m.title, m.id) for m in studio.models.values() if m.task == "chat"]
    devices = list(dict.fromkeys([*device.DEVICES, studio.settings.device]))
    limits = specs(Limits)
    with gr.Accordion("Presenter", open=False, elem_id="presenter", visible=studio.sessions.is_locked):
        with gr.Row(visible=True) as login:
            password = gr.Textbox(type="password", label="Password", elem_id="presenter-password", max_length=200)
            enter = gr.Button("Log in", elem_id="presenter-login", min_width=90)
        said = gr.HTML(elem_id="presenter-said", elem_classes="quiet")
        with gr.Column(visible=False, elem_id="presenter-controls") as controls:
            with gr.Row():
                model = gr.Dropdown(
                    chat_models, value=None, label="Chat model for everybody", elem_id="presenter-model"
                )
                where = gr.Dropdown(devices, value=None, label="Device", elem_id="presenter-device")
                seconds = gr.Number(
                    label="Time limit (s)", elem_id="presenter-seconds",
                    minimum=limits["time_limit_s"].minimum, maximum=limits["time_limit_s"].maximum,
                )  # fmt: skip
                longest = gr.Number(
                    label="Longest answer (tokens)", elem_id="presenter-tokens",
                    minimum=limits["max_new_tokens"].minimum, maximum=limits["max_new_tokens"].maximum,
                )  # fmt: skip
            with gr.Row():
                apply = gr.Button("Apply for everybody", elem_id="presenter-apply")
                leave = gr.Button("Log out", elem_id="presenter-logout")

    def shown(is_presenter: bool) -> list[Any]:
        """Login or controls; the controls say what holds now, which another page may have changed."""
        chosen = studio.ready.choices["chat"].model.id if studio.ready else None
        now = [chosen, studio.request.device, studio.limits.time_limit_s, studio.limits.max_new_tokens]
        values = [gr.update(value=value) if is_presenter else gr.update() for value in now]
        return [gr.update(visible=not is_presenter), gr.update(visible=is_presenter), *values]

    def log_in(word: str, request: gr.Request) -> list[Any]:
        try:
            made = studio.sessions.log_in(request.session_hash or "", str(word))
        except StudioError as error:
            return [gr.update(), "", bridge.error_card(error), *shown(False)]
        return [made, "", bridge.notice_card(["You are the presenter on this page."]), *shown(True)]

    def come_back(kept: Any, request: gr.Request) -> list[Any]:
        is_presenter = isinstance(kept, str) and studio.sessions.return_with(request.session_hash or "", kept)
        return shown(is_presenter)

    def log_out(kept: Any, request: gr.Request) -> list[Any]:
        studio.sessions.log_out(request.session_hash or "", kept if isinstance(kept, str) else "")
        return ["", bridge.notice_card(["Logged out."]), *shown(False)]

    def change(model_id: Any, place: Any, limit_s: Any, tokens: Any, request: gr.Request) -> str:
        session = request.session_hash or ""
        try:
            studio.change_limits(session, limit_s, tokens)
            notes = ["Limits set."]
            if place and place != studio.request.device:
                notes.append(studio.change_device(session, device.Request(str(place), studio.settings.dtype)).reason)
            if model_id and (studio.ready is None or model_id != studio.ready.choices["chat"].model.id):
                notes.append(studio.change_default_model(session, str(model_id)).reason)
        except StudioError as error:
            return bridge.error_card(error)
        return bridge.notice_card(notes)

    settings = [model, where, seconds, longest]
    view = [login, controls, *settings]
    gr.on([enter.click, password.submit], log_in, [password], [ticket, password, said, *view], **quick)
    leave.click(log_out, [ticket], [ticket, said, *view], **quick)
    apply.click(change, settings, [said], **quick)
    page.load(come_back, [ticket], view, **quick)


def build(studio: Studio) -> gr.Blocks:
    """The whole page, not yet served."""
    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(60, 3600), fill_width=False) as page:
        gr.HTML(HEADER, elem_id="studio-header")
        with gr.Tabs(elem_id="studio-tabs"):
            for tab in tabs_of(studio):
                with gr.Tab(tab.title, id=tab.id, elem_id=f"tab-{tab.id}"):
                    tab.build(studio, page)
        _presenter(studio, page)
        gr.HTML(FOOTER, elem_id="studio-footer")

        def leave(request: gr.Request) -> None:
            studio.stop(request.session_hash or "")
            studio.sessions.forget(request.session_hash or "")

        page.unload(leave)
    page.queue(api_open=False, max_size=studio.settings.max_waiting * 4, status_update_rate=2)
    return page


def routes(studio: Studio) -> list[Route]:
    """What the page asks for besides Gradio's own: the state for the header, our pictures, the model cards."""

    def state(request: Request) -> Response:
        now, ready = studio.state(), studio.ready
        body: dict[str, Any] = {"running": now.running, "waiting": now.waiting, "wait_s": round(now.wait_s)}
        if ready is not None:
            model = ready.choices["chat"].model
            where = "remote" if model.is_remote else studio.compute_for(model).short
            reason = ready.choices["chat"].reason
            body |= {
                "device": f"{where}, {model.title}",
                "reason": reason if model.is_remote else f"{studio.compute_for(model).reason} {reason}",
                "model": f"{model.title}: {model.license}{', not for commercial use' if model.non_commercial else ''}",
            }
        if studio.failure is not None:
            body |= {"device": "not ready", "reason": str(studio.failure)}
        return JSONResponse(body, headers={"Cache-Control": "no-store"})

    def picture(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in SERVED:
            return PlainTextResponse("There is no such file.", 404)
        return FileResponse(WEB / name, media_type=SERVED[name], headers={"Cache-Control": "max-age=3600"})

    def card(request: Request) -> Response:
        model = studio.models.get(request.path_params["model"])
        folder = model.folder() if model is not None and model.source == "embedded" else None
        file = folder / "CARD.md" if folder else None
        if file is None or not file.is_file():
            return PlainTextResponse("This model has no card here.", 404)
        text = html.escape(file.read_text(encoding="utf-8"))
        page = "<!doctype html><meta charset=utf-8><meta name=viewport content='width=device-width'><title>Card</title>"
        page += f"<pre style='white-space:pre-wrap;max-width:52em;margin:2em auto;padding:0 1em;font:16px/1.5 system-ui'>{text}</pre>"
        return Response(page, media_type="text/html")

    return [
        Route("/studio/state", state),
        Route("/studio/web/{name}", picture),
        Route("/studio/card/{model}", card),
    ]


class ContentPolicy:
    """Middleware that tells the browser what the page may load; who leaves in mid-upload is no error."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).setdefault("Content-Security-Policy", CONTENT_POLICY)
            await send(message)

        with contextlib.suppress(ClientDisconnect):
            await self.app(scope, receive, with_policy)


def _launch(studio: Studio, page: gr.Blocks) -> str:
    """Start the server in a thread of its own; returns the local address."""
    s = studio.settings
    script = (WEB / "studio.js").read_text(encoding="utf-8")
    _, url, _ = page.launch(
        server_name=s.host,
        server_port=s.port,
        root_path=s.root_path or None,
        share=False,
        inbrowser=False,
        prevent_thread_lock=True,
        quiet=True,
        show_error=False,
        max_threads=MOST_ACTIVE,
        max_file_size="10mb",
        allowed_paths=[],
        blocked_paths=[str(s.data_dir.resolve())],
        strict_cors=True,
        enable_monitoring=False,
        run_history=False,
        ssr_mode=False,
        mcp_server=False,
        pwa=False,
        footer_links=[],
        favicon_path=WEB / "favicon.svg",
        theme=theme(),
        css_paths=WEB / "style.css",
        head=f"<script>{script}</script>",
        app_kwargs={
            "routes": routes(studio),
            "middleware": [Middleware(ContentPolicy)],
            "docs_url": None,
            "redoc_url": None,
            "openapi_url": None,
        },
    )
    return str(url)


def serve(studio: Studio, page: gr.Blocks, *, block: bool = True) -> str:
    """Launch the page, then warm up. Returns the local address; blocks until interrupted unless told not to.

    Raises StudioError when the address cannot be listened on.
    """
    s = studio.settings
    try:
        url = _launch(studio, page)
    except OSError as error:
        raise StudioError(
            f"The page cannot be opened at {s.host}:{s.port}: the port is taken, or the address is not ours.",
            "Choose another with --port or --host.",
        ) from error
    print(f"{TITLE} is open at {url}", flush=True)
    studio.start()
    if s.open_browser:
        webbrowser.open(url)
    if block:
        try:
            page.block_thread()
        finally:
            studio.close()
    return url
