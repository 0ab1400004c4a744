"""The knowledge base that the embedded chat model learns from: reading and checking it.

The facts live as ``know_*.toml`` in ``chat_data/``, further wordings of questions as ``ask_*.toml``; this module turns them into typed records and refuses
anything that would teach the model nonsense (an answer that misses its own key terms, an answer too
long for a tiny model). It knows nothing about tokens or training.

    python -m pipelines.recipes.chat_knowledge            # check every file, print the counts
    python -m pipelines.recipes.chat_knowledge a.toml     # check one file
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

DATA_DIR = Path(__file__).parent / "chat_data"

#: Facet -> (fewest answers, longest answer in words). A facet is one way to be asked about a concept.
FACETS: dict[str, tuple[int, int]] = {
    "what": (2, 50),
    "short": (1, 22),
    "child": (1, 50),
    "example": (1, 50),
    "more": (1, 55),
    "how": (1, 55),
    "why": (1, 50),
    "limits": (1, 50),
    "list": (1, 60),
}
REQUIRED_FACETS = ("what", "short", "child", "example", "more")
FACT_LONGEST = 50
COMPARE_LONGEST = 60


@dataclass(frozen=True)
class Intent:
    """One thing that can be asked, with the answers that are right.

    ``key`` holds the terms an answer must contain to count as right; alternatives are separated by ``|``.
    ``asks`` are questions written by hand for exactly this intent (may be empty for facets, which have
    templates).
    """

    id: str
    answers: tuple[str, ...]
    key: tuple[str, ...]
    asks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Concept:
    """A thing one can ask about: its names as they fit into ``What is ...?`` and its facets."""

    id: str
    names: tuple[str, ...]
    plural: tuple[str, ...]
    facets: dict[str, Intent] = field(default_factory=dict)
    facts: tuple[Intent, ...] = ()


@dataclass(frozen=True)
class Comparison:
    """What sets concept ``a`` apart from concept ``b``."""

    a: str
    b: str
    intent: Intent


@dataclass(frozen=True)
class Knowledge:
    concepts: dict[str, Concept]
    comparisons: tuple[Comparison, ...]


def read_toml(name: str) -> dict[str, Any]:
    """One of the data files beside this module."""
    return tomllib.loads((DATA_DIR / name).read_text(encoding="utf-8"))


def answer_is_right(answer: str, key: tuple[str, ...]) -> bool:
    """True when every key term (any of its ``|`` alternatives) occurs in ``answer``, case ignored."""
    low = answer.lower()
    return all(any(alt.strip().lower() in low for alt in term.split("|")) for term in key)


def _intent(where: str, table: dict[str, Any], fewest: int, longest: int, problems: list[str]) -> Intent:
    answers = tuple(table.get("answers", ()))
    key = tuple(table.get("key", ()))
    asks = tuple(table.get("ask", ()))
    if len(answers) < fewest:
        problems.append(f"{where}: needs at least {fewest} answers, has {len(answers)}")
    if not key:
        problems.append(f"{where}: no key terms")
    for text in (*answers, *asks):
        if not text.isascii():
            bad = "".join(sorted({c for c in text if not c.isascii()}))
            problems.append(f"{where}: not ASCII ({bad!r}): {text[:60]}")
    for answer in answers:
        if not answer_is_right(answer, key):
            missing = [t for t in key if not answer_is_right(answer, (t,))]
            problems.append(f"{where}: answer misses key {missing}: {answer[:70]}")
        if len(answer.split()) > longest:
            problems.append(f"{where}: answer of {len(answer.split())} words, at most {longest}: {answer[:60]}")
    return Intent(where, answers, key, asks)


def parse(text: str, source: str, problems: list[str]) -> tuple[list[Concept], list[Comparison]]:
    """Parse one TOML file; what is wrong with it is appended to ``problems``."""
    data = tomllib.loads(text)
    concepts: list[Concept] = []
    for raw in data.get("concept", []):
        cid = raw.get("id", "?")
        names = tuple(raw.get("names", ()))
        if not names:
            problems.append(f"{source}: concept {cid}: no names")
        facets: dict[str, Intent] = {}
        for name, (fewest, longest) in FACETS.items():
            if name in raw:
                table = dict(raw[name])
                if name == "what":
                    table["ask"] = raw.get("ask", [])
                facets[name] = _intent(f"{cid}.{name}", table, fewest, longest, problems)
            elif name in REQUIRED_FACETS:
                problems.append(f"{source}: concept {cid}: facet {name} missing")
        if len(raw.get("ask", [])) < 4:
            problems.append(f"{source}: concept {cid}: fewer than 4 hand-written questions in `ask`")
        facts = []
        for i, fact in enumerate(raw.get("fact", [])):
            intent = _intent(f"{cid}.fact{i}", fact, 1, FACT_LONGEST, problems)
            if len(intent.asks) < 7:
                problems.append(f"{intent.id}: fewer than 7 questions")
            facts.append(intent)
        unknown = set(raw) - {"id", "names", "plural", "ask", "fact", *FACETS}
        if unknown:
            problems.append(f"{source}: concept {cid}: unknown fields {sorted(unknown)}")
        concepts.append(Concept(cid, names, tuple(raw.get("plural", ())), facets, tuple(facts)))
    comparisons = []
    for raw in data.get("compare", []):
        where = f"compare.{raw['a']}.{raw['b']}"
        comparisons.append(Comparison(raw["a"], raw["b"], _intent(where, raw, 1, COMPARE_LONGEST, problems)))
    return concepts, comparisons


def _with_more_asks(concept: Concept, more: dict[str, Any], source: str, problems: list[str]) -> Concept:
    """``concept`` with further hand-written questions put before its own (whose last ones are held out)."""
    facts = {f"fact{i}": f for i, f in enumerate(concept.facts)}
    unknown = sorted(set(more) - set(concept.facets) - set(facts))
    if unknown:
        problems.append(f"{source}: {concept.id} has no {', '.join(unknown)}")

    def extended(name: str, intent: Intent) -> Intent:
        known = {a.lower() for a in intent.asks}
        new = tuple(a for a in dict.fromkeys(more.get(name, ())) if a.isascii() and a.lower() not in known)
        return replace(intent, asks=(*new, *intent.asks))

    facets = {name: extended(name, intent) for name, intent in concept.facets.items()}
    return replace(concept, facets=facets, facts=tuple(extended(n, f) for n, f in facts.items()))


def load(paths: list[Path] | None = None) -> Knowledge:
    """Read the knowledge base. Raises ValueError naming every problem found."""
    problems: list[str] = []
    concepts: dict[str, Concept] = {}
    comparisons: list[Comparison] = []
    whole = paths is None
    for path in paths or sorted(DATA_DIR.glob("know_*.toml")):
        found, compared = parse(path.read_text(encoding="utf-8"), path.name, problems)
        for concept in found:
            if concept.id in concepts:
                problems.append(f"{path.name}: concept {concept.id} is defined twice")
            concepts[concept.id] = concept
        comparisons += compared
    if whole:
        for path in sorted(DATA_DIR.glob("ask_*.toml")):
            for concept_id, more in read_toml(path.name).items():
                if concept_id in concepts:
                    concepts[concept_id] = _with_more_asks(concepts[concept_id], more, path.name, problems)
                else:
                    problems.append(f"{path.name}: unknown concept {concept_id}")
        for c in comparisons:
            problems += [f"{c.intent.id}: unknown concept {x}" for x in (c.a, c.b) if x not in concepts]
    if problems:
        raise ValueError("\n".join(problems))
    return Knowledge(concepts, tuple(comparisons))


def main() -> None:
    paths = [Path(p) for p in sys.argv[1:]] or None
    try:
        knowledge = load(paths)
    except ValueError as error:
        sys.exit(f"{error}\n{len(str(error).splitlines())} problems")
    intents = sum(len(c.facets) + len(c.facts) for c in knowledge.concepts.values())
    print(f"{len(knowledge.concepts)} concepts, {intents} intents, {len(knowledge.comparisons)} comparisons: all right")


if __name__ == "__main__":
    main()
