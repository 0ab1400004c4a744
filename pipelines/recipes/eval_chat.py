"""Ask a chat model what training kept back, and count what is right: the scores behind Mote's model card.

Held-out phrasings, combinations, small talk, themes and out-of-scope questions come from ``chat_corpus`` and
``chat_forms``; ``EXTRA`` was worded by somebody who asks like a visitor, not like our templates. Right means
that the key terms are there. A tiny model mostly recites what it was taught: that is what "verbatim" and
"overlap" measure, and a high value is expected. Greedy decoding, fixed seed; about two minutes on two cores.

    python -m pipelines.recipes.eval_chat --limit 20     # a quick look
    python -m pipelines.recipes.eval_chat --card         # the whole evaluation, then CARD.md beside the model
"""

from __future__ import annotations

import argparse
import json
import random
import re
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines import device
from pipelines.recipes import chat_forms
from pipelines.recipes.chat_corpus import Corpus, Message, TestCase
from pipelines.recipes.chat_knowledge import answer_is_right
from pipelines.recipes.train_chat import DEFAULT_OUTPUT

BATCH = 32
MAX_NEW_TOKENS = 120
#: Largest number of questions per set, drawn at random from it. ``--limit`` lowers all of them.
SET_SIZES = {"phrasings": 600, "combinations": 300, "scope": 400, "forms": 256, "talk": 100, "extra": 100}
TITLES = {
    "phrasings": "held-out phrasings",
    "combinations": "held-out combinations",
    "scope": "out of scope: declined",
    "forms": "forms on held-out themes",
    "talk": "small talk, held-out wording",
    "extra": "worded independently",
}
#: Sets whose questions the knowledge base answers: declining one of them is a mistake.
IN_SCOPE = ("phrasings", "combinations", "extra")
#: Forms made from fixed lists, so that a third or more of their questions occur in training as they stand.
#: They are shown, but stay out of the overall share.
FROM_FIXED_LISTS = ("rhyme_ai", "rhyme_word", "acronym", "sequence", "code", "translate")
#: ``out_of_scope.toml`` promises one of these in every decline.
_DECLINE = re.compile(r"\b(i do not know|outside what i know|i cannot help with that)", re.IGNORECASE)

# fmt: off
#: What strangers at a conference ask, slips included, with the terms that a right answer contains. None of
#: it was written with the templates at hand, so it shows how far the model got beyond our own style.
EXTRA: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("so whats the deal with transformers, why is everybody using them", ("transformer|attention", "token|parallel")),
    ("can u explain diffusion models pls, im not technical", ("noise", "step|remov|clean")),
    ("why does chatgpt just make stuff up sometimes", ("plausib|hallucinat|likely text|made up",)),
    ("if i come back tomorrow will you still know who i am", ("remember|forget",)),
    ("do i need some monster graphics card to run this thing at home", ("cpu|no gpu",)),
    ("how on earth do you get a picture out of just words", ("picture|image|pixels", "noise|prompt|encoder")),
    ("who came up with GANs again?", ("goodfellow",)),
    ("that famous transformer paper, which year was it", ("2017",)),
    ("what happens when I crank the temperature all the way down to zero", ("greedy|most likely|likeliest",)),
    ("tokens and words, arent they the same?", ("token", "piece of|part of|parts of|three quarters|750|split")),
    ("how many parameters have you got yourself", ("12 million",)),
    ("be honest, is this just ChatGPT behind a curtain?", ("mote",)),
    ("is the stuff i type here saved somewhere", ("browser|not used to train",)),
    ("whats lora and why is it cheaper than training everything", ("frozen|small matrices", "lora|train")),
    ("overfitting, real quick?", ("training", "new data|by heart|noise|general")),
    ("and if models keep being trained on text written by models?", ("collapse",)),
    ("any way to tell a video is a deepfake", ("check the source|edges|lips|call back",)),
    ("who owns the picture if a machine made it", ("author|copyright", "human|prompts|owns")),
    ("heard the word RAG three times today, whats that", ("search|retriev", "passages|documents")),
    ("should i go for RAG or finetuning, whats different", ("weights|train", "search|rag", "passages|documents|facts")),
    ("got any tips how to write a better prompt", ("task|clear", "context|example|form")),
    ("every startup is selling agents now. what is that, an agent?", ("goal", "tool|loop|steps")),
    ("how does the bot know its answer is finished", ("end token|eos",)),
    ("why cant these things count the letters in a word", ("token", "letters")),
    ("the three letters in GPT, what are they", ("generative pretrained transformer",)),
    ("since when is ChatGPT around", ("november|2022",)),
    ("embeddings in normal english please", ("vector|list of numbers|address|map", "mean|similar|close|near|place")),
    ("there's some european law about AI, right?", ("ai act|eu has|european",)),
    ("How do I get exactly the same image a second time?", ("seed",)),
    ("what are LLMs bad at", ("false|cutoff|invent|hallucinat",)),
    ("somebody on stage said MoE. meaning?", ("expert", "router|token")),
    ("how few photos are enough to teach it my dog", ("3 to 5|three to five|few photos|few pictures",)),
    ("what does that guidance knob do", ("prompt", "guidance|follow|closely|difference")),
    ("i dont want text in my picture, where do i say what to leave out", ("negative prompt|not appear",)),
    ("honestly, is my office job toast because of AI?", ("tasks", "job|work")),
    ("can I talk to you in Spanish", ("english",)),
    ("what do i see when i open See inside", ("probabilit|denoising steps|training loss|piano roll",)),
    ("quantising a model, what for?", ("fewer bits|4 bits|8 bits|memory", "quantiz|bits")),
    ("whos in charge over at openai these days", ("altman",)),
    ("how do people measure if one model beats another", ("benchmark|vote|compared|scor",)),
    ("prompt injection sounds scary, what is it", ("attack", "instruction")),
    ("can I trust what you say", ("can be wrong|check what|mistakes|check it|check important",)),
    ("what if my learning rate is way too big", ("loss jumps|diverge|breaks|nan|overshoot",)),
    ("backprop - gimme the short version", ("backward", "gradient|error|weight")),
    ("does AI music come out as notes or as sound", ("notes|midi", "sound|audio")),
    ("is it even legal to train on books without asking anyone", ("fair use|disputed|opt out|opts out|opted out",)),
    ("Is open source the same as open weights?", ("open", "weights", "data|source|code")),
    ("what was that test by Turing about", ("judge|machine", "human")),
    ("how long can a chat get before it forgets how it started", ("context window|oldest|cut off|at once",)),
    ("those invisible watermarks in AI pictures, how do they work", ("watermark|signal|pattern", "detector")),
    ("AGI, are we there yet??", ("agi", "human|most definitions|agreed definition")),
    ("GAN against diffusion, which is which?", ("noise|steps", "discriminator|generator|one pass|single pass|contest")),
    ("supervised or unsupervised learning, I always mix them up", ("label", "structure|without|no labels")),
    ("my 6 year old asks what a neural network is. help", ("friends|whisper|neurons|layers",)),
    ("how come my answer shows up bit by bit", ("one token after|token by token|one token at a time|next token",)),
    ("how is a chatbot made polite, is that the human feedback thing?", ("prefer|reward|compar", "people|human")),
    ("What's the catch with cloning a voice?", ("consent|fraud",)),
    ("why does all this eat so much electricity", ("data center|electricity|power grid", "train|request|grid|answer")),
    ("top p vs top k", ("fixed|k most likely", "add|probabilit")),
    ("what can a doctor use this AI for", ("notes|records",)),
)
# fmt: on


@dataclass(frozen=True)
class Outcome:
    """A question, what the model said, and what we think of it. ``group`` is a key of ``SET_SIZES``."""

    group: str
    case: TestCase
    answer: str
    is_right: bool
    is_declined: bool

    @property
    def question(self) -> str:
        return self.case.messages[-1]["content"]


def _some(cases: Sequence[TestCase], total: int, rng: random.Random) -> list[TestCase]:
    return rng.sample(cases, min(total, len(cases)))


def _form_cases(total: int, rng: random.Random) -> list[TestCase]:
    """The first question of form examples on held-out themes, kind after kind."""
    kinds = [chat_forms.KINDS[i % len(chat_forms.KINDS)] for i in range(total)]
    requests = [(kind, chat_forms.example(rng, kind, heldout=True)[0]) for kind in kinds]
    return [TestCase(kind, f"form.{kind}", (request,), ()) for kind, request in requests]


def questions(corpus: Corpus, limit: int = 0, seed: int = 0) -> dict[str, list[TestCase]]:
    """Every set of questions, at most ``limit`` in each (0: as in ``SET_SIZES``); the same for the same seed."""
    rng = random.Random(seed)
    size = {group: min(limit, most) if limit else most for group, most in SET_SIZES.items()}
    extra = [TestCase("extra", "extra", ({"role": "user", "content": q},), key) for q, key in EXTRA]
    return {
        "phrasings": _some(corpus.held_out_phrasings(seed), size["phrasings"], rng),
        "combinations": _some(corpus.held_out_combinations(seed), size["combinations"], rng),
        "scope": _some(corpus.held_out_scope(seed), size["scope"], rng),
        "forms": _form_cases(size["forms"], rng),
        "talk": _some(corpus.held_out_small_talk(), size["talk"], rng),
        "extra": extra[: size["extra"]],
    }


def open_model(folder: Path, device_name: str = "auto") -> tuple[Any, Any]:
    """Model (float32, so that the scores do not depend on the machine) and tokenizer of a saved folder."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    compute = device.pick(device.Request(device_name, "float32"), device.probe())
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return model.to(compute.device).eval(), AutoTokenizer.from_pretrained(folder, padding_side="left")


def answers(model: Any, tokenizer: Any, conversations: Sequence[Sequence[Message]]) -> list[str]:
    """The greedy answer to each conversation, in the order given; like lengths share a left-padded batch."""
    import torch

    texts = [
        tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=True)
        for messages in conversations
    ]
    order, found = sorted(range(len(texts)), key=lambda i: len(texts[i])), [""] * len(texts)
    for start in range(0, len(order), BATCH):
        chosen = order[start : start + BATCH]
        inputs = tokenizer([texts[i] for i in chosen], padding=True, add_special_tokens=False, return_tensors="pt")
        inputs = {name: inputs[name].to(model.device) for name in ("input_ids", "attention_mask")}
        with torch.inference_mode():
            ids = model.generate(**inputs, do_sample=False, max_new_tokens=MAX_NEW_TOKENS)
        new = ids[:, inputs["input_ids"].shape[1] :]
        for i, text in zip(chosen, tokenizer.batch_decode(new, skip_special_tokens=True), strict=True):
            found[i] = text.strip()
    return found


def judge(group: str, case: TestCase, answer: str) -> Outcome:
    """Is the answer right, and is it a decline? A right answer that quotes "I do not know" is no decline."""
    says_no = bool(_DECLINE.search(answer))
    if group == "scope":
        return Outcome(group, case, answer, says_no, says_no)
    if group == "forms":
        is_right = chat_forms.check(case.kind, case.messages[-1]["content"], answer)
    else:
        is_right = answer_is_right(answer, case.key)
    return Outcome(group, case, answer, is_right, says_no and not is_right)


def is_repetitive(answer: str) -> bool:
    """Whether some run of four words occurs three times or more."""
    words = answer.lower().split()
    return max(Counter(zip(words, words[1:], words[2:], words[3:], strict=False)).values(), default=0) >= 3


def overlap(answer: str, known: str) -> float:
    """Longest run of words that ``answer`` shares with one text of ``known`` (see ``joined``), over its length."""
    words, start, longest = answer.split(), 0, 0
    for end in range(1, len(words) + 1):
        while start < end and f" {' '.join(words[start:end])} " not in known:
            start += 1
        longest = max(longest, end - start)
    return longest / max(len(words), 1)


def joined(texts: Iterable[str]) -> str:
    """All texts in one string in which no run of words crosses from one to the next."""
    return "\n".join(f" {' '.join(text.split())} " for text in sorted(texts))


def _share(values: Sequence[bool | float]) -> float:
    return round(sum(values) / max(len(values), 1), 4)


def scores(outcomes: Sequence[Outcome], corpus: Corpus) -> dict[str, Any]:
    """The numbers: per set the share of right answers ("all" and per kind, with their count), then the rest."""
    right: dict[str, dict[str, dict[str, float]]] = {}
    for group in SET_SIZES:
        kinds: dict[str, list[bool]] = {"all": []}
        for outcome in (o for o in outcomes if o.group == group):
            kind = outcome.case.kind
            if group != "forms" or kind not in FROM_FIXED_LISTS:
                kinds["all"].append(outcome.is_right)
            kinds.setdefault(kind, []).append(outcome.is_right)
        shown = kinds if len(kinds) > 2 else {"all": kinds["all"]}
        right[group] = {kind: {"share": _share(found), "n": len(found)} for kind, found in shown.items()}
    in_scope = [o for o in outcomes if o.group in IN_SCOPE]
    taught = {" ".join(a.split()) for a in corpus.training_answers()}
    known = joined(taught)
    return {
        "right": right,
        "declined_wrongly": _share([o.is_declined for o in in_scope]),
        "repetition": _share([is_repetitive(o.answer) for o in outcomes]),
        "verbatim": _share([" ".join(o.answer.split()) in taught for o in in_scope]),
        "overlap": _share([overlap(o.answer, known) for o in in_scope]),
    }


def table(found: dict[str, Any]) -> str:
    """The scores as lines of text."""
    lines = []
    for group, kinds in found["right"].items():
        total = kinds["all"]
        lines.append(f"{TITLES[group]:<36}{total['share']:>7.1%}  of {total['n']:.0f}")
        for kind, value in kinds.items():
            if kind != "all":
                mark = "  (from fixed lists, not counted above)" if kind in FROM_FIXED_LISTS else ""
                lines.append(f"    {kind:<32}{value['share']:>7.1%}  of {value['n']:.0f}{mark}")
    lines += [
        f"{'in scope, wrongly declined':<36}{found['declined_wrongly']:>7.1%}",
        f"{'answers that repeat themselves':<36}{found['repetition']:>7.1%}",
        f"{'verbatim training answers':<36}{found['verbatim']:>7.1%}",
        f"{'longest run shared with training':<36}{found['overlap']:>7.1%}  of the answer's words",
    ]
    return "\n".join(lines)


def evaluate(folder: Path, limit: int = 0, device_name: str = "auto") -> tuple[list[Outcome], dict[str, Any]]:
    """Ask everything; returns each outcome and the scores."""
    started, corpus = time.monotonic(), Corpus()
    model, tokenizer = open_model(folder, device_name)
    asked = [(group, case) for group, cases in questions(corpus, limit).items() for case in cases]
    said = answers(model, tokenizer, [case.messages for _, case in asked])
    outcomes = [judge(group, case, answer) for (group, case), answer in zip(asked, said, strict=True)]
    found = {"model": folder.name, "questions": len(asked)} | scores(outcomes, corpus)
    return outcomes, found | {"seconds": round(time.monotonic() - started, 1)}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=DEFAULT_OUTPUT, help="a saved model folder")
    parser.add_argument("--limit", type=int, default=0, help="most questions per set (0: the set's own size)")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--json", action="store_true", help="the scores as one JSON object on the last line")
    parser.add_argument("--card", action="store_true", help="write CARD.md beside the model")
    parser.add_argument("--wrong", action="store_true", help="print every wrong answer as well")
    args = parser.parse_args(argv)
    outcomes, found = evaluate(args.model, args.limit, args.device)
    if args.wrong:
        for o in (o for o in outcomes if not o.is_right):
            print(f"[{o.group} {o.case.intent}] {o.question!r}\n    {o.answer!r}\n    key {o.case.key}")
    print(table(found))
    print(f"{found['questions']} questions in {found['seconds']:.0f} s")
    if args.card:
        from pipelines.recipes import chat_card

        print(f"wrote {chat_card.write(args.model, outcomes, found).name}")
    if args.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1:])
