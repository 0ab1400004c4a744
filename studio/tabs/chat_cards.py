"""What the chat tab says about a model and about a run, as small pieces of HTML with everything foreign escaped.

Knows no component and no handler.
"""

from __future__ import annotations

import html

from pipelines import catalog
from pipelines.catalog import Model
from studio import bridge
from studio.runtime import Studio

DEFAULT_MODEL = "default"


def model_line(model: Model) -> str:
    """Licence, size and purpose of a model, shown where it is chosen."""
    license_name = html.escape(model.license)
    if model.license_url:
        license_name = f'<a href="{html.escape(model.license_url)}" target="_blank" rel="noopener">{license_name}</a>'
    parts = [html.escape(model.summary), f"Licence: {license_name}."]
    if model.non_commercial:
        parts.append("<strong>Not for commercial use.</strong>")
    if model.is_tiny:
        parts.append('<a href="studio/card/mote" target="_blank">Model card</a>.')
    if model.download_mb:
        parts.append(f"{model.download_mb / 1000:.1f} GB on disk.")
    if model.is_remote:
        parts.append("Your messages leave this machine.")
    return '<p class="model-line">' + " ".join(parts) + "</p>"


def model_choices(studio: Studio) -> list[tuple[str, str]]:
    """(label, id) of every chat model, what is not on this machine marked."""
    found = [("Default of this studio", DEFAULT_MODEL)]
    for model in studio.models.values():
        if model.task == "chat":
            size = f", {model.download_mb / 1000:.1f} GB" if model.download_mb else ""
            here = "" if catalog.is_present(model) else ", not here"
            found.append((f"{model.title} ({model.license}{size}{here})", model.id))
    return found


def numbers_line(view: bridge.View) -> str:
    """Seconds, speed, context used and seed, small, under the answer."""
    r = view.record
    if not r:
        return f'<div class="numbers" aria-live="polite">{html.escape(view.status)}</div>'
    parts = [
        f"{r['tokens']} token{'' if r['tokens'] == 1 else 's'}",
        f"{r['tokens_per_second']:.0f} tokens/s",
        f"{r['seconds']:.1f} s",
    ]
    if "context" in r:
        used = r["prompt_tokens"] + r["tokens"]
        parts.append(f'context {used} of {r["context"]} <progress max="{r["context"]}" value="{used}"></progress>')
    parts += [
        f'seed <button type="button" class="copy" data-copy="{r["seed"]}">{r["seed"]}</button>',
        html.escape(str(r["model"])),
    ]
    if r.get("finish_reason") == "length":
        parts.append("cut at the length limit")
    return '<div class="numbers" aria-live="polite">' + " \u00b7 ".join(parts) + "</div>"


def alternatives_card(view: bridge.View) -> str:
    """Beam search's other answers."""
    others = getattr(view.artifact, "alternatives", ())
    if not others:
        return ""
    rows = "".join(f"<li>{html.escape(t)} <small>score {s:.2f}</small></li>" for t, s in others)
    return f'<div class="card"><strong>Other answers that beam search kept</strong><ol>{rows}</ol></div>'
