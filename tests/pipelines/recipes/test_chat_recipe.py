"""The chat recipe keeps its promises: the data is sound, nothing held out leaks, and the weights are what they say.

The recipe itself runs here with ``--smoke`` (a toy model in a temporary folder); the model that ships is
measured on fixed samples, unless the folder holds such a toy.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from pipelines.recipes import chat_corpus, chat_forms, chat_knowledge, eval_chat, train_chat
from pipelines.recipes.chat_corpus import Corpus
from pipelines.weights import check_folder

Asked = tuple[set[str], set[tuple[str, str]]]
SHIPPED = train_chat.DEFAULT_OUTPUT


def plain(text: str) -> str:
    """Lower case, punctuation stripped."""
    return " ".join(re.findall(r"[a-z0-9]+", text.lower().replace("'", "")))


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Toy models gain nothing from a second thread; on a busy machine it cost this file 76 s instead of 15 s."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return Corpus()


@pytest.fixture(scope="module")
def asked(corpus: Corpus) -> Asked:
    """20,000 training questions: all of them, and each with the answer before it."""
    questions: set[str] = set()
    pairs: set[tuple[str, str]] = set()
    count, stream = 0, corpus.conversations(seed=11)
    while count < 20_000:
        before = ""
        for message in next(stream):
            if message["role"] == "user":
                count += 1
                questions.add(plain(message["content"]))
                pairs.add((before, plain(message["content"])))
            before = plain(message["content"])
    return questions, pairs


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What ``train_chat --smoke`` writes."""
    folder = tmp_path_factory.mktemp("chat") / "mote"
    train_chat.main(["--smoke", "--output", str(folder), "--device", "cpu"])
    return folder


# --- data ------------------------------------------------------------------------------------------------


def test_knowledge_base_loads_without_problems() -> None:
    knowledge = chat_knowledge.load()
    assert len(knowledge.concepts) >= 200
    assert all(set(chat_knowledge.REQUIRED_FACETS) <= set(c.facets) for c in knowledge.concepts.values())


def test_same_seed_gives_same_conversations(corpus: Corpus) -> None:
    first = list(islice(corpus.conversations(seed=5), 50))
    assert first == list(islice(Corpus().conversations(seed=5), 50))
    assert first != list(islice(corpus.conversations(seed=6), 50))


@pytest.mark.parametrize("name", ["phrasings", "scope", "small_talk"])
def test_held_out_questions_never_occur_in_training(name: str, corpus: Corpus, asked: Asked) -> None:
    cases: list[chat_corpus.TestCase] = getattr(corpus, f"held_out_{name}")()
    assert len(cases) > 40
    leaked = {q for case in cases if plain(q := case.messages[-1]["content"]) in asked[0]}
    assert not leaked


def test_held_out_combinations_never_occur_in_training(corpus: Corpus, asked: Asked) -> None:
    leaked = [
        case.messages
        for case in corpus.held_out_combinations()
        if (plain(case.messages[-2]["content"]) if len(case.messages) > 1 else "", plain(case.messages[-1]["content"]))
        in asked[1]
    ]
    assert not leaked


def test_held_out_themes_never_occur_in_training_forms() -> None:
    themes = re.compile(rf"\b({'|'.join(map(re.escape, chat_forms.themes(heldout=True)))})\b", re.IGNORECASE)
    stream = chat_forms.examples(random.Random(3))
    shown = [m["content"] for _, messages in islice(stream, 3000) for m in messages]
    assert not [text for text in shown if themes.search(text)]
    assert not set(chat_forms.themes()) & set(chat_forms.themes(heldout=True))


def test_extra_questions_can_be_answered_and_are_not_ours(corpus: Corpus, asked: Asked) -> None:
    taught = corpus.training_answers()
    assert len(eval_chat.EXTRA) >= 60
    for question, key in eval_chat.EXTRA:
        share = sum(chat_knowledge.answer_is_right(answer, key) for answer in taught) / len(taught)
        assert 0 < share < 0.05, f"{question}: {share:.1%} of all training answers would pass"
        assert plain(question) not in asked[0]


def test_every_decline_is_recognised_and_no_taught_answer_is_one(corpus: Corpus) -> None:
    case = corpus.held_out_scope()[0]
    own = [text for texts in corpus.scope["domain_declines"].values() for text in texts]
    for text in (*corpus.scope["declines"], *corpus.scope["declines_harmful"], *own):
        assert eval_chat.judge("scope", case, text).is_right, text
    for concept in corpus.concepts:
        for intent in (*concept.facets.values(), *concept.facts):
            taught = chat_corpus.TestCase("fact", intent.id, ({"role": "user", "content": "?"},), intent.key)
            assert all(not eval_chat.judge("phrasings", taught, answer).is_declined for answer in intent.answers)


# --- the recipe ------------------------------------------------------------------------------------------


def test_encode_agrees_with_chat_template_and_labels_only_answers(corpus: Corpus, smoke: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(smoke)
    for messages in islice(corpus.conversations(seed=8), 200):
        ids, labels = train_chat.encode(tokenizer, messages)
        whole = tokenizer.apply_chat_template(messages, return_dict=False)
        is_begun = messages[-1].get("ending") == "open"
        assert ids == whole[: len(whole) - is_begun][: train_chat.CONTEXT]
        assert all(label in (-100, token) for token, label in zip(ids, labels, strict=True))
        answers = "".join(m["content"].strip() + "<|end|>" for m in messages if m["role"] == "assistant")
        answers = answers.removesuffix("<|end|>") if is_begun else answers
        labelled = tokenizer.decode([label for label in labels if label != -100])
        assert answers.startswith(labelled) if len(ids) == train_chat.CONTEXT else answers == labelled


def test_smoke_run_writes_a_folder_that_loads_and_verifies(smoke: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    check_folder(smoke)
    manifest = json.loads((smoke / "MANIFEST.json").read_text(encoding="utf-8"))
    model: Any = AutoModelForCausalLM.from_pretrained(smoke)
    tokenizer = AutoTokenizer.from_pretrained(smoke)
    assert manifest["size"] == "smoke"
    assert manifest["steps"] == train_chat.SIZES["smoke"].steps
    assert manifest["parameters"] == sum(p.numel() for p in model.parameters())
    assert model.dtype == torch.float16
    question = [{"role": "user", "content": "What is a token?"}]
    prompt = tokenizer.apply_chat_template(question, tokenize=False, add_generation_prompt=True)
    assert prompt == "<|user|>What is a token?<|end|><|assistant|>"


def test_interrupted_run_continues_at_the_saved_step(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = ["--smoke", "--output", str(tmp_path / "m"), "--device", "cpu", "--steps"]
    train_chat.main([*run, "3"])
    train_chat.main([*run, "5"])
    out = capsys.readouterr().out
    assert "resumed at step 3" in out
    assert re.findall(r"^step (\d+)", out, re.MULTILINE) == ["1", "2", "3", "4", "5"]
    assert json.loads((tmp_path / "m" / "MANIFEST.json").read_text(encoding="utf-8"))["steps"] == 5


# --- the evaluation --------------------------------------------------------------------------------------


def test_questions_are_the_same_for_the_same_seed(corpus: Corpus) -> None:
    sets = eval_chat.questions(corpus, limit=30)
    assert sets == eval_chat.questions(Corpus(), limit=30)
    assert {len(cases) for cases in sets.values()} == {30}
    everything = eval_chat.questions(corpus)["phrasings"]
    assert {case.kind for case in everything} == {"facet", "indirect", "fact", "follow_up", "compare"}


def test_evaluation_runs_and_writes_scores_and_card(smoke: Path, capsys: pytest.CaptureFixture[str]) -> None:
    eval_chat.main(["--model", str(smoke), "--limit", "2", "--device", "cpu", "--json", "--card"])
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert set(found["right"]) == set(eval_chat.SET_SIZES)
    assert found["right"]["extra"]["all"]["n"] == 2
    assert 0 <= found["overlap"] <= 1
    card = (smoke / "CARD.md").read_text(encoding="utf-8")
    assert "license: apache-2.0" in card
    assert "smoke-test stand-in" in card
    assert "What is wrong:" in card
    check_folder(smoke)


def test_repetition_and_overlap_are_measured() -> None:
    assert eval_chat.is_repetitive("it is a model it is a model it is a model")
    assert not eval_chat.is_repetitive("it is a model that is small and it is a model that is new")
    known = eval_chat.joined(["A token is a piece of text.", "Noise is removed step by step."])
    assert eval_chat.overlap("A token is a piece of text.", known) == 1.0
    assert eval_chat.overlap("Noise is a piece of cake", known) == pytest.approx(4 / 6)
    assert eval_chat.overlap("", known) == 0.0


# --- the model that ships --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shipped() -> dict[str, Any]:
    """The manifest of the embedded model; skips while a smoke stand-in is in its place."""
    manifest: dict[str, Any] = json.loads((SHIPPED / "MANIFEST.json").read_text(encoding="utf-8"))
    if manifest["size"] not in ("small", "large"):
        pytest.skip(f"assets/models/mote holds a {manifest['size']} stand-in; run pipelines.recipes.train_chat")
    return manifest


def test_shipped_model_is_complete_and_small(shipped: dict[str, Any]) -> None:
    check_folder(SHIPPED)
    assert sum(f.stat().st_size for f in SHIPPED.iterdir()) <= 25_000_000
    assert shipped["parameters"] <= 12_000_000


@pytest.mark.usefixtures("shipped")
def test_shipped_model_answers_and_declines_what_it_never_saw(corpus: Corpus) -> None:
    sets = eval_chat.questions(corpus)
    rng = random.Random(0)
    cases = [("phrasings", c) for c in rng.sample(sets["phrasings"], 60)]
    cases += [("scope", c) for c in rng.sample(sets["scope"], 40)]
    model, tokenizer = eval_chat.open_model(SHIPPED, "cpu")
    said = eval_chat.answers(model, tokenizer, [c.messages for _, c in cases])
    right = [eval_chat.judge(group, case, answer).is_right for (group, case), answer in zip(cases, said, strict=True)]
    # A floor against damage, below the card's scores (67 % and 75 %); the aim is 85 % and 80 %.
    assert sum(right[:60]) >= 38, f"{sum(right[:60])} of 60 held-out phrasings answered"
    assert sum(right[60:]) >= 30, f"{sum(right[60:])} of 40 out-of-scope questions declined"
