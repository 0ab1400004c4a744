"""The chat tab's fixed words: presets, examples and what the tiny model can honestly do of each."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Preset:
    """A use case: the system prompt it sets, a prompt to begin with, and how the tiny model fares at it."""

    title: str
    system: str
    opening: str
    tiny: str


PRESETS = (
    Preset("Free chat", "", "", "Mote answers what it knows: generative AI."),
    Preset(
        "Explain",
        "You explain generative AI to an audience.",
        "Explain diffusion models.",
        "Mote can do this: it is what it was trained for.",
    ),
    Preset(
        "Explain to a child",
        "Explain everything as you would to a child.",
        "What is a neural network?",
        "Mote can do this, for the ideas of generative AI.",
    ),
    Preset(
        "Summarise",
        "Summarise what the user gives you in one sentence.",
        "Summarise this: The baker opened the shop before dawn. She sold forty loaves. By noon nothing was left.",
        "Mote can shorten two or three plain sentences, no more.",
    ),
    Preset(
        "Translate",
        "Translate what the user gives you. Answer with the translation only.",
        "Translate 'good morning' into French.",
        "Mote knows some eighty words and greetings in German, French and Spanish; for more choose a larger model.",
    ),
    Preset(
        "Write code",
        "You write short, correct Python with a one-line explanation.",
        "Write Python code for softmax.",
        "Mote knows some twenty small Python snippets by heart and cannot program.",
    ),
    Preset(
        "Marketing copy",
        "You write marketing copy: short, concrete, without superlatives.",
        "Write a slogan for a bakery.",
        "Mote can do a slogan or two sentences; expect charm, not strategy.",
    ),
    Preset(
        "Story",
        "You write very short stories.",
        "Write a two-sentence story about a lighthouse.",
        "Mote can do two sentences.",
    ),
)
BY_TITLE = {p.title: p for p in PRESETS}

EXAMPLES = (
    "What is a GAN?",
    "What is the difference between LoRA and full fine-tuning?",
    "Explain tokenization to a child.",
    "Why do language models hallucinate?",
    "Write a haiku about diffusion.",
    "Who are you?",
)
