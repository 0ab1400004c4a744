"""What the page says about a model where it is chosen: licence, size, purpose, whether it is here.

Small pieces of HTML with everything foreign escaped. Knows no tab and no handler.
"""

from __future__ import annotations

import html

from pipelines import catalog
from pipelines.catalog import Model
from studio.runtime import DEFAULT_MODEL, Studio


def model_line(model: Model, remark: str = "") -> str:
    """Licence, size and purpose of a model, and a ``remark`` of the tab's own, as HTML."""
    license_name = html.escape(model.license)
    if model.license_url:
        license_name = f'<a href="{html.escape(model.license_url)}" target="_blank" rel="noopener">{license_name}</a>'
    parts = [html.escape(model.summary), html.escape(remark), f"Licence: {license_name}."]
    if model.non_commercial:
        parts.append("<strong>Not for commercial use.</strong>")
    if model.is_tiny:
        parts.append(f'<a href="studio/card/{html.escape(model.id)}" target="_blank">Model card</a>.')
    if model.download_mb:
        parts.append(f"{model.download_mb / 1000:.1f} GB on disk.")
    if model.is_remote:
        parts.append("Your messages leave this machine.")
    return '<p class="model-line">' + " ".join(part for part in parts if part) + "</p>"


def model_choices(studio: Studio, task: str) -> list[tuple[str, str]]:
    """(label, id) of every model of a task, what is not on this machine marked."""
    found = [("Default of this studio", DEFAULT_MODEL)]
    for model in studio.models.values():
        if model.task == task:
            size = f", {model.download_mb / 1000:.1f} GB" if model.download_mb else ""
            terms = ", non-commercial" if model.non_commercial else ""
            here = "" if catalog.is_present(model) else ", not here"
            found.append((f"{model.title} ({model.license}{terms}{size}{here})", model.id))
    return found
