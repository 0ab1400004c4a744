"""Controls: made from the fields' own ranges and help, and read back by name whatever their order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr
import pytest

from pipelines.chat import SETTINGS, ChatParams
from pipelines.params import LARGEST_SEED, Params, choice, flag, integer, number, specs, text
from studio.controls import Controls, control
from studio.tabs import chat


@dataclass(frozen=True, kw_only=True)
class Tea(Params):
    """One field of every kind."""

    warmth: float = number(80.0, minimum=20.0, maximum=100.0, step=0.5, unit="degrees", help="How hot.")
    cups: int = integer(2, minimum=1, maximum=12, help="How many.", label="Number of cups")
    seed: int = integer(-1, minimum=-1, maximum=LARGEST_SEED, help="Where chance starts.")
    kind: str = choice("green", ("green", "black"), help="Which.")
    note: str = text("", max_length=50, help="Anything else.")
    has_milk: bool = flag(False, help="With milk.")


def made(name: str) -> Any:
    return control(name, specs(Tea)[name])


def controls(*names: str) -> Controls:
    found = Controls(Tea)
    found.add(*names)
    return found


def test_a_number_becomes_a_slider_over_its_range_in_its_steps() -> None:
    slider = made("warmth")
    assert isinstance(slider, gr.Slider)
    assert (slider.minimum, slider.maximum, slider.step, slider.value) == (20.0, 100.0, 0.5, 80.0)


def test_a_range_too_fine_to_aim_at_becomes_a_number_field_of_whole_numbers() -> None:
    field = made("seed")
    assert isinstance(field, gr.Number)
    assert (field.minimum, field.maximum, field.precision, field.value) == (-1, LARGEST_SEED, 0, -1)


def test_choice_flag_and_text_become_dropdown_checkbox_and_text_box() -> None:
    dropdown, box, checkbox = made("kind"), made("note"), made("has_milk")
    assert isinstance(dropdown, gr.Dropdown)
    assert [value for _, value in dropdown.choices] == ["green", "black"]
    assert isinstance(box, gr.Textbox)
    assert box.max_length == 50
    assert isinstance(checkbox, gr.Checkbox)


@pytest.mark.parametrize("name", list(specs(Tea)))
def test_every_control_shows_a_label_and_the_help_of_its_field(name: str) -> None:
    component = made(name)
    assert component.label
    assert component.info == specs(Tea)[name].help


def test_labels_say_the_unit_and_prefer_the_fields_own_words() -> None:
    assert made("warmth").label == "Warmth (degrees)"
    assert made("cups").label == "Number of cups"
    assert made("has_milk").label == "Has milk"


def test_values_come_back_by_name_whatever_the_order_of_the_controls() -> None:
    one, other = controls("warmth", "cups", "kind"), controls("kind", "cups", "warmth")
    wanted = {"warmth": 70, "cups": 3, "kind": "black"}
    for made in (one, other):
        sent = {component: wanted[name] for name, component in made.components.items()}
        sent = dict(reversed(sent.items()))
        assert made.values(sent) == wanted
        assert Tea.from_mapping(made.values(sent)) == Tea(warmth=70, cups=3, kind="black")
    assert one.inputs == set(one.components.values())


def test_fields_left_out_are_not_read() -> None:
    made = controls("cups", "kind")
    sent = {made.components["cups"]: 3, made.components["kind"]: "black"}
    assert made.values(sent, skip=("kind",)) == {"cups": 3}


def test_values_are_handed_on_unchecked_for_the_params_to_judge() -> None:
    made = controls("cups")
    assert made.values({made.components["cups"]: "many"}) == {"cups": "many"}


def test_reset_gives_every_control_its_default() -> None:
    made = controls("kind", "warmth", "seed")
    assert made.defaults() == ["green", 80.0, -1]
    assert [c.value for c in made.components.values()] == made.defaults()  # type: ignore[attr-defined]


def test_every_chat_setting_is_on_the_page_once() -> None:
    shown = (*chat.IN_VIEW, *chat.FOLDED)
    assert len(set(shown)) == len(shown)
    assert set(SETTINGS) - set(shown) == {"is_traced"}, "the token view needs the trace, so it is always on"
    assert len(chat.IN_VIEW) <= 3
    assert all(specs(ChatParams)[name].help for name in shown)
