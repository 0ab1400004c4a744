"""The token view: every token coloured by its probability; a click shows what else it might have been.

Wraps ``assets/web/token_view.js``. The page gets plain numbers and strings; the script puts them in as
text, never as markup.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from pipelines.events import PromptTokens, Token

WEB = Path(__file__).resolve().parents[2] / "assets" / "web"
EMPTY: dict[str, Any] = {"tokens": [], "prompt": [], "can_branch": False}
MOST_PROMPT_TOKENS = 1500


def payload(
    tokens: list[Token], prompt: PromptTokens | None, *, with_alternatives: bool, can_branch: bool
) -> dict[str, Any]:
    """What the script draws. While the answer streams, alternatives stay out: they are most of the bytes."""
    return {
        "tokens": [
            {
                "id": t.token_id,
                "text": t.text,
                "p": round(t.probability, 4),
                "alts": [[a.token_id, a.text, round(a.probability, 4), round(a.kept, 4)] for a in t.alternatives]
                if with_alternatives
                else [],
            }
            for t in tokens
        ],
        "prompt": [list(p) for p in prompt.pieces[-MOST_PROMPT_TOKENS:]] if prompt else [],
        "can_branch": can_branch,
    }


def build(elem_id: str) -> gr.HTML:
    """The component. Its ``select`` event carries ``{"prefix": [token ids]}`` when somebody branches."""
    return gr.HTML(
        value=EMPTY,
        html_template='<div class="token-view" aria-label="Tokens of the answer"></div>',
        css_template=(WEB / "token_view.css").read_text(encoding="utf-8"),
        js_on_load=(WEB / "token_view.js").read_text(encoding="utf-8"),
        elem_id=elem_id,
    )
