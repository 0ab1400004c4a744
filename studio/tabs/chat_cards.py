"""What the chat tab says about a run, as small pieces of HTML with everything foreign escaped.

Knows no component and no handler.
"""

from __future__ import annotations

import html

from studio import bridge


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
    if r["seed"] is not None:  # a server that takes no seed leaves none to be repeated
        parts.append(f'seed <button type="button" class="copy" data-copy="{r["seed"]}">{r["seed"]}</button>')
    parts.append(html.escape(str(r["model"])))
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
