"""Chat benchmarks as ratios taken in one run on one machine; run by hand, the last line of stdout is JSON.

    make bench                      # or: python -m tests.bench.chat [--rounds 5] [--no-browser]

A is always the studio, B the plain thing it is compared with, taken in turn (A B A B ...).
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import torch

from pipelines import catalog, weights
from pipelines.chat import ChatParams, Loader
from pipelines.chat_local import LocalChat
from pipelines.engine import Engine
from pipelines.events import CancelToken, Partial
from pipelines.jobs import Job

ROOT = Path(__file__).resolve().parents[2]
QUESTION = "What is the difference between a GAN and a diffusion model?"
TOKENS = 100


def params(**changes: Any) -> ChatParams:
    """The question, greedy and always ``TOKENS`` long at most."""
    values: dict[str, Any] = {"max_new_tokens": TOKENS, "strategy": "greedy", "seed": 1} | changes
    return ChatParams(messages=({"role": "user", "content": QUESTION},), **values)


def in_turn(rounds: int, **runs: Callable[[], float]) -> dict[str, list[float]]:
    """Each run once unmeasured, then ``rounds`` times in turn; what each returned."""
    for run in runs.values():
        run()
    found: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            found[name].append(run())
    return found


def ratio(a: list[float], b: list[float]) -> float:
    """Median of the pairwise ratios a/b."""
    return round(statistics.median(x / y for x, y in zip(a, b, strict=True)), 3)


def speed(backend: LocalChat, rounds: int) -> dict[str, Any]:
    """Tokens per second of the studio's loop, traced and not, against ``generate`` with the same settings."""
    network, tokenizer = backend._network, backend._tokenizer
    ids, _, _ = backend.fit(params())
    inputs = torch.tensor([ids])

    def plain() -> float:
        started = time.perf_counter()
        with torch.inference_mode():
            out = network.generate(
                inputs, attention_mask=torch.ones_like(inputs), do_sample=False, max_new_tokens=TOKENS
            )
        return (out.shape[1] - inputs.shape[1]) / (time.perf_counter() - started)

    def studio(is_traced: bool) -> float:
        started, count = time.perf_counter(), 0
        for event in backend.run(params(is_traced=is_traced), CancelToken()):
            count += isinstance(event, Partial)
        return count / (time.perf_counter() - started)

    found = in_turn(rounds, traced=lambda: studio(True), untraced=lambda: studio(False), generate=plain)
    assert tokenizer is not None
    return {
        "studio_tokens_per_s": round(statistics.median(found["traced"]), 1),
        "generate_tokens_per_s": round(statistics.median(found["generate"]), 1),
        "studio_over_generate": ratio(found["traced"], found["generate"]),
        "studio_untraced_over_generate": ratio(found["untraced"], found["generate"]),
    }


def room(engine: Engine, model: catalog.Model, rounds: int) -> dict[str, Any]:
    """Ten sessions at once against the same ten one after the other: total time and time to the first token."""

    def ask(session: int) -> float:
        started, first = time.perf_counter(), 0.0
        for event in engine.submit(Job(f"s{session}", model, params(max_new_tokens=40))).events():
            if isinstance(event, Partial) and not first:
                first = time.perf_counter() - started
        return first

    firsts: list[float] = []

    def together() -> float:
        started = time.perf_counter()
        threads = [threading.Thread(target=lambda i=i: firsts.append(ask(i))) for i in range(10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return time.perf_counter() - started

    def one_by_one() -> float:
        started = time.perf_counter()
        for i in range(10):
            ask(i)
        return time.perf_counter() - started

    found = in_turn(max(2, rounds // 2), together=together, one_by_one=one_by_one)
    return {
        "ten_at_once_over_one_by_one": ratio(found["together"], found["one_by_one"]),
        "ten_at_once_median_first_token_s": round(statistics.median(firsts), 3),
        "ten_at_once_last_first_token_s": round(max(firsts), 3),
    }


def through_browser(engine: Engine, model: catalog.Model, rounds: int) -> dict[str, Any]:
    """First token seen in a real page against the first token of the engine; memory of the serving process."""
    from playwright.sync_api import sync_playwright

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    chromium = next((p for n in ("chromium", "chromium-browser", "google-chrome") if (p := shutil.which(n))), None)
    with tempfile.TemporaryDirectory() as data:
        command = [sys.executable, "app.py", "--port", str(port), "--data-dir", data]
        server = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, "CI": "1"}
        )
        started = time.perf_counter()
        try:
            address = f"http://127.0.0.1:{port}/"
            while True:
                try:
                    urllib.request.urlopen(address, timeout=5).read()
                    break
                except OSError:
                    time.sleep(0.05)
            answering = time.perf_counter() - started
            while b"device" not in urllib.request.urlopen(address + "studio/state", timeout=30).read():
                time.sleep(0.1)
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
                page = browser.new_page()
                page.goto(address)
                page.wait_for_selector("#chat-prompt textarea")
                # Counts inside the page, so that the driver's own round trips are not measured.
                page.evaluate(_WATCH)

                def shown() -> float:
                    page.click("#chat-new")
                    page.fill("#chat-prompt textarea", QUESTION)
                    page.evaluate("window.armFirstToken()")
                    page.click("#chat-ask")
                    page.wait_for_function("window.firstTokenMs > 0", timeout=60_000)
                    value = float(page.evaluate("window.firstTokenMs")) / 1000
                    page.wait_for_selector("#chat-ask", state="visible", timeout=60_000)
                    return value

                def direct() -> float:
                    begun = time.perf_counter()
                    for event in engine.submit(Job("direct", model, params())).events():
                        if isinstance(event, Partial):
                            return time.perf_counter() - begun
                    raise RuntimeError("no token")

                found = in_turn(rounds, page=shown, direct=direct)
                browser.close()
            memory = psutil.Process(server.pid).memory_info().rss
        finally:
            server.terminate()
            server.wait(20)
    extra = [a - b for a, b in zip(found["page"], found["direct"], strict=True)]
    return {
        "page_answers_after_s": round(answering, 1),
        "first_token_page_ms": round(1000 * statistics.median(found["page"])),
        "first_token_direct_ms": round(1000 * statistics.median(found["direct"])),
        "first_token_extra_ms": round(1000 * statistics.median(extra)),
        "server_memory_mb": round(memory / 1e6),
    }


_WATCH = """() => {
  window.firstTokenMs = 0;
  window.armFirstToken = () => {
    window.firstTokenMs = 0;
    let begun = 0;
    document.querySelector('#chat-ask').addEventListener('click', () => { begun = performance.now(); }, { once: true });
    const watcher = new MutationObserver(() => {
      const line = document.querySelector('#chat-tokens .token-line');
      const bots = document.querySelectorAll('#chat-messages .bot .message, #chat-messages .bot.message');
      const last = bots.length ? bots[bots.length - 1].textContent.trim() : '';
      if (begun && last && last !== '\\u2026') {
        window.firstTokenMs = performance.now() - begun;
        watcher.disconnect();
      }
    });
    watcher.observe(document.body, { childList: true, subtree: true, characterData: true });
  };
}"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--no-browser", action="store_true")
    args = parser.parse_args()
    model = catalog.load()["mote"]
    engine = Engine(Loader(), 2 * 1024**3)
    backend: LocalChat = weights.drain(Loader()(model, CancelToken()))
    result: dict[str, Any] = {
        "cores": os.cpu_count(),
        "model": model.id,
        "device": backend.compute.device,
        "dtype": backend.compute.dtype,
        **speed(backend, args.rounds),
        **room(engine, model, args.rounds),
    }
    if not args.no_browser:
        result |= through_browser(engine, model, args.rounds)
    engine.close()
    for name, value in result.items():
        print(f"{name:36} {value}")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
