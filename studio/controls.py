"""A params dataclass as controls, and control values back as params, by name and never by position.

Knows Gradio and ``pipelines.params``; knows no task.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

import gradio as gr

from pipelines.params import Params, Spec, specs

P = TypeVar("P", bound=Params)


def control(name: str, spec: Spec, prefix: str = "setting") -> gr.components.Component:
    """The control for one field: slider, number, dropdown, checkbox or text box, with unit and help.

    Its element is called ``{prefix}-{name}``.
    """
    label = spec.label or name.replace("_", " ").capitalize()
    label += f" ({spec.unit})" if spec.unit and spec.unit.lower() != label.lower() else ""
    common = {"label": label, "info": spec.help, "elem_id": f"{prefix}-{name}", "interactive": True}
    if spec.kind == "choice":
        return gr.Dropdown(list(spec.choices), value=spec.default, **common)
    if spec.kind == "flag":
        return gr.Checkbox(value=spec.default, **common)
    if spec.kind == "text":
        return gr.Textbox(value=spec.default, max_length=spec.max_length, lines=2, **common)
    if spec.maximum - spec.minimum > 10_000:  # a slider cannot be aimed that finely
        return gr.Number(
            value=spec.default, minimum=spec.minimum, maximum=spec.maximum, precision=0, step=spec.step, **common
        )
    return gr.Slider(spec.minimum, spec.maximum, value=spec.default, step=spec.step, **common)


class Controls:
    """The controls of one params class: made with ``add``, listed by ``inputs``, read back by ``values``."""

    def __init__(self, cls: type[P], prefix: str = "setting") -> None:
        """``prefix`` begins the elements' names: two tabs on one page need two."""
        self.cls, self.prefix = cls, prefix
        self._specs = specs(cls)
        self.components: dict[str, gr.components.Component] = {}

    def add(self, *names: str) -> None:
        """Create the controls of these fields at this place of the layout."""
        for name in names:
            self.components[name] = control(name, self._specs[name], self.prefix)

    @property
    def inputs(self) -> set[gr.components.Component]:
        """As a set, so that Gradio hands the handler a dictionary keyed by component."""
        return set(self.components.values())

    def values(self, data: dict[Any, Any], skip: Iterable[str] = ()) -> dict[str, Any]:
        """Field name -> what the page sent, still unchecked: the params class checks it."""
        return {name: data[c] for name, c in self.components.items() if name not in skip}

    def defaults(self) -> list[Any]:
        """The default of every control, in the order of ``components``: for the reset button."""
        return [self._specs[name].default for name in self.components]
