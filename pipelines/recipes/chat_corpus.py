"""Conversations for the embedded chat model: composed from the knowledge base, endless and seeded.

Puts phrasings, facts, follow-ups, out-of-scope questions, small talk and creative forms together into
message lists, and keeps two held-out sets apart: whole *phrasings* and *combinations* (a name with a
template, a follow-up after a certain turn) that training never sees. Knows no tokens.

    python -m pipelines.recipes.chat_corpus 5        # print five training conversations
"""

from __future__ import annotations

import hashlib
import itertools
import random
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pipelines.recipes import chat_copying, chat_forms, chat_phrasings
from pipelines.recipes.chat_knowledge import Comparison, Concept, Intent, Knowledge, load, read_toml
from pipelines.recipes.chat_rewording import reword

Message = dict[str, str]
_SLOT = re.compile(r"\{(\w+)\}")
#: Share of each kind among first questions. Facets are most of it: they are what people ask.
KINDS = {"facet": 0.36, "fact": 0.28, "compare": 0.05, "scope": 0.09, "talk": 0.06, "form": 0.10, "copy": 0.06}
FACET_WEIGHTS = {"what": 4.0, "short": 1.0, "child": 1.2, "example": 1.2, "more": 0.8, "how": 1.2, "why": 1.2,
                 "limits": 1.0, "list": 0.8}  # fmt: skip
#: Share of (name, template) pairs and of (facet, follow-up facet, concept) triples kept from training.
COMBINATION_SHARE = 0.12
#: Which answer is given is decided in its first words; the rest is soon known by heart. Most last answers are
#: therefore shown as a beginning only, which puts twice as many questions into the same number of tokens.
CUT_SHARE, CUT_WORDS = 0.7, 9


@dataclass(frozen=True)
class Exchange:
    """A question and a right answer; ``intent`` names what was asked, ``concept`` what it was about."""

    intent: str
    question: str
    answer: str
    key: tuple[str, ...] = ()
    concept: str = ""
    kind: str = "facet"
    is_exact: bool = False  # the question must be put as it stands (a given text to work on)


@dataclass(frozen=True)
class TestCase:
    """One held-out question: the messages that lead to it and the terms a right answer contains."""

    kind: str
    intent: str
    messages: tuple[Message, ...]
    key: tuple[str, ...]


def _is_held_out(*parts: str) -> bool:
    """A stable pseudo-random choice of combinations, the same on every machine and in every run."""
    digest = hashlib.sha256("|".join(parts).encode()).digest()
    return int.from_bytes(digest[:4], "big") / 2**32 < COMBINATION_SHARE


def _last(asks: tuple[str, ...], count: int = 1) -> tuple[str, ...]:
    """The hand-written questions kept for the held-out phrasing set: the last ones of each list."""
    return asks[-count:] if len(asks) > 3 else ()


def _plain(question: str) -> str:
    return question.lower().rstrip("?.! ")


def _canonical(question: str) -> tuple[str, ...]:
    """The words of a question that typing noise cannot change: no case, stops, contractions, articles, courtesy."""
    words = re.findall(r"[a-z0-9]+", question.lower().replace("'s", " is"))
    return tuple(w for w in words if w not in ("a", "an", "the", "please", "so"))


class Corpus:
    """All that training and evaluation ask and answer."""

    def __init__(self, knowledge: Knowledge | None = None) -> None:
        self.knowledge = knowledge or load()
        self.concepts = list(self.knowledge.concepts.values())
        self.facts = [(c, f) for c in self.concepts for f in c.facts]
        self.scope = read_toml("out_of_scope.toml")
        self.talk = self._small_talk()

    def _small_talk(self) -> list[dict[str, Any]]:
        """The small talk entries without the questions that the knowledge base answers ("who are you")."""
        known = {_plain(a) for _, f in self.facts for a in f.asks}
        known |= {_plain(a) for c in self.concepts for a in c.facets["what"].asks}
        entries = read_toml("small_talk.toml")["talk"]
        return [{**e, "ask": rest} for e in entries if (rest := [a for a in e["ask"] if _plain(a) not in known])]

    # --- one exchange ------------------------------------------------------------------------------------

    def _ask_facet(self, concept: Concept, facet: str, rng: random.Random) -> str:
        intent = concept.facets[facet]
        written = intent.asks[: len(intent.asks) - len(_last(intent.asks))]
        if written and rng.random() < 0.35:
            return rng.choice(written)
        while True:
            template = rng.choice(chat_phrasings.TRAIN[facet])
            if "{xs}" in template and not concept.plural:
                continue
            name = rng.choice(concept.names)
            plural = rng.choice(concept.plural) if concept.plural else None
            if not _is_held_out(concept.id, name, template):
                return chat_phrasings.fill(template, name, plural)

    def facet(self, concept: Concept, facet: str, rng: random.Random) -> Exchange:
        intent = concept.facets[facet]
        return Exchange(
            intent.id, self._ask_facet(concept, facet, rng), rng.choice(intent.answers), intent.key, concept.id
        )

    def fact(self, concept: Concept, intent: Intent, rng: random.Random) -> Exchange:
        question = rng.choice(intent.asks[: len(intent.asks) - len(_last(intent.asks))])
        return Exchange(intent.id, question, rng.choice(intent.answers), intent.key, concept.id, "fact")

    def compare(self, comparison: Comparison, rng: random.Random, question: str = "") -> Exchange:
        first, second = self.knowledge.concepts[comparison.a], self.knowledge.concepts[comparison.b]
        if rng.random() < 0.4:
            first, second = second, first
        intent = comparison.intent
        while not question:
            template = rng.choice(chat_phrasings.TRAIN["compare"])
            name, other = rng.choice(first.names), rng.choice(second.names)
            if not _is_held_out(name, template, other):
                question = chat_phrasings.fill(template, name, None, other)
        return Exchange(intent.id, question, rng.choice(intent.answers), intent.key, first.id, "compare")

    def _fill_slots(
        self, template: str, slots: dict[str, list[str]], rng: random.Random, made_up_share: float = 0.0
    ) -> str:
        used: set[str] = set()

        def value(match: re.Match[str]) -> str:
            if rng.random() < made_up_share:  # a name never heard of is a reason to decline, not to guess
                return chat_copying.made_up(rng).capitalize()
            options = [v for v in slots[match.group(1)] if v not in used] or slots[match.group(1)]
            used.add(chosen := rng.choice(options))
            return chosen

        text = _SLOT.sub(value, template)
        return re.sub(r"\b([Aa]) (?=[aeiouAEIOU])(?!one|uni|use|eu)", r"\1n ", text)

    def _decline(self, domain: str, rng: random.Random) -> str:
        if domain == "harmful":
            return str(rng.choice(self.scope["declines_harmful"]))
        own = self.scope["domain_declines"].get(domain)
        return str(rng.choice(own) if own and rng.random() < 0.6 else rng.choice(self.scope["declines"]))

    DECLINE_KEY = ("do not know|outside what i know|cannot help|can not|cannot",)

    def out_of_scope(self, rng: random.Random) -> Exchange:
        domain = rng.choice(self.scope["domain"])
        question = self._fill_slots(rng.choice(domain["templates"]), self.scope["slots"], rng, 0.25)
        return Exchange(
            f"scope.{domain['name']}", question, self._decline(domain["name"], rng), self.DECLINE_KEY, "", "scope"
        )

    def small_talk(self, rng: random.Random) -> Exchange:
        entry = rng.choice(self.talk)
        asks = tuple(entry["ask"])
        question = rng.choice(asks[: len(asks) - len(_last(asks))])
        return Exchange(f"talk.{entry['id']}", question, rng.choice(entry["answers"]), tuple(entry["key"]), "", "talk")

    @cached_property
    def _forms(self) -> dict[int, Iterator[tuple[str, list[Message]]]]:
        return {}

    def forms(self, rng: random.Random) -> list[Exchange]:
        iterator = self._forms.setdefault(id(rng), chat_forms.examples(rng))
        kind, messages = next(iterator)
        pairs = zip(messages[::2], messages[1::2], strict=True)
        return [Exchange(f"form.{kind}", q["content"], a["content"], (), "", "form", True) for q, a in pairs]

    @cached_property
    def _pairs_of(self) -> dict[str, list[Comparison]]:
        found: dict[str, list[Comparison]] = {}
        for comparison in self.knowledge.comparisons:
            found.setdefault(comparison.a, []).append(comparison)
            found.setdefault(comparison.b, []).append(comparison)
        return found

    def follow_up(self, before: Exchange, rng: random.Random) -> Exchange | None:
        """A question that needs the turn before it, or None when that turn gives nothing to follow."""
        if before.concept not in self.knowledge.concepts:
            return None
        concept = self.knowledge.concepts[before.concept]
        draw = rng.random()
        if draw < 0.12:
            other = rng.choice(self.concepts)
            name = rng.choice(other.names)
            question = chat_phrasings.fill(rng.choice(chat_phrasings.FOLLOW_UP_OTHER), name, None)
            intent = other.facets["what"]
            return Exchange(intent.id, question, rng.choice(intent.answers), intent.key, other.id)
        if draw < 0.2 and concept.id in self._pairs_of:
            comparison = rng.choice(self._pairs_of[concept.id])
            other_id = comparison.b if comparison.a == concept.id else comparison.a
            name = rng.choice(self.knowledge.concepts[other_id].names)
            question = rng.choice(chat_phrasings.FOLLOW_UP_COMPARE).format(y=name)
            return self.compare(comparison, rng, question)
        facets = [f for f in concept.facets if f"{concept.id}.{f}" != before.intent and f in chat_phrasings.FOLLOW_UP]
        weights = [{"what": 0.5, "more": 2.0, "example": 2.0}.get(f, 1.0) for f in facets]
        facet = rng.choices(facets, weights)[0]
        if _is_held_out(before.intent, facet, concept.id):
            return None
        intent = concept.facets[facet]
        question = rng.choice(chat_phrasings.FOLLOW_UP[facet])
        return Exchange(intent.id, question, rng.choice(intent.answers), intent.key, concept.id, "follow_up")

    # --- conversations -----------------------------------------------------------------------------------

    def first(self, rng: random.Random) -> list[Exchange]:
        kind = rng.choices(list(KINDS), list(KINDS.values()))[0]
        if kind == "facet":
            concept = rng.choice(self.concepts)
            facets = list(concept.facets)
            return [self.facet(concept, rng.choices(facets, [FACET_WEIGHTS[f] for f in facets])[0], rng)]
        if kind == "fact":
            return [self.fact(*rng.choice(self.facts), rng)]
        if kind == "compare":
            return [self.compare(rng.choice(self.knowledge.comparisons), rng)]
        if kind == "scope":
            return [self.out_of_scope(rng)]
        if kind == "talk":
            return [self.small_talk(rng)]
        if kind == "copy":
            return [Exchange("copy", *chat_copying.exercise(rng), (), "", "copy", True)]
        return self.forms(rng)

    @cached_property
    def _kept_questions(self) -> frozenset[tuple[str, ...]]:
        """Every held-out wording with every name: no rewording may arrive there by chance."""
        kept: set[tuple[str, ...]] = set()
        for concept in self.concepts:
            intents = (*concept.facets.items(), *(("", f) for f in concept.facts))
            for facet, intent in intents:
                kept |= {_canonical(q) for q in _last(intent.asks)}
                for template in chat_phrasings.HELD_OUT.get(facet, ()):
                    kept |= {_canonical(chat_phrasings.fill(template, n, None)) for n in concept.names}
        for pair in self.knowledge.comparisons:
            names = [self.knowledge.concepts[i].names for i in (pair.a, pair.b)]
            for template in chat_phrasings.HELD_OUT["compare"]:
                for a, b in (*itertools.product(*names), *itertools.product(*reversed(names))):
                    kept.add(_canonical(chat_phrasings.fill(template, a, None, b)))
        return frozenset(kept)

    def _as_typed(self, one: Exchange, rng: random.Random) -> str:
        """The question in other words, where those lead to the same answer, and with the slips of typing."""
        text = reword(one.question, rng) if one.kind in ("facet", "fact", "compare", "scope") else one.question
        text = chat_phrasings.vary(text, rng)
        return one.question if _canonical(text) in self._kept_questions else text

    def conversation(self, rng: random.Random) -> list[Message]:
        """One training conversation: one to five exchanges, sometimes under a system prompt.

        A last answer that is only begun carries ``"ending": "open"``.
        """
        exchanges = self.first(rng)
        system = rng.choice(chat_phrasings.SYSTEM_PROMPTS) if rng.random() < 0.2 else None
        if system and system[1]:
            concept = self.knowledge.concepts.get(exchanges[0].concept)
            # The prompt turns a plain question into another facet, or stays away where it cannot.
            if concept is None or not exchanges[0].intent.endswith(".what"):
                system = None
            else:
                intent = concept.facets[system[1]]
                exchanges[0] = Exchange(
                    intent.id, exchanges[0].question, rng.choice(intent.answers), intent.key, concept.id
                )
        wanted = rng.choices((1, 2, 3, 4, 5), (0.7, 0.2, 0.06, 0.02, 0.02))[0]
        while len(exchanges) < wanted and not (system and system[1]):
            following = self.follow_up(exchanges[-1], rng) if rng.random() < 0.75 else None
            exchanges += [following] if following else self.first(rng)
        messages: list[Message] = [{"role": "system", "content": system[0]}] if system else []
        for one in exchanges:
            question = one.question if one.is_exact else self._as_typed(one, rng)
            messages += [{"role": "user", "content": question}, {"role": "assistant", "content": one.answer}]
        words = exchanges[-1].answer.split(" ")
        if not exchanges[-1].is_exact and len(words) > CUT_WORDS + 3 and rng.random() < CUT_SHARE:
            messages[-1] = {"role": "assistant", "content": " ".join(words[:CUT_WORDS]), "ending": "open"}
        return messages

    def conversations(self, seed: int) -> Iterator[list[Message]]:
        """Endless training conversations, the same for the same seed."""
        rng = random.Random(seed)
        while True:
            yield self.conversation(rng)

    # --- held-out sets -----------------------------------------------------------------------------------

    def held_out_phrasings(self, seed: int = 0) -> list[TestCase]:
        """Questions worded in ways that training never saw: templates, hand-written ones, follow-ups."""
        rng = random.Random(seed)
        cases: list[TestCase] = []

        def case(kind: str, intent: Intent, *contents: str) -> None:
            roles = ("user", "assistant")
            messages = tuple({"role": roles[i % 2], "content": c} for i, c in enumerate(contents))
            cases.append(TestCase(kind, intent.id, messages, intent.key))

        for concept in self.concepts:
            for facet, intent in concept.facets.items():
                template = rng.choice(chat_phrasings.HELD_OUT[facet])
                case("facet", intent, chat_phrasings.fill(template, rng.choice(concept.names), None))
                for question in _last(intent.asks):
                    case("indirect", intent, question)
            for intent in concept.facts:
                for question in _last(intent.asks):
                    case("fact", intent, question)
            facet = rng.choice([f for f in chat_phrasings.FOLLOW_UP_HELD_OUT if f in concept.facets])
            what = concept.facets["what"]
            question = rng.choice(chat_phrasings.FOLLOW_UP_HELD_OUT[facet])
            case(
                "follow_up",
                concept.facets[facet],
                f"What is {concept.names[0]}?",
                rng.choice(what.answers),
                question,
            )
        for c in self.knowledge.comparisons:
            names = [rng.choice(self.knowledge.concepts[i].names) for i in (c.a, c.b)]
            template = rng.choice(chat_phrasings.HELD_OUT["compare"])
            case("compare", c.intent, chat_phrasings.fill(template, names[0], None, names[1]))
        return cases

    def held_out_combinations(self, seed: int = 0) -> list[TestCase]:
        """Known template, known name, never together; known follow-up, known turn, never in this order."""
        rng = random.Random(seed)
        cases: list[TestCase] = []
        for concept in self.concepts:
            for facet, intent in concept.facets.items():
                trained, kept = {_canonical(a) for a in intent.asks}, []
                for name in concept.names:
                    for template in dict.fromkeys(chat_phrasings.TRAIN[facet]):
                        question = chat_phrasings.fill(template, name, None)
                        if not _is_held_out(concept.id, name, template):
                            trained.add(_canonical(question))
                        elif "{xs}" not in template:
                            kept.append(question)
                # Two pairs can make one question ("Define {b}." of "hallucination" and "a hallucination").
                kept = [q for q in kept if _canonical(q) not in trained]
                if kept:
                    question = rng.choice(kept)
                    cases.append(TestCase("facet", intent.id, ({"role": "user", "content": question},), intent.key))
            for before, first in concept.facets.items():
                for facet in chat_phrasings.FOLLOW_UP:
                    if facet in concept.facets and facet != before and _is_held_out(first.id, facet, concept.id):
                        intent = concept.facets[facet]
                        contents = (
                            chat_phrasings.fill(chat_phrasings.TRAIN[before][0], concept.names[0], None),
                            rng.choice(first.answers),
                            rng.choice(chat_phrasings.FOLLOW_UP[facet]),
                        )
                        roles = ("user", "assistant", "user")
                        messages = tuple({"role": r, "content": c} for r, c in zip(roles, contents, strict=True))
                        cases.append(TestCase("follow_up", intent.id, messages, intent.key))
        return cases

    def held_out_scope(self, seed: int = 0, rounds: int = 2) -> list[TestCase]:
        """Out-of-scope questions in unseen wordings about unseen things."""
        rng = random.Random(seed)
        entries: list[dict[str, Any]] = self.scope["heldout_templates"] * rounds
        return [
            TestCase(
                "scope",
                f"scope.{e['domain']}",
                ({"role": "user", "content": self._fill_slots(e["template"], self.scope["heldout_slots"], rng)},),
                self.DECLINE_KEY,
            )
            for e in entries
        ]

    def held_out_small_talk(self) -> list[TestCase]:
        """Small talk in unseen wordings, without those that are also follow-up questions ("continue")."""
        follow_ups = {_plain(q) for questions in chat_phrasings.FOLLOW_UP.values() for q in questions}
        return [
            TestCase("talk", f"talk.{e['id']}", ({"role": "user", "content": ask},), tuple(e["key"]))
            for e in self.talk
            for ask in _last(tuple(e["ask"]))
            if _plain(ask) not in follow_ups
        ]

    def training_answers(self) -> set[str]:
        """Every fixed answer of the knowledge base (forms are composed and not in it)."""
        intents = [i for c in self.concepts for i in (*c.facets.values(), *c.facts)]
        intents += [c.intent for c in self.knowledge.comparisons]
        return {a for i in intents for a in i.answers}


def main() -> None:
    corpus = Corpus()
    phrasings, combinations, scope = (
        corpus.held_out_phrasings(),
        corpus.held_out_combinations(),
        corpus.held_out_scope(),
    )
    stream = corpus.conversations(seed=random.randrange(2**31))
    for _ in range(int(sys.argv[1]) if len(sys.argv) > 1 else 5):
        print("\n".join(f"{m['role']:>9}: {m['content']}" for m in next(stream)), end="\n\n")
    print(
        f"{len(corpus.concepts)} concepts, {len(corpus.facts)} facts, {len(corpus.knowledge.comparisons)} comparisons"
    )
    print(f"held out: {len(phrasings)} phrasings, {len(combinations)} combinations, {len(scope)} out of scope")


if __name__ == "__main__":
    main()
