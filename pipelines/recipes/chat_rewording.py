"""Rewords training questions: synonyms, dropped small words, keyword style, "do you know ..." frames.

A small model takes a question for its exact words. Rewordings drawn anew each time teach it which words carry
the meaning. The results are what hurried people type, so they need not be good English. Knows no facts.
"""

from __future__ import annotations

import random
import re

#: Words that may stand for each other in a question about any subject; none is part of a concept's name.
SYNONYMS: tuple[tuple[str, ...], ...] = (
    ("invented", "created", "came up with", "introduced", "proposed", "developed", "thought up", "devised", "published"),
    ("invent", "create", "come up with", "introduce", "propose", "develop", "devise"),
    ("inventor", "creator", "originator", "father", "author"),
    ("paper", "publication", "article", "study"), ("company", "firm", "business"), ("researchers", "scientists", "people"),
    ("which year", "what year"), ("in which year", "when", "in what year"), ("who", "which person", "what person"),
    ("important", "relevant", "significant", "such a big deal", "interesting"), ("matters", "counts", "is important"),
    ("need", "require", "have to have"), ("needed", "required", "necessary"),
    ("used for", "good for", "useful for", "handy for", "meant for", "applied to"), ("use", "employ", "work with", "apply"),
    ("limits", "limitations", "weak points", "weak spots", "boundaries", "weaknesses"),
    ("problems", "issues", "troubles", "difficulties", "trouble"), ("problem", "issue", "trouble", "difficulty"),
    ("drawbacks", "disadvantages", "downsides", "cons", "negatives"), ("downside", "drawback", "disadvantage", "catch"),
    ("benefits", "advantages", "pros", "upsides", "strengths", "positives"), ("benefit", "advantage", "upside", "gain"),
    ("risks", "dangers", "hazards", "threats"), ("risky", "dangerous"), ("fail", "break down", "go wrong", "struggle"),
    ("explain", "describe", "clarify", "outline", "lay out", "break down"), ("explained", "described", "clarified"),
    ("explanation", "description", "account"), ("tell me", "let me know", "say", "share with me", "inform me"),
    ("give me", "show me", "provide", "offer", "I want", "I need"), ("example", "instance", "sample case", "case"),
    ("examples", "instances", "cases", "samples"), ("a child", "a kid", "a little one", "a youngster", "a small child"),
    ("children", "kids", "little ones", "youngsters"), ("child", "kid", "youngster"),
    ("sentence", "line"), ("briefly", "in brief", "in short", "quickly", "in few words"), ("quick", "short", "brief"),
    ("simple", "easy", "plain", "basic"), ("simply", "easily", "plainly"), ("in simple words", "in plain terms", "in easy language"),
    ("people", "folks", "everybody", "users", "you guys"), ("called", "named", "known as"), ("huge", "big", "enormous"),
    ("happens", "goes on", "takes place", "is going on"), ("difference", "distinction", "contrast"), ("differ", "vary", "diverge"),
    ("started", "began"), ("start", "begin", "kick off"), ("famous", "well-known", "popular", "celebrated"),
    ("true", "correct", "right", "accurate"), ("often", "frequently", "regularly"), ("learn about", "read up on", "find out about"),
    ("understand", "grasp", "get", "follow"), ("kind of", "type of", "sort of", "form of"), ("way", "manner", "method"),
    ("purpose", "goal", "aim", "point", "idea"), ("main", "key", "central", "most important", "major"),
    ("can you", "could you", "would you", "will you", "are you able to", "would you mind to"),
    ("I want to know", "I would like to know", "I wonder", "I need to know", "I am curious"),
    ("why", "how come", "for what reason", "what is the reason that"), ("really", "actually", "truly", "in fact"),
    ("exactly", "precisely", "in detail"), ("about", "regarding", "concerning", "around"), ("careful", "cautious", "wary"),
    ("inside", "within", "under the hood of", "in"), ("mechanism", "principle", "workings", "machinery"),
    ("steps", "stages", "phases"), ("in practice", "in real life", "in the real world", "in everyday use"),
    ("points", "facts", "things", "items"), ("list", "name", "enumerate", "write down"), ("a list", "bullet points", "a few bullets"),
    ("more", "further details", "some more"), ("definition", "meaning"), ("define", "give the meaning of", "give a definition of"),
    ("made", "built", "produced"), ("makes", "builds", "produces", "creates"), ("look like", "appear"), ("show", "demonstrate", "present"),
    ("help", "assist", "support"), ("cheaper", "less expensive", "less costly"), ("cheap", "inexpensive"), ("expensive", "costly", "dear"),
    ("fast", "quick", "speedy"), ("faster", "quicker"), ("wrong", "incorrect", "mistaken", "off"), ("mistakes", "errors", "blunders"),
    ("large", "big"), ("first", "earliest", "original"), ("newest", "latest"), ("how many", "what number of", "how much"),
    ("how big", "how large", "what size"), ("stands for", "is short for", "means"), ("stand for", "mean", "abbreviate"),
    ("name for", "term for", "word for"), ("term", "word", "expression", "name"), ("compare", "contrast"),
    ("vs", "versus", "or", "against", "compared to"), ("purposes", "goals", "aims"), ("allowed", "permitted", "legal", "okay"),
    ("prevent", "avoid", "stop"), ("check", "verify", "test"), ("choose", "pick", "select"), ("stored", "saved", "kept"),
    ("see", "notice", "spot"), ("find", "discover", "locate"), ("happen", "occur", "come about"), ("change", "alter", "modify"),
    ("train", "teach"), ("better", "superior", "nicer"), ("bad", "harmful", "poor"), ("do we", "do people", "does one", "do they"),
)  # fmt: skip
_CHOICES = {phrase: group for group in SYNONYMS for phrase in group}
# "large" and the like are left alone before the words that make them part of a name.
_PHRASE = re.compile(
    r"\b(" + "|".join(sorted(map(re.escape, _CHOICES), key=len, reverse=True)) + r")\b"
    r"(?! (?:language|model|models|learning|of experts|generation|card|cards|test|set|data|loss|order))",
    re.IGNORECASE,
)
_SMALL = frozenset(
    [
        "a",
        "an",
        "the",
        "is",
        "are",
        "was",
        "were",
        "do",
        "does",
        "did",
        "of",
        "to",
        "me",
        "my",
        "i",
        "in",
        "for",
        "it",
        "that",
        "this",
        "there",
        "be",
        "been",
        "can",
        "could",
        "you",
        "please",
        "so",
        "and",
        "with",
        "by",
        "on",
        "at",
        "as",
    ]
)
_FRAMES = ("do you know {}", "tell me, {}", "any idea {}", "I wonder {}", "can you tell me {}", "remind me, {}", "I forgot, {}",
           "someone asked me {}", "not sure: {}", "{}, do you know?", "{}, any idea?", "{} again?", "{}, roughly?", "{}, in your view?",
           "help me out, {}", "just checking: {}", "what I want to know is {}", "let me ask: {}", "for my notes: {}", "and {}")  # fmt: skip
_ASKING = re.compile(r"(who|which|what|when|where|how|why|is|are|does|do|can|did|was|were)\b", re.IGNORECASE)


def _with_synonyms(text: str, rng: random.Random) -> str:
    def other(match: re.Match[str]) -> str:
        found = match.group()
        if rng.random() > 0.4:
            return found
        chosen = rng.choice(_CHOICES.get(found.lower(), (found,)))
        return chosen[:1].upper() + chosen[1:] if found[:1].isupper() and len(found) > 1 else chosen

    return _PHRASE.sub(other, text)


def _without_small_words(text: str, rng: random.Random, share: float) -> str:
    words = text.split()
    kept = [w for w in words if w.lower() not in _SMALL or rng.random() > share]
    return " ".join(kept) if kept else text


def _lower_first(text: str) -> str:
    return text if text[:2].isupper() else text[:1].lower() + text[1:]


def reword(question: str, rng: random.Random) -> str:
    """``question`` in other words that ask the same; about a third of the questions come back as they were."""
    text = question
    if rng.random() < 0.5:
        text = _with_synonyms(text, rng)
    draw = rng.random()
    if draw < 0.12:
        text = _without_small_words(text, rng, 0.4)
    elif draw < 0.17:
        text = _without_small_words(text, rng, 1.0).rstrip("?.! ").lower()
    elif draw < 0.21:
        words = _without_small_words(text, rng, 0.8).rstrip("?.! ").split()
        at = rng.randrange(1, len(words)) if len(words) > 2 else 0
        text = " ".join(words[at:] + words[:at])
    elif draw < 0.33 and _ASKING.match(text):
        frame = rng.choice(_FRAMES)
        text = frame.format(_lower_first(text) if frame[0] != "{" else text)
        text = re.sub(r"([?.!]) ?(,|again)", lambda m: m[2] if m[2] == "," else " again", text)
    return text
