"""How people ask: question templates per facet, the held-out ones apart, and the noise of real typing.

Knows no facts. ``{x}`` is a concept's name with its article ("a GAN"), ``{b}`` the bare name ("GAN"),
``{xs}`` a plural ("GANs"). Templates in ``HELD_OUT`` are never used in training.
"""

from __future__ import annotations

import random
import re

TRAIN: dict[str, tuple[str, ...]] = {
    "what": (
        "What is {x}?", "What is {x}?", "What is {x}?", "what's {x}", "Explain {x}.", "Explain {x} to me.",
        "Can you explain {x}?", "Could you explain {x} to me?", "Please explain {x}.", "Tell me about {x}.",
        "Tell me what {x} is.", "What does {b} mean?", "What is meant by {b}?", "Define {b}.", "{b}?", "{b}",
        "What do you know about {b}?", "Can you tell me what {x} is?", "Describe {x}.", "What exactly is {x}?",
        "I want to know what {x} is.", "I do not understand what {x} is.", "I have heard of {b}. What is it?",
        "Help me understand {b}.", "Give me a definition of {b}.", "What is the meaning of {b}?",
        "So what is {x} actually?", "What is {x}, in plain words?", "Can you describe {x}?", "Teach me about {b}.",
        "What are {xs}?", "What are {xs}?", "Explain {xs}.", "Tell me about {xs}.", "What do you know about {xs}?",
        "I would like to learn about {b}.", "Do you know what {x} is?", "Who can tell me what {x} is?",
        "What should I know about {b}?", "Give me an introduction to {b}.", "Introduce me to {b}.",
        "How would you define {b}?", "What is {x} in the context of AI?", "What is {x} in generative AI?",
        "What is this {b} everyone talks about?", "Can you say what {b} means?", "Let us talk about {b}.",
        "My question is: what is {x}?", "Start with {b}.", "a quick overview of {b}", "info on {b}",
    ),
    "short": (
        "What is {x} in one sentence?", "In one line: what is {x}?", "Explain {x} in one sentence.",
        "Give me a one-line definition of {b}.", "{b} in one sentence", "Briefly, what is {x}?",
        "Summarise {b} in one sentence.", "Define {b} briefly.", "In short, what is {x}?", "Short answer: what is {x}?",
        "What is {x}? One line please.", "Describe {x} in a single sentence.", "tl;dr {b}", "One sentence on {b}.",
        "Can you sum up {b} in one line?", "What is {x}? Keep it short.", "Shortest possible definition of {b}?",
        "What is {x} in a nutshell?", "{b} in a nutshell", "Put {b} into one sentence.",
    ),
    "child": (
        "Explain {x} to a child.", "Explain {x} like I am five.", "How would you explain {x} to a seven-year-old?",
        "ELI5 {b}", "What is {x}, for kids?", "Explain {x} in very simple words.", "Explain {x} to my little sister.",
        "Explain {b} as if I were a child.", "Can you explain {x} to a kid?", "Tell a child what {x} is.",
        "Describe {x} for children.", "What is {x}? Explain it like I am 5.", "Explain {x} with an everyday comparison.",
        "Give me a simple picture of {x}.", "How do I explain {x} to my daughter?", "Explain {b} for beginners.",
        "Explain {x} so that a child understands it.", "Is there a simple analogy for {x}?",
        "Make {b} easy for a child.", "Explain {x} to a primary school class.",
    ),
    "example": (
        "Give me an example of {x}.", "Give an example of {b}.", "What is an example of {x}?",
        "Can you give an example of {x}?", "Show me an example of {b}.", "Do you have an example of {x}?",
        "Example of {b}?", "example for {b}", "Name an example of {x}.", "What would be an example of {b}?",
        "Can you illustrate {b} with an example?", "A concrete example of {b}, please.", "Where do we see {b} in practice?",
        "Where is {b} used in real life?", "Give me a practical example of {b}.", "What does {b} look like in practice?",
        "Can you show {b} with a concrete case?", "One example of {b}, please.",
    ),
    "more": (
        "Tell me more about {b}.", "What else should I know about {b}?", "More about {x}, please.",
        "Can you say more about {b}?", "What else is there to say about {b}?", "Go deeper on {b}.",
        "I know what {x} is. Tell me more.", "Something more advanced about {b}?", "Give me more detail on {b}.",
        "I already know the basics of {b}. What else?", "Any further details about {b}?",
        "Tell me something interesting about {b}.", "Go on about {b}.",
    ),
    "how": (
        "How does {x} work?", "How does {b} work?", "Explain how {x} works.", "How do {xs} work?",
        "Can you explain how {x} works?", "What happens inside {x}?", "How does {b} work in practice?",
        "Describe how {b} works.", "What is the mechanism behind {b}?", "Tell me how {x} works.",
        "how exactly does {b} work", "What is the idea behind how {x} works?", "What are the steps of {b}?",
        "I want to understand how {b} works.", "By what mechanism does {b} work?",
    ),
    "why": (
        "Why is {b} important?", "Why does {b} matter?", "Why do we need {b}?", "What is {b} good for?",
        "What is the point of {b}?", "Why use {b}?", "Why do people use {b}?", "What is the use of {x}?",
        "What is the purpose of {x}?", "What are the benefits of {b}?", "Why would anyone use {x}?",
        "What is the advantage of {b}?", "why should I care about {b}", "What makes {b} useful?",
        "Tell me why {b} matters.", "What is {x} used for?", "What are {xs} used for?",
    ),
    "limits": (
        "What are the limits of {b}?", "What are the limitations of {b}?", "What are the weaknesses of {b}?",
        "What is the downside of {b}?", "What can go wrong with {b}?", "What are the problems with {b}?",
        "What are the risks of {b}?", "What are the disadvantages of {b}?", "Where does {b} fail?",
        "What is bad about {b}?", "Does {b} have drawbacks?", "What are the drawbacks of {b}?",
        "What should I be careful about with {b}?", "What does {b} not do well?", "Are there dangers in {b}?",
    ),
    "list": (
        "List some facts about {b}.", "Give me a list about {b}.", "List three things about {b}.",
        "Give me three points on {b}.", "Name three things to know about {b}.", "{b} as a list, please.",
        "Make a list on {b}.", "List the main points of {b}.", "Give me bullet points about {b}.",
        "Can you list the key points of {b}?", "Three uses of {b}?", "Name three uses of {b}.",
        "What are three points about {b}?", "Give me an overview of {b} as a list.",
    ),
    "compare": (
        "What is the difference between {x} and {y}?", "What is the difference between {x} and {y}?",
        "Compare {x} and {y}.", "Compare {x} with {y}.", "How does {x} differ from {y}?", "{bx} vs {by}",
        "{bx} versus {by}?", "How is {x} different from {y}?", "{bx} or {by}: what is the difference?",
        "What distinguishes {x} from {y}?", "Is {x} the same as {y}?", "Explain the difference between {bx} and {by}.",
        "Can you compare {bx} and {by}?", "How do {bx} and {by} compare?", "What separates {bx} from {by}?",
        "Tell me how {bx} and {by} differ.", "difference {bx} {by}", "Contrast {bx} and {by}.",
        "I keep confusing {bx} and {by}. What is the difference?", "Are {bx} and {by} the same thing?",
    ),
}  # fmt: skip

#: Whole phrasings that training never sees; the evaluation asks with these.
HELD_OUT: dict[str, tuple[str, ...]] = {
    "what": (
        "What on earth is {x}?", "Walk me through the idea of {b}.", "Somebody mentioned {b}, what is that?",
        "Could you clarify what {b} stands for?", "I am new here. What is {x}?", "How do experts define {b}?",
    ),
    "short": ("Sum up {b} for me in just one sentence.", "Quick definition of {b}?"),
    "child": ("How can I make {x} clear to a young child?", "Explain {b} as you would to a kid in school."),
    "example": ("Got an example of {b}?", "Could you name a real example of {b}?"),
    "more": ("What more can you tell me about {b}?", "Expand on {b}."),
    "how": ("In what way does {x} work?", "Walk me through how {b} works."),
    "why": ("What is the reason for using {b}?", "For what reason does {b} matter?"),
    "limits": ("What are the shortcomings of {b}?", "Which weaknesses does {b} have?"),
    "list": ("Could you give me the main points of {b} as a list?",),
    "compare": ("In what way do {bx} and {by} differ?", "What sets {x} apart from {y}?"),
}  # fmt: skip

#: Second questions that only make sense after an answer about some concept.
FOLLOW_UP: dict[str, tuple[str, ...]] = {
    "what": ("What is it again?", "So what is it, exactly?", "Can you define it?", "What does that mean?",
             "Say again what it is.", "Explain it differently.", "I did not get that. What is it?"),
    "short": ("In one sentence?", "Shorter, please.", "Can you say that in one line?", "Give me the short version.",
              "Sum it up.", "tl;dr?", "Make it shorter.", "In short?", "And in a nutshell?", "One line, please."),
    "child": ("Explain that to a child.", "Simpler, please.", "Explain it like I am five.", "And for a child?",
              "Can you say that more simply?", "In simple words?", "That was too hard. Easier?", "How would you explain it to a kid?",
              "ELI5?", "Can you use an everyday comparison?"),
    "example": ("Can you give an example?", "For example?", "Give me an example.", "Such as?", "An example, please.",
                "Do you have an example?", "What is an example of that?", "like what?", "Show me an example.", "A concrete case?"),
    "more": ("Tell me more.", "Go on.", "Continue.", "More, please.", "What else?", "And then?", "Say more.", "Keep going.",
             "Anything else?", "tell me more about it", "Can you go deeper?", "more details please", "Interesting, go on."),
    "how": ("How does it work?", "And how does that work?", "How does that work exactly?", "Can you explain how it works?", "How?"),
    "why": ("Why does it matter?", "Why is that important?", "Why?", "What is it good for?", "Why would I use it?",
            "What is the point?", "and why do people use it"),
    "limits": ("What are its limits?", "What are the downsides?", "What can go wrong?", "Does it have drawbacks?",
               "And the risks?", "Where does it fail?", "What is the catch?"),
    "list": ("Can you list the main points?", "As a list, please.", "Give me three points."),
}  # fmt: skip
FOLLOW_UP_HELD_OUT: dict[str, tuple[str, ...]] = {
    "short": ("Could you put that in a single line?",),
    "child": ("How would I tell that to a small child?",),
    "example": ("Could you show me an example of it?",),
    "more": ("Do carry on.", "I would like to hear more."),
    "how": ("So how does it actually work?",),
    "why": ("And why should I care?",),
    "limits": ("Are there any downsides to it?",),
}
FOLLOW_UP_OTHER = (
    "And {x}?",
    "What about {x}?",
    "And what is {x}?",
    "OK, and {b}?",
    "Now explain {x}.",
    "Then what is {x}?",
)
FOLLOW_UP_COMPARE = ("How is it different from {y}?", "How does it compare to {y}?", "And compared with {y}?",
                     "What is the difference to {y}?", "Is that the same as {y}?")  # fmt: skip

#: (system prompt, facet that it turns a plain question into; "" leaves the question as it is)
SYSTEM_PROMPTS: tuple[tuple[str, str], ...] = (
    ("You are Mote, the guide of the Generative AI 101 Studio. Be friendly, exact and brief.", ""),
    ("You are a helpful assistant.", ""),
    ("You explain generative AI to an audience.", ""),
    ("Answer in one short sentence.", "short"),
    ("Keep every answer to one line.", "short"),
    ("Explain everything as you would to a child.", "child"),
    ("You talk to children. Use simple words and everyday pictures.", "child"),
    ("Answer with an example.", "example"),
)
DEFAULT_SYSTEM_PROMPTS = {facet: text for text, facet in reversed(SYSTEM_PROMPTS)}

_PREFIXES = ("Hi, ", "Hello, ", "Hey, ", "Please, ", "OK, ", "So, ", "Hey Mote, ", "Mote, ", "Quick question: ", "Well, ",
             "Sorry, ", "Excuse me, ", "I wonder, ", "Now, ", "One more: ", "Good. ", "Thanks. ", "Hm, ", "Dear Mote, ")  # fmt: skip
_SUFFIXES = (" Please.", " Thanks.", " please", " thanks", " I am curious.", " Just wondering.", " Be brief.", " In simple terms.", "?",
             " I am a beginner.", " It is for a talk.", " My boss asked.")  # fmt: skip
_ARTICLE = re.compile(r"^(a|an|the)\s+", re.IGNORECASE)


def bare(name: str) -> str:
    """``a GAN`` -> ``GAN``."""
    return _ARTICLE.sub("", name)


def fill(template: str, name: str, plural: str | None, other: str = "") -> str:
    """A template with names put in; the caller makes sure a ``{xs}`` template has a plural."""
    text = template.format(
        x=name, b=bare(name), xs=plural or name, y=other, bx=bare(name), by=bare(other) if other else ""
    )
    return text[:1].upper() + text[1:] if template[:1] in "{" or template[:1].isupper() else text


def _typo(text: str, rng: random.Random) -> str:
    places = list(re.finditer(r"[A-Za-z]{5,}", text))
    if not places:
        return text
    place = rng.choice(places)
    i = rng.randrange(place.start() + 1, place.end() - 1)
    how = rng.randrange(3)
    if how == 0:
        return text[:i] + text[i + 1] + text[i] + text[i + 2 :]
    if how == 1:
        return text[:i] + text[i + 1 :]
    return text[:i] + text[i] + text[i:]


def vary(question: str, rng: random.Random) -> str:
    """The question as people type it: lower case, lost punctuation, greetings, contractions, slips."""
    text = question
    if rng.random() < 0.13:
        prefix = rng.choice(_PREFIXES)
        lower = prefix[-2:] in (", ", ": ") and not text[:2].isupper()
        text = prefix + (text[0].lower() + text[1:] if lower else text)
    if rng.random() < 0.08:
        text = text + rng.choice(_SUFFIXES)
    if rng.random() < 0.2:
        text = re.sub(r"\b([Ww])hat is\b", r"\1hat's", text)
        text = re.sub(r"\bI am\b", "I'm", text)
        text = re.sub(r"\b([Dd])o not\b", r"\1on't", text)
    if rng.random() < 0.3:
        text = text.lower()
    if rng.random() < 0.25:
        text = text.rstrip("?.! ")
    if rng.random() < 0.05:
        text = _typo(text, rng)
    return text
