"""Write the model card of the embedded chat model from its manifest and its evaluation.

The sample answers, good and bad, are the first of each kind that the evaluation met: nobody picks the
pretty ones. Knows no model and no tokens; ``eval_chat`` brings the scores.

    python -m pipelines.recipes.eval_chat --card
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.recipes.train_chat import CONTEXT

if TYPE_CHECKING:
    from pipelines.recipes.eval_chat import Outcome

SAMPLES = 6
#: Which (set, kind) to take samples from, in this order; what is left is filled with any other.
GOOD_FROM = (("phrasings", "facet"), ("phrasings", "fact"), ("phrasings", "follow_up"), ("phrasings", "compare"),
             ("scope", "scope"), ("forms", "haiku"))  # fmt: skip
BAD_FROM = (("extra", "extra"), ("phrasings", "indirect"), ("phrasings", "fact"), ("phrasings", "follow_up"),
            ("scope", "scope"), ("forms", "story"))  # fmt: skip


def what_is_wrong(outcome: Outcome) -> str:
    """One sentence on why an answer was not counted as right."""
    if outcome.group == "scope":
        return "It should have said that it does not know; nothing about this was in its training."
    if outcome.is_declined:
        return "It declined, although its training text holds the answer."
    if outcome.group == "forms":
        return f"This is not a valid {outcome.case.kind.replace('_', ' ')} on what was asked."
    low = outcome.answer.lower()
    missing = [t for t in outcome.case.key if not any(alt.strip().lower() in low for alt in t.split("|"))]
    return f"It does not mention: {'; '.join(term.replace('|', ' or ') for term in missing)}."


def choose(outcomes: Sequence[Outcome], is_right: bool, wanted: Sequence[tuple[str, str]]) -> list[Outcome]:
    """Up to ``SAMPLES`` outcomes, one of each wanted (set, kind), then of kinds not shown yet, then any."""
    pool = [o for o in outcomes if o.is_right == is_right]
    chosen: list[Outcome] = []
    for source in wanted:
        chosen += [o for o in pool if (o.group, o.case.kind) == source][:1]
    for may_repeat in (False, True):
        for outcome in pool:
            shown = {(o.group, o.case.kind) for o in chosen}
            is_new = outcome not in chosen and (may_repeat or (outcome.group, outcome.case.kind) not in shown)
            if len(chosen) < SAMPLES and is_new:
                chosen.append(outcome)
    return chosen[:SAMPLES]


def _sample(outcome: Outcome) -> str:
    asked = " / ".join(m["content"] for m in outcome.case.messages if m["role"] == "user").replace("\n", " ")
    answer = outcome.answer.replace("\n", "\n> ") or "(nothing)"
    remark = "" if outcome.is_right else f"\n\n*What is wrong:* {what_is_wrong(outcome)}"
    return f"**{asked}**\n\n> {answer}{remark}"


def _rows(found: dict[str, Any]) -> str:
    names = {
        "facet": "a plain question about a term (what, how, why, an example, ...)",
        "indirect": "a question that describes the term without naming it",
        "fact": "a single fact (who, when, how many)",
        "follow_up": "a follow-up that needs the turn before it",
        "compare": "two terms compared",
    }
    right = found["right"]
    rows = [("Held-out phrasings: worded in ways training never used", right["phrasings"]["all"])]
    rows += [(f"- {text}", right["phrasings"][kind]) for kind, text in names.items() if kind in right["phrasings"]]
    rows += [
        (
            "Held-out combinations: a known wording with a known term, never together before",
            right["combinations"]["all"],
        ),
        ("Worded independently of our templates, as a stranger would ask", right["extra"]["all"]),
        ("Small talk in unseen wordings", right["talk"]["all"]),
        ("Out of scope: politely declined", right["scope"]["all"]),
        ("Short creative forms and text work on unseen themes", right["forms"]["all"]),
    ]
    lines = [f"| {text} | {value['share']:.0%} | {value['n']:.0f} |" for text, value in rows]
    return "\n".join(("| What was asked | Right | Questions |", "|---|---|---|", *lines))


def text(manifest: dict[str, Any], outcomes: Sequence[Outcome], found: dict[str, Any]) -> str:
    """The card as Markdown. ``manifest`` is MANIFEST.json, ``found`` what ``eval_chat.scores`` returned."""
    good = "\n\n".join(map(_sample, choose(outcomes, True, GOOD_FROM)))
    bad = "\n\n".join(map(_sample, choose(outcomes, False, BAD_FROM)))
    parameters = f"{manifest['parameters'] / 1e6:.1f} million parameters"
    megabytes = sum(f["bytes"] for f in manifest["files"].values()) / 1e6
    dial = "" if manifest["size"] == "small" else f" --{'smoke' if manifest['size'] == 'smoke' else 'size large'}"
    note = f"\n\n{manifest['note']}" if "note" in manifest else ""
    versions = ", ".join(f"{name} {version}" for name, version in manifest["versions"].items())
    warning = ""
    if manifest["size"] == "smoke":
        warning = "\n> This folder holds a smoke-test stand-in: a few training steps, no useful answers.\n"
    return f"""---
license: apache-2.0
language: en
library_name: transformers
pipeline_tag: text-generation
---

# Mote

Mote is the chat guide of the Generative AI 101 Studio: a language model of {parameters}, trained from
scratch on conversations that this project composed itself. It explains generative AI in a few sentences,
writes short forms such as a haiku or a slogan, and says that it does not know when it is asked about
anything else. It was made in {manifest["minutes"]:.0f} minutes, and that is its point: an audience can see the whole
of a language model, its data and its mistakes included.
{warning}
## Intended use

Demonstrations, teaching and tests: in the studio's Chat tab, on stage, without a network and without a GPU.
It loads with `AutoModelForCausalLM` and `AutoTokenizer`; the chat template comes with the tokenizer.

Do not use it to look up facts that matter, to advise anybody, or as a base for another product. For real
work choose one of the larger models that the studio offers.

## What it cannot do

- It knows generative AI and itself, nothing else, and only what its training text says about them.
- It does not reason, calculate, program or translate beyond a handful of memorized examples.
- It reads English only, and it handles an unusual wording less well than a usual one (see the scores).
- When it misses a question it often gives a fluent answer to a different one. It cannot tell that it did.
- It sees {CONTEXT} tokens, so it forgets the beginning of a long conversation.
- The newest facts it was taught are from late 2025. What changed since it does not know.

## Data and licence

All training text was written for this project, with the help of a larger language model, and lives in `pipelines/recipes/chat_data`: definitions,
examples, comparisons and facts about generative AI, small talk, out-of-scope questions with declines, and
the parts from which the short forms are composed. `chat_corpus.py` combines them with question templates,
typing noise and follow-ups into endless conversations. No text was copied from the web, no conversation of
a user is in it. Data and weights are under Apache-2.0.

## Training

A Llama-type decoder with a byte-level BPE tokenizer of its own. Muon for the matrices and AdamW for the
rest, loss on the answers only. {manifest["steps"]:,} steps over {manifest["tokens"]:,} tokens took
{manifest["minutes"]:.0f} minutes; the last training loss was {manifest["final_loss"]:.3f}.{note}

| | |
|---|---|
| Machine | {manifest["machine"]} |
| Size | {parameters}, {megabytes:.1f} MB on disk (fp16) |
| Seed, commit | {manifest["seed"]}, `{manifest["commit"][:12]}` |
| Versions | {versions} |

To train it again, then to measure it and to write this card:

```
python -m pipelines.recipes.train_chat{dial} --minutes {max(manifest["minutes"], 1):.0f}
python -m pipelines.recipes.eval_chat --card
```

## Scores

{found["questions"]:,} questions that training never saw, answered greedily. Right means that the answer
contains the key terms of the knowledge base (for forms: that a program finds the form fulfilled), so a right
answer with one wrong detail can pass, and a good answer in other words can fail.

{_rows(found)}

Of the questions that it should have answered it declined {found["declined_wrongly"]:.1%};
{found["repetition"]:.1%} of all answers got stuck repeating themselves.

{found["verbatim"]:.0%} of its answers equal a training answer word for word, and on average the longest run of
words shared with one training answer makes up {found["overlap"]:.0%} of an answer. Do not mistake this for
understanding: a model of this size mostly learns which taught answer a question asks for. What is new in it is
the way from an unseen question to that answer.

## Samples

Chosen by the program, the first of each kind, greedy decoding. Earlier turns stand before a slash.

### Good

{good}

### Bad

{bad}
"""


def write(folder: Path, outcomes: Sequence[Outcome], found: dict[str, Any]) -> Path:
    """Write ``CARD.md`` beside the model's ``MANIFEST.json`` and return its path."""
    manifest = json.loads((folder / "MANIFEST.json").read_text(encoding="utf-8"))
    path = folder / "CARD.md"
    path.write_text(text(manifest, outcomes, found), encoding="utf-8")
    return path
