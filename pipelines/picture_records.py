"""What a picture was made with, as text: written for other tools, read from ours and theirs.

The text is A1111's "infotext" (also written by Forge, Fooocus and Civitai): the prompt, ``Negative prompt:``,
and one line ``Steps: 20, Sampler: Euler a, ...``. It comes from strangers and is data only: every value is
checked by the rules of the settings, and what cannot be used is named in ``ignored``. Reads no file.

    found = parse_infotext("a fox <lora:soft:0.8>\\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1")
    print(found.prompt, found.scheduler, found.loras, found.ignored)
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from pipelines.errors import InvalidParams
from pipelines.params import LARGEST_SEED, Spec, clean_number, clean_text

LONGEST_PROMPT = 2000  # characters
LONGEST_NAME = 200  # characters
MOST_LORAS = 4
MOST_IGNORED = 12  # remarks; a hostile text could make thousands

# Our names of schedulers -> sampler and schedule type as A1111 calls them.
SAMPLERS = {
    "euler": ("Euler", ""),
    "euler_ancestral": ("Euler a", ""),
    "dpmpp_2m": ("DPM++ 2M", ""),
    "dpmpp_2m_karras": ("DPM++ 2M", "Karras"),
    "dpmpp_2m_sde": ("DPM++ 2M SDE", ""),
    "dpmpp_2m_sde_karras": ("DPM++ 2M SDE", "Karras"),
    "dpmpp_sde": ("DPM++ SDE", ""),
    "dpmpp_sde_karras": ("DPM++ SDE", "Karras"),
    "heun": ("Heun", ""),
    "lms": ("LMS", ""),
    "pndm": ("PLMS", ""),
    "ddim": ("DDIM", ""),
    "unipc": ("UniPC", ""),
    "lcm": ("LCM", ""),
    "flow_euler": ("Euler", "Simple"),
}
KNOWN_SCHEDULERS = ("euler", "euler_ancestral", "dpmpp_2m", "dpmpp_2m_karras", "ddim", "unipc", "lcm", "flow_euler")
# What the line holds that does not change the picture, or says again what another field says.
_HARMLESS = re.compile(
    r"model hash|vae hash|lora (hashes|weights)|ti hashes|hashes|version|user|batch (size|pos)|performance|sharpness|"
    r"adm guidance|scheduler|styles|raw (negative )?prompt|created date|civitai (resources|metadata)|module \d|"
    r"schedule type|cfg scale|rng|diffusion in low bits|refiner swap method",
)
_PAIR = re.compile(r'\s*(\w[\w \-/]{0,60}):\s*("(?:\\.|[^\\"])*"|[^,]*)(?:,|$)')
_LORA = re.compile(r"\s?<(?:lora|lyco):([^<>:]{1,200})(?::([^<>]{0,100}))?>", re.IGNORECASE)


def _spec(kind: str, minimum: float, maximum: float, unit: str = "") -> Spec:
    return Spec(kind, 0, "", unit=unit, minimum=minimum, maximum=maximum)


_NUMBERS = {
    "seed": _spec("integer", 0, LARGEST_SEED),
    "width": _spec("integer", 64, 2048, "px"),
    "height": _spec("integer", 64, 2048, "px"),
    "num_inference_steps": _spec("integer", 1, 150, "steps"),
    "guidance_scale": _spec("number", 0, 30),
    "strength": _spec("number", 0, 1),
}
_LORA_WEIGHT = _spec("number", -2, 2)


@dataclass(frozen=True, kw_only=True)
class PictureSettings:
    """Settings read from a picture; ``None`` where it says nothing usable. All text is a stranger's: escape it."""

    prompt: str | None = None
    negative_prompt: str | None = None
    width: int | None = None  # px, a multiple of 8; never without height
    height: int | None = None
    num_inference_steps: int | None = None
    guidance_scale: float | None = None
    scheduler: str | None = None  # one of our names
    seed: int | None = None
    strength: float | None = None
    model: str | None = None  # a name to look up in the catalogue, never a path to open
    loras: tuple[tuple[str, float], ...] = ()  # names likewise, and weights
    ignored: tuple[str, ...] = ()  # one short remark each
    is_own: bool = False  # from our record, not from another tool's text
    is_sure: bool = True  # false when the text was only a prompt, which any text could be


@dataclass
class _Draft:
    """Raw values by our names, and the remarks made while reading them."""

    values: dict[str, Any] = field(default_factory=dict)
    loras: list[tuple[Any, Any]] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)

    def ignore(self, remark: str) -> None:
        if len(self.ignored) < MOST_IGNORED:
            self.ignored.append(_printable(remark, 160))
        elif len(self.ignored) == MOST_IGNORED:
            self.ignored.append("and more")


def _printable(text: str, longest: int) -> str:
    cut = text[:longest].encode("utf-8", "replace").decode("utf-8")
    return " ".join(clean_text(cut, "text", longest).split())


# --- writing ----------------------------------------------------------------------------------------------


def infotext(record: Mapping[str, Any]) -> str:
    """``record`` as A1111 and its relatives write and read it."""
    prompt = _lines(record.get("prompt"))
    for lora in record.get("loras") or ():
        name = re.sub(r"[<>:\s]+", " ", _base_name(lora["name"]))
        prompt += f" <lora:{name}:{lora.get('weight', 1.0):g}>"
    negative = _lines(record.get("negative_prompt"))
    sampler, schedule = SAMPLERS.get(str(record.get("scheduler")), (record.get("scheduler"), ""))
    width, height = record.get("width"), record.get("height")
    fields = {
        "Steps": record.get("num_inference_steps"),
        "Sampler": sampler,
        "Schedule type": schedule or None,
        "CFG scale": record.get("guidance_scale"),
        "Seed": record.get("seed"),
        "Size": f"{width}x{height}" if width and height else None,
        "Model": record.get("model"),
        "Denoising strength": record.get("strength"),
    }
    last = ", ".join(f"{name}: {_quoted(value)}" for name, value in fields.items() if value is not None)
    return "\n".join(part for part in (prompt, f"Negative prompt: {negative}" if negative else "", last) if part)


def _lines(value: Any) -> str:
    return str(value or "").replace("\r\n", "\n").replace("\r", "\n")


def _quoted(value: Any) -> str:
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if re.search(r'[,\n:"]', text) else text


def _base_name(name: Any) -> str:
    return PurePosixPath(str(name).replace("\\", "/")).name


# --- reading ----------------------------------------------------------------------------------------------


def parse_record(text: str, schedulers: Collection[str] = KNOWN_SCHEDULERS) -> PictureSettings | None:
    """The settings in our own JSON record; None when ``text`` is no such record."""
    record = _json_object(text)
    if record is None or "prompt" not in record:
        return None
    draft = _Draft({name: record.get(name) for name in ("prompt", "negative_prompt", "model", *_NUMBERS)})
    scheduler = record.get("scheduler")
    if scheduler == "auto" or (isinstance(scheduler, str) and scheduler in schedulers):
        draft.values["scheduler"] = scheduler
    elif scheduler is not None:
        draft.ignore(f"scheduler: {str(scheduler)[:40]} is not known here")
    loras = record.get("loras")
    for lora in loras if isinstance(loras, list) else ():
        if isinstance(lora, dict):
            draft.loras.append((lora.get("name"), lora.get("weight", 1.0)))
        else:
            draft.ignore("a LoRA without a name")
    return _settings(draft, is_own=True)


def parse_infotext(text: str, schedulers: Collection[str] = KNOWN_SCHEDULERS) -> PictureSettings | None:
    """The settings in an infotext, or in Fooocus's JSON; None when there is no word in it."""
    stripped = _lines(text).strip()
    if not stripped:
        return None
    record = _json_object(stripped)
    if record is not None:
        return _parse_fooocus(record, schedulers)
    lines = stripped.split("\n")
    at = _settings_line(lines)
    pairs: dict[str, tuple[str, str]] = {}
    for name, value in _pairs(lines[at]) if at < len(lines) else ():
        # First come, first served: extensions repeat names of the main fields behind them.
        pairs.setdefault(name.casefold(), (name, value))
    prompt, mark, negative = _split_prompt(lines[:at])
    draft = _Draft({"prompt": prompt, "negative_prompt": negative if mark else None})
    is_sure = bool(pairs) or mark
    _read_pairs(draft, pairs, schedulers)
    _take_loras(draft)
    return _settings(draft, is_sure=is_sure)


def _split_prompt(lines: list[str]) -> tuple[str, bool, str]:
    stripped = [line.strip() for line in lines]
    mark = next((i for i, line in enumerate(stripped) if line.startswith("Negative prompt:")), len(lines))
    negative = "\n".join(stripped[mark:]).removeprefix("Negative prompt:")
    return "\n".join(stripped[:mark]).strip(), mark < len(lines), negative.strip()


_MAIN = {"steps", "sampler", "cfg scale", "seed", "size", "model"}


def _settings_line(lines: list[str]) -> int:
    """Where the line of settings is: the last that looks like one, since a prompt may hold such words too."""
    for at in range(len(lines) - 1, max(-1, len(lines) - 50), -1):
        names = [name.casefold() for name, _ in _pairs(lines[at])]
        if len(_MAIN.intersection(names)) >= 2 and (len(names) >= 3 or names[0] == "steps"):
            return at
    return len(lines)


def _pairs(line: str) -> Iterator[tuple[str, str]]:
    """``Name: value`` pairs of one line, in one pass: what is no pair is passed over up to the next comma."""
    position = 0
    while position < len(line):
        match = _PAIR.match(line, position)
        if match is None:
            comma = line.find(",", position)
            position = comma + 1 if comma >= 0 else len(line)
            continue
        value = match[2].strip()
        if value.startswith('"'):
            unquoted = _json(value)
            value = unquoted if isinstance(unquoted, str) else value
        yield match[1].strip(), value
        position = max(match.end(), position + 1)


def _read_pairs(draft: _Draft, pairs: dict[str, tuple[str, str]], schedulers: Collection[str]) -> None:
    def take(name: str) -> str | None:
        return pairs.pop(name, ("", ""))[1] or None

    values = draft.values
    values["num_inference_steps"] = take("steps")
    values["seed"] = take("seed")
    values["model"] = take("model")
    # Models with built-in guidance (FLUX): diffusers calls that guidance_scale, and A1111's is 1.
    distilled, plain = take("distilled cfg scale"), take("cfg scale")
    values["guidance_scale"] = distilled or plain
    size = take("size")
    if size is not None:
        width, _, height = size.partition("x")
        values["width"], values["height"] = width, height
    strength = take("denoising strength")
    if strength is not None and not any(name.startswith("hires ") for name in pairs):
        values["strength"] = strength  # of the second pass otherwise, which is not made here
    schedule = pairs.get("schedule type", pairs.get("scheduler", ("", "")))[1]
    sampler = take("sampler")
    if sampler is not None:
        # "Simple" is the schedule of the flow models (FLUX, Z-Image, SD 3), which want their own Euler.
        is_flow = distilled is not None or schedule.casefold() == "simple"
        _read_sampler(draft, sampler, schedule, schedulers, is_flow=is_flow)
    for key in ("lora weights", "lora hashes"):  # Fooocus: "name: weight" or "name: hash: weight"
        for item in pairs.get(key, ("", ""))[1].split(", "):
            parts = item.split(": ")
            if len(parts) == (2 if key == "lora weights" else 3):
                draft.loras.append((parts[0], parts[-1]))
    for key, (name, value) in pairs.items():
        if not _HARMLESS.fullmatch(key):
            draft.ignore(f"{name}: {value[:40]} has no counterpart here")


def _read_sampler(
    draft: _Draft, sampler: str, schedule: str, schedulers: Collection[str], *, is_flow: bool = False
) -> None:
    """Set the scheduler by A1111's, ComfyUI's or our own name of it."""
    wanted, is_karras = _plain_name(sampler)
    is_karras = is_karras or schedule.casefold() == "karras"
    names = {_plain_name(name)[0]: ours for ours, (name, _) in reversed(SAMPLERS.items())}
    names |= {_plain_name(ours)[0]: ours for ours in reversed(SAMPLERS)}
    ours = names.get(wanted)
    if ours == "euler" and is_flow and "flow_euler" in schedulers:
        ours = "flow_euler"
    if is_karras and ours is not None and f"{ours}_karras" in schedulers:
        ours, is_karras = f"{ours}_karras", False
    if ours is None or ours not in schedulers:
        draft.ignore(f"Sampler: {sampler[:40]} is not known here")
        return
    draft.values["scheduler"] = ours
    if is_karras:
        draft.ignore("Schedule type: Karras has no counterpart here")


def _plain_name(sampler: str) -> tuple[str, bool]:
    """``DPM++ 2M Karras`` and ``dpmpp_2m_gpu`` -> ``dpmpp2m``, and whether it named Karras."""
    name = re.sub(r"[^a-z0-9]", "", sampler[:60].casefold().replace("++", "pp"))
    is_karras = name.endswith("karras")
    name = name.removesuffix("karras").removesuffix("gpu")
    return {"eulera": "eulerancestral"}.get(name, name), is_karras


def _take_loras(draft: _Draft) -> None:
    """Move ``<lora:name:weight>`` out of the prompts."""
    for key in ("prompt", "negative_prompt"):
        prompt = draft.values.get(key) or ""
        tags = list(_LORA.finditer(prompt))
        for tag in tags:
            options = (tag[2] or "1").split(":")
            # <lora:name:te=0.5:unet=0.8>: the picture is mostly made by the second.
            named = next((o.partition("=")[2] for o in options if o.strip().startswith("unet=")), options[0])
            draft.loras.append((tag[1].strip(), named.rpartition("=")[2].strip()))
        if tags:
            rest = re.sub(r",(?:[ \t]*,)+", ",", _LORA.sub("", prompt))
            draft.values[key] = rest.strip(", \t\n")


def _parse_fooocus(record: dict[str, Any], schedulers: Collection[str]) -> PictureSettings | None:
    if "prompt" not in record or "base_model" not in record:
        return None
    names = {"num_inference_steps": "steps", "guidance_scale": "guidance_scale", "seed": "seed", "model": "base_model"}
    draft = _Draft({ours: record.get(theirs) for ours, theirs in names.items()})
    draft.values |= {name: record.get(name) for name in ("prompt", "negative_prompt")}
    size = re.match(r"\(?(\d{1,5}), ?(\d{1,5})\)?$", str(record.get("resolution"))[:20])
    if size:
        draft.values["width"], draft.values["height"] = size.groups()
    _read_sampler(draft, str(record.get("sampler")), str(record.get("scheduler")), schedulers)
    loras = record.get("loras")
    for lora in loras if isinstance(loras, list) else ():
        if isinstance(lora, list) and len(lora) >= 2:
            draft.loras.append((lora[0], lora[1]))
    return _settings(draft)


# --- checking ---------------------------------------------------------------------------------------------


def _settings(draft: _Draft, *, is_own: bool = False, is_sure: bool = True) -> PictureSettings:
    """The draft with every value checked by the rules of the settings."""
    clean: dict[str, Any] = {}
    for name, value in draft.values.items():
        if value is None:
            continue
        try:
            clean[name] = _checked(name, value)
        except InvalidParams as error:
            draft.ignore(error.message)
    if ("width" in clean) != ("height" in clean):  # one side alone would change the shape
        clean.pop("width", None)
        clean.pop("height", None)
    return PictureSettings(
        **clean, loras=_clean_loras(draft), ignored=tuple(draft.ignored), is_own=is_own, is_sure=is_sure
    )


def _checked(name: str, value: Any) -> Any:
    if name == "scheduler":  # from our own table
        return value
    if name not in _NUMBERS:
        return clean_text(value, name, LONGEST_NAME if name == "model" else LONGEST_PROMPT)
    spec = _NUMBERS[name]
    number = clean_number(value, name, spec)
    if spec.unit == "px" and number % 8:
        raise InvalidParams(f"{name} must be a multiple of 8 px, not {number}.")
    return number


def _clean_loras(draft: _Draft) -> tuple[tuple[str, float], ...]:
    loras: dict[str, float] = {}
    for name, weight in draft.loras:
        try:
            shown = _base_name(clean_text(name, "LoRA name", LONGEST_NAME)).strip()
            number = float(clean_number(weight, f"weight of LoRA {shown[:40]}", _LORA_WEIGHT))
        except InvalidParams as error:
            draft.ignore(error.message)
            continue
        if not shown or shown == "..":
            draft.ignore("a LoRA without a name")
        elif len(loras) >= MOST_LORAS:
            draft.ignore(f"LoRA {shown[:40]}: at most {MOST_LORAS} are used")
        else:
            loras.setdefault(shown, number)
    return tuple(loras.items())


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _json_object(text: str) -> dict[str, Any] | None:
    found = _json(text) if text.startswith("{") else None
    return found if isinstance(found, dict) else None
