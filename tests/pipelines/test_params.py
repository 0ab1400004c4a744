"""Settings: whatever a browser or the API sends, a field holds a sane value or the message says why not."""

from __future__ import annotations

import argparse
import re
from dataclasses import FrozenInstanceError, dataclass
from typing import Any

import pytest

from pipelines.errors import InvalidParams
from pipelines.params import LARGEST_SEED, Params, add_arguments, choice, flag, integer, number, specs, text

NOT_NUMBERS: list[tuple[Any, str]] = [
    (float("nan"), "nan"),
    (float("inf"), "inf"),
    (float("-inf"), "-inf"),
    ("nan", "'nan'"),
    ("-Infinity", "'-Infinity'"),
    (1e308, "1e+308"),
    ("1e308", "'1e308'"),
    ("1e999", "'1e999'"),
    (-1, "-1"),
    (-0.001, "-0.001"),
    ("abc", "'abc'"),
    ("", "''"),
    ("1,5", "'1,5'"),
    (None, "None"),
    ([1], "a list"),
    ({"value": 1}, "a dict"),
    (b"1", "a bytes"),
    (1 + 0j, "a complex"),
    (True, "True"),
    (False, "False"),
    (10**400, "a number of hundreds of digits"),
    (10**5000, "a number of hundreds of digits"),  # Python refuses to print this one
    ("9" * 1_000_000, "'999"),
]


@dataclass(frozen=True, kw_only=True)
class Settings(Params):
    """One field of every kind."""

    warmth: float = number(0.5, minimum=0.0, maximum=2.0, step=0.1, unit="K", help="How warm, in 10 % steps.")
    count: int = integer(4, minimum=1, maximum=4096, unit="tokens", help="How many.")
    seed: int = integer(0, minimum=0, maximum=LARGEST_SEED, help="Where chance starts.")
    style: str = choice("plain", ("plain", "fancy"), help="Which one.")
    title: str = text("", max_length=500, help="What it is called.")
    is_loud: bool = flag(False, help="Whether 100 % loud.")
    untouched: tuple[int, ...] = ()


def names_of(values: list[tuple[Any, str]]) -> list[str]:
    return [f"{i}-{type(value).__name__}" for i, (value, _) in enumerate(values)]


@pytest.mark.parametrize("field", ["warmth", "count"])
@pytest.mark.parametrize(("value", "shown"), NOT_NUMBERS, ids=names_of(NOT_NUMBERS))
def test_refusal_names_field_value_and_range(field: str, value: Any, shown: str) -> None:
    span = {"warmth": "0 to 2 K", "count": "1 to 4096 tokens"}[field]
    with pytest.raises(InvalidParams) as refusal:
        Settings(**{field: value})
    message = refusal.value.message
    assert field in message
    assert shown in message
    assert span in message
    assert len(message) < 150


@pytest.mark.parametrize(("value", "kept"), [(0, 0.0), (2, 2.0), ("1.5", 1.5), (" 1 ", 1.0), (0.25, 0.25)])
def test_number_in_range_becomes_a_float(value: Any, kept: float) -> None:
    settings = Settings(warmth=value)
    assert settings.warmth == kept
    assert type(settings.warmth) is float


@pytest.mark.parametrize(("value", "kept"), [(1, 1), (4096, 4096), (7.0, 7), ("12", 12)])
def test_integer_in_range_becomes_an_int(value: Any, kept: int) -> None:
    settings = Settings(count=value)
    assert settings.count == kept
    assert type(settings.count) is int


@pytest.mark.parametrize("value", [1.5, "2.5", 4095.9999])
def test_integer_refuses_a_fraction(value: Any) -> None:
    with pytest.raises(InvalidParams, match=r"count must be a whole number from 1 to 4096 tokens"):
        Settings(count=value)


def test_largest_seed_keeps_every_digit() -> None:
    assert Settings(seed=LARGEST_SEED).seed == 4294967295
    with pytest.raises(InvalidParams, match="from 0 to 4294967295"):
        Settings(seed=LARGEST_SEED + 1)


@pytest.mark.parametrize("value", ["gaudy", "", None, 1, ["plain"], "x" * 1_000_000])
def test_choice_refuses_what_is_not_offered(value: Any) -> None:
    with pytest.raises(InvalidParams, match="style must be one of plain, fancy, not ") as refusal:
        Settings(style=value)
    assert len(refusal.value.message) < 150


@pytest.mark.parametrize("value", ["true", 1, 0, None, [True]])
def test_flag_refuses_what_is_not_a_boolean(value: Any) -> None:
    with pytest.raises(InvalidParams, match="is_loud must be true or false"):
        Settings(is_loud=value)


@pytest.mark.parametrize("value", [None, 5, b"bytes", ["a"], {"a": "b"}])
def test_text_refuses_what_is_not_text(value: Any) -> None:
    with pytest.raises(InvalidParams, match=f"title must be text, not {type(value).__name__}"):
        Settings(title=value)


def test_text_of_exactly_the_limit_is_kept_and_one_more_is_refused() -> None:
    assert len(Settings(title="ä" * 500).title) == 500
    with pytest.raises(InvalidParams, match="title has 501 characters; at most 500 are accepted"):
        Settings(title="ä" * 501)


def test_ten_million_characters_are_refused_without_reading_them() -> None:
    class Unread(str):
        def _refuse(self, *args: Any) -> Any:
            raise AssertionError("it was read")

        translate = encode = __iter__ = __repr__ = __format__ = __getitem__ = _refuse

    with pytest.raises(InvalidParams, match="title has 10,000,000 characters; at most 500 are accepted"):
        Settings(title=Unread("x" * 10_000_000))


def test_control_characters_and_direction_overrides_are_removed() -> None:
    written = "a\x00b\x1b[31m\u202ec\u2066d\u2069\ufeff\x7fe"
    assert Settings(title=written).title == "ab[31mcde"


@pytest.mark.parametrize(
    "written", ["tab\tnew\nline\r", "<script>alert(1)</script>", "<|end|>", "שלום مرحبا 👩‍🚀 e\u0301"]
)
def test_ordinary_text_is_kept_as_it_is(written: str) -> None:
    assert Settings(title=written).title == written


@pytest.mark.parametrize("written", ["\ud800", "ok \udfff", "\udc00\ud800"])
def test_lone_surrogates_are_refused(written: str) -> None:
    with pytest.raises(InvalidParams, match="title holds broken characters"):
        Settings(title=written)


def test_unknown_names_are_refused_by_name() -> None:
    with pytest.raises(InvalidParams, match="Unknown setting: colour, sice"):
        Settings.from_mapping({"sice": 1, "colour": 2, "count": 3})


def test_names_that_are_no_text_are_refused() -> None:
    mixed: dict[Any, Any] = {1: 2, None: 3, "b" * 1000: 4}
    with pytest.raises(InvalidParams, match="Unknown setting: 1, None, b{40}"):
        Settings.from_mapping(mixed)


def test_mapping_is_validated_like_a_call() -> None:
    assert Settings.from_mapping({"count": "3", "untouched": (1, 2)}) == Settings(count=3, untouched=(1, 2))
    with pytest.raises(InvalidParams, match="count must be"):
        Settings.from_mapping({"count": 0})


def test_settings_cannot_be_changed_after_the_check() -> None:
    settings = Settings()
    with pytest.raises(FrozenInstanceError):
        settings.count = -5  # type: ignore[misc]


def test_record_holds_every_setting_and_builds_the_same_again() -> None:
    settings = Settings(warmth=1.25, style="fancy", title="a", is_loud=True)
    record = settings.record()
    assert list(record) == ["warmth", "count", "seed", "style", "title", "is_loud"]
    assert Settings.from_mapping(record) == settings


def parser_of(*names: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser()
    add_arguments(parser, Settings, names)
    return parser


def test_every_field_has_a_flag_with_its_default() -> None:
    given = vars(parser_of().parse_args([]))
    assert given == {name: spec.default for name, spec in specs(Settings).items()}
    assert Settings(**given) == Settings()


def test_flags_are_validated_by_the_same_rules() -> None:
    line = ["--warmth", "1.5", "--count", "7", "--style", "fancy", "--is-loud", "--title", "-"]
    assert Settings(**vars(parser_of().parse_args(line))) == Settings(
        warmth=1.5, count=7, style="fancy", is_loud=True, title="-"
    )
    with pytest.raises(InvalidParams, match="count must be a whole number from 1 to 4096 tokens, not 'many'"):
        Settings(**vars(parser_of().parse_args(["--count", "many"])))


def test_flag_help_states_help_range_and_unit() -> None:
    shown = re.sub(r"\s+", " ", parser_of().format_help())
    assert "How warm, in 10 % steps. (0 to 2 K)" in shown
    assert "How many. (1 to 4096 tokens)" in shown
    assert "Where chance starts. (0 to 4294967295)" in shown
    assert "Whether 100 % loud." in shown


def test_only_the_named_fields_become_flags() -> None:
    assert set(vars(parser_of("count", "style").parse_args([]))) == {"count", "style"}
