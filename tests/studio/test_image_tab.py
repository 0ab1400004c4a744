"""The image tab's handlers with a real studio and a tiny model: what a person asks for happens, or is refused in words."""

from __future__ import annotations

import asyncio
import io
import os
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from PIL import Image, ImageDraw

from pipelines import pictures
from pipelines.text_to_image import TASK, ImageParams
from studio.runtime import Studio
from studio.settings import Settings
from studio.tabs import text_to_image_grid as grids
from studio.tabs.text_to_image import ImageTab
from studio.tabs.text_to_image_settings import KEEP_SEED, size_of, swapped
from studio.tabs.text_to_image_words import completed, sentence, surprise, words, written_prompt
from tests.studio.conftest import in_loop
from tests.studio.image_page import ImagePage, image_catalog

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

PROMPT = "a fox on a blue background"
NOT_NUMBERS: list[Any] = [float("nan"), float("inf"), float("-inf"), 1e308, -7, "abc", None, [1], {}, True]


def make_tab(studio: Studio) -> ImageTab:
    def make() -> ImageTab:
        with gr.Blocks(analytics_enabled=False) as page:
            return ImageTab(studio, page)

    return in_loop(make)


def make_studio(data_dir: Path, catalog: str, **changes: Any) -> Studio:
    data_dir.mkdir(parents=True, exist_ok=True)
    (data_dir / "catalog.toml").write_text(catalog)
    return Studio(Settings(**({"data_dir": data_dir, "device": "cpu", "image_model": "painter"} | changes)))


@pytest.fixture(scope="session")
def image_text(tmp_path_factory: pytest.TempPathFactory) -> str:
    return image_catalog(tmp_path_factory.mktemp("image-model"))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where Gradio keeps what it serves, for this file."""
    folder = tmp_path_factory.mktemp("gradio")
    before = os.environ.get("GRADIO_TEMP_DIR")
    os.environ["GRADIO_TEMP_DIR"] = str(folder)
    yield folder
    os.environ.pop("GRADIO_TEMP_DIR") if before is None else os.environ.update(GRADIO_TEMP_DIR=before)


@pytest.fixture(scope="module")
def studio(image_text: str, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    made = make_studio(tmp_path_factory.mktemp("data"), image_text)
    made.warm_up()
    yield made
    made.close()


@pytest.fixture(scope="module")
def tab(studio: Studio) -> ImageTab:
    return make_tab(studio)


@pytest.fixture
def page(tab: ImageTab) -> ImagePage:
    return ImagePage(tab)


@pytest.fixture
def locked(tab: ImageTab, studio: Studio, monkeypatch: pytest.MonkeyPatch) -> ImagePage:
    """The page of an attendee of a studio with a presenter's password."""
    monkeypatch.setattr(studio.sessions, "_password", "sesame")
    return ImagePage(tab, "attendee")


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def pixels(path: str) -> bytes:
    with Image.open(path) as image:
        return image.convert("RGB").tobytes()


# --- painting --------------------------------------------------------------------------------------------


async def test_a_picture_grows_step_by_step_and_ends_in_the_gallery_with_its_record(page: ImagePage) -> None:
    tab = page.tab
    updates = await page.paint(num_inference_steps=6)
    stages = [u[tab.stage] for u in updates if tab.stage in u]
    assert [s["phase"] for s in stages][-1] == "hidden"
    assert any(s.get("images") for s in stages)
    assert any("Painting" in s.get("status", "") for s in stages)
    assert page.error == ""
    assert page.visible == {tab.paint: True, tab.stop: False, tab.gallery: True, tab.actions: True}
    one = page.shown.pictures[0]
    film = page.values[tab.film]
    assert [f["step"] for f in film["frames"]] == [1, 2, 3, 4, 5, 6]
    sigmas = [f["sigma"] for f in film["frames"]]
    assert sigmas == sorted(sigmas, reverse=True)
    assert all(f["without"] and f["with"] for f in film["frames"]), "both halves of guidance, as it was traced"
    assert [w["word"] for w in page.values[tab.words]["words"]] == PROMPT.split()
    found = pictures.read_record(one.path)
    assert found is not None
    assert (found.prompt, found.seed, found.num_inference_steps) == (PROMPT, one.record["seed"], 6)
    assert "AI-generated" in page.numbers
    assert str(one.record["seed"]) in page.numbers
    assert page.get("seed") == one.record["seed"], "the seed that was used is shown"


async def test_the_file_of_a_picture_lies_where_nobody_can_guess(page: ImagePage, cache: Path) -> None:
    await page.paint()
    path = Path(page.shown.pictures[0].path)
    assert path.is_relative_to(cache)
    assert len(path.parent.name) == 64
    await page.paint()
    assert Path(page.shown.pictures[0].path).parent != path.parent


async def test_a_kept_seed_gives_the_same_picture_and_a_new_one_another(page: ImagePage) -> None:
    await page.paint(seed=5, seed_mode=KEEP_SEED)
    await page.paint(seed=5, seed_mode=KEEP_SEED)
    await page.paint(seed=6, seed_mode=KEEP_SEED)
    last, second, first = (pixels(one.path) for one in page.shown.pictures)
    assert first == second
    assert last != first


async def test_several_pictures_have_seeds_that_count_up_and_film_strips_of_their_own(page: ImagePage) -> None:
    await page.paint(num_images=3, seed=5, seed_mode=KEEP_SEED)
    assert [one.record["seed"] for one in page.shown.pictures] == [5, 6, 7]
    strips = [one.film["frames"][-1]["src"] for one in page.shown.pictures]
    assert len(set(strips)) == 3
    event = gr.SelectData(None, {"index": 2, "value": None})
    shown, numbers, film, _ = page.tab.on_picture(page.shown, event)
    assert shown.selected == 2
    assert film["frames"][-1]["src"] == strips[2]
    assert ">7</button>" in numbers


async def test_vary_takes_a_new_seed_and_again_paints_the_same_whatever_the_controls_say(page: ImagePage) -> None:
    await page.paint(seed=5, seed_mode=KEEP_SEED)
    page.set(prompt="something else", num_inference_steps=2)
    await page.call(page.tab.on_again_exactly)
    again, first = page.shown.pictures
    assert again.record["prompt"] == PROMPT
    assert pixels(again.path) == pixels(first.path)
    await page.call(page.tab.on_vary)
    assert page.shown.pictures[0].record["seed"] != 5
    assert page.shown.pictures[0].record["prompt"] == PROMPT


async def test_stop_ends_the_run_within_a_step_and_the_next_one_works(page: ImagePage) -> None:
    tab = page.tab
    page.set(prompt=PROMPT, num_inference_steps=150, is_traced=False)
    async with aclosing(tab.on_paint(dict(page.values), page.request)) as steps:  # type: ignore[type-var]
        async for update in steps:
            page.show(update)
            if update.get(tab.stage, {}).get("images"):
                tab.on_image_stop(page.request)
    assert page.visible[tab.paint]
    assert not page.visible[tab.stop]
    assert "Stopped" in page.numbers
    assert page.shown.pictures == ()
    assert 0 < len(page.values[tab.film]["frames"]) < 100, "the steps that were made stay"
    await page.paint(num_inference_steps=2)
    assert len(page.shown.pictures) == 1


async def test_a_page_that_is_closed_frees_the_engine(page: ImagePage, studio: Studio) -> None:
    page.set(prompt=PROMPT, num_inference_steps=150)
    steps = page.tab.on_paint(dict(page.values), page.request)
    async for update in steps:
        if update.get(page.tab.stage, {}).get("images"):
            break
    await steps.aclose()  # type: ignore[attr-defined]
    for _ in range(3000):
        if studio.state().running == studio.state().waiting == 0:
            break
        await asyncio.sleep(0.01)
    assert studio.state().running == studio.state().waiting == 0
    await page.paint()
    assert page.shown.pictures


async def test_a_second_run_of_the_same_page_is_refused_in_words(page: ImagePage) -> None:
    page.set(prompt=PROMPT, num_inference_steps=150)
    async with aclosing(page.tab.on_paint(dict(page.values), page.request)) as first:  # type: ignore[type-var]
        await anext(first)
        second = [u async for u in page.tab.on_paint(dict(page.values), page.request)]
    assert "still being painted" in second[0][page.tab.error]


# --- refusals: nothing typed is lost ---------------------------------------------------------------------


@pytest.mark.parametrize("name", ["num_inference_steps", "guidance_scale", "num_images", "strength"])
@pytest.mark.parametrize("value", NOT_NUMBERS, ids=repr)
async def test_a_number_that_is_none_is_refused_with_a_card(page: ImagePage, name: str, value: Any) -> None:
    await page.paint(**{name: value})
    assert "card error" in page.error
    assert name in page.error
    assert page.get("prompt") == PROMPT
    assert page.visible[page.tab.paint]


@pytest.mark.parametrize(
    "prompt", ["", "   ", None, "x" * 2001, "x" * 1_000_000, "half \ud800 a pair", 7, ["a"]], ids=lambda p: repr(p)[:12]
)
async def test_a_prompt_that_is_none_is_refused_with_a_card(page: ImagePage, prompt: Any) -> None:
    await page.paint(prompt)
    assert "card error" in page.error
    assert "unexpected" not in page.error
    assert page.get("prompt") == prompt


async def test_markup_in_a_prompt_stays_text(page: ImagePage) -> None:
    await page.paint("<script>alert(1)</script> <img src=x onerror=alert(1)>")
    assert len(page.shown.pictures) == 1
    assert "<script" not in page.numbers + page.notice
    assert "<" not in Path(page.shown.pictures[0].path).name


@pytest.mark.parametrize("shape", ["5:0", "0:0", "x", "9999x9999", "10x10", "65x65", 7, [], "1:1:1"], ids=repr)
async def test_a_wrong_shape_is_refused(page: ImagePage, shape: Any) -> None:
    await page.paint(shape=shape)
    assert "card error" in page.error
    assert "unexpected" not in page.error


async def test_a_shape_by_ratio_keeps_the_models_number_of_pixels(page: ImagePage) -> None:
    await page.paint(shape="16:9", num_inference_steps=1)
    record = page.shown.pictures[0].record
    assert record["width"] > record["height"]
    assert record["width"] * record["height"] <= 2 * 64 * 64
    assert swapped("16:9") == "9:16"
    assert swapped("640x480") == "480x640"
    assert size_of("640x480", None) == (640, 480)  # type: ignore[arg-type]


def hostile() -> dict[str, bytes]:
    bomb = io.BytesIO()
    Image.new("1", (13_000, 13_000)).save(bomb, "PNG")
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage\n"
    whole = png(Image.new("RGB", (64, 64)))
    return {"bomb": bomb.getvalue(), "eps": eps, "cut": whole[: len(whole) // 2], "text": b"hello", "empty": b""}


@pytest.mark.parametrize("kind", list(hostile()))
async def test_a_hostile_start_image_is_a_card_and_the_prompt_is_kept(
    page: ImagePage, kind: str, tmp_path: Path
) -> None:
    file = tmp_path / "picture.png"
    file.write_bytes(hostile()[kind])
    await page.paint(editor={"background": str(file), "layers": []})
    assert "card error" in page.error
    assert "unexpected" not in page.error
    assert str(tmp_path) not in page.error
    assert page.get("prompt") == PROMPT
    for update in (page.tab.on_start(str(file)), page.tab.on_drop(str(file), page.request)):
        assert "card error" in update[page.tab.error]
    page.set(editor=None)
    await page.paint()
    assert page.error == ""


async def test_a_lora_that_is_none_is_refused_and_changes_nothing(page: ImagePage, tmp_path: Path) -> None:
    await page.paint(seed=5, seed_mode=KEEP_SEED)
    file = tmp_path / "style.safetensors"
    file.write_bytes(b"no tensors at all")
    await page.paint(lora_files=[str(file)])
    assert "style.safetensors" in page.error
    assert str(tmp_path) not in page.error
    await page.paint(lora_files=[str(file)] * 5)
    assert "at most 4" in page.error
    await page.paint(lora_files=None)
    last, first = page.shown.pictures
    assert pixels(last.path) == pixels(first.path)


async def test_attendees_have_limits_and_may_not_choose_another_model(locked: ImagePage, studio: Studio) -> None:
    await locked.paint(num_inference_steps=51)
    assert "at most 50" in locked.error
    await locked.paint(num_inference_steps=2, num_images=5)
    assert "num_images must be at most 4" in locked.error
    await locked.paint(num_images=1, model="other")
    assert "Only the presenter may choose another model" in locked.error
    assert locked.shown.pictures == ()


# --- start image, mask -----------------------------------------------------------------------------------


async def test_a_start_image_is_painted_over_and_a_mask_keeps_the_rest(page: ImagePage) -> None:
    start = Image.new("RGB", (64, 64), "red")
    layer = Image.new("RGBA", (64, 64), (0, 0, 0, 0))
    ImageDraw.Draw(layer).rectangle((0, 0, 31, 63), fill="white")
    await page.paint(editor={"background": png(start), "layers": []}, strength=0.7, seed=1, seed_mode=KEEP_SEED)
    assert page.error == ""
    assert page.shown.pictures[0].record["strength"] == 0.7
    await page.paint(editor={"background": png(start), "layers": [png(layer)]})
    assert page.error == ""
    masked, whole = page.shown.pictures
    assert masked.params.mask_image is not None
    assert masked.params.mask_image.getpixel((10, 10)) == 255
    assert masked.params.mask_image.getpixel((50, 10)) == 0
    assert pixels(masked.path) != pixels(whole.path)
    empty = Image.new("RGBA", (64, 64), (0, 0, 0, 0))
    await page.paint(editor={"background": png(start), "layers": [png(empty)]})
    assert page.shown.pictures[0].params.mask_image is None, "an untouched layer is no mask"


async def test_a_picture_becomes_the_start_image_with_one_click(page: ImagePage) -> None:
    await page.paint()
    update = page.tab.on_use_start(page.shown)[page.tab.editor]
    assert update["visible"]
    assert update["value"]["background"].size == (64, 64)


# --- pictures bring their settings back ------------------------------------------------------------------


async def test_a_dropped_picture_of_ours_brings_all_its_settings_back(page: ImagePage) -> None:
    await page.paint(
        seed=5, seed_mode=KEEP_SEED, negative_prompt="snow", guidance_scale=2.5, scheduler="unipc", shape="96x64"
    )
    made = page.shown.pictures[0].path
    fresh = ImagePage(page.tab, "somebody else")
    fresh.show(page.tab.on_drop(made, fresh.request))
    named = (
        "prompt",
        "seed",
        "seed_mode",
        "negative_prompt",
        "guidance_scale",
        "scheduler",
        "num_inference_steps",
        "shape",
    )
    assert {n: fresh.get(n) for n in named} == {
        "prompt": PROMPT, "seed": 5, "seed_mode": KEEP_SEED, "negative_prompt": "snow", "guidance_scale": 2.5,
        "scheduler": "unipc", "num_inference_steps": 3, "shape": "96x64",
    }  # fmt: skip
    assert "settings are back" in fresh.notice
    await fresh.run(fresh.tab.on_paint(dict(fresh.values), fresh.request))
    assert pixels(fresh.shown.pictures[0].path) == pixels(made)


def test_a_picture_of_a1111_brings_its_settings_back_and_says_what_it_could_not(
    page: ImagePage, tmp_path: Path
) -> None:
    from PIL.PngImagePlugin import PngInfo

    text = PngInfo()
    text.add_text(
        "parameters",
        "a <script>fox</script> <lora:style:0.7>\nNegative prompt: snow\nSteps: 20, Sampler: Euler a, CFG scale: 7, "
        "Seed: 99, Size: 512x640, Model: unknown-model",
    )
    file = tmp_path / "other.png"
    Image.new("RGB", (64, 64)).save(file, pnginfo=text)
    page.show(page.tab.on_drop(str(file), page.request))
    assert (page.get("seed"), page.get("num_inference_steps"), page.get("scheduler")) == (99, 20, "euler_ancestral")
    assert page.get("shape") == "512x640"
    assert "LoRA style" in page.notice
    assert "unknown-model" in page.notice
    assert "<script" not in page.notice


def test_a_dropped_picture_without_settings_becomes_the_start_image(page: ImagePage, tmp_path: Path) -> None:
    file = tmp_path / "photo.png"
    Image.new("RGB", (80, 64), "green").save(file)
    update = page.tab.on_drop(str(file), page.request)
    assert update[page.tab.editor]["value"]["background"].size == (80, 64)
    assert "start image" in update[page.tab.notice]


# --- see inside ------------------------------------------------------------------------------------------


async def test_noise_and_the_one_step_guess_of_the_picture_on_show(page: ImagePage) -> None:
    await page.call(page.tab.on_noise)
    assert "Paint one first" in str(page.values[page.tab.noise_error])
    await page.paint()
    pairs = []
    for level in (0.1, 0.9):
        page.set(noise=level)
        await page.call(page.tab.on_noise)
        assert page.values[page.tab.noise_error] == ""
        pairs.append(page.values[page.tab.noise_pair])
    assert "10 % noise" in pairs[0]
    assert pairs[0].count("data:image/webp") == 2
    assert pairs[0] != pairs[1]
    for wrong in (float("nan"), 2, "abc", None):
        page.set(noise=wrong)
        await page.call(page.tab.on_noise)
        assert "level must be a number" in str(page.values[page.tab.noise_error])


async def test_without_tracing_the_word_view_says_why_it_is_empty(page: ImagePage) -> None:
    await page.paint(is_traced=False)
    assert page.values[page.tab.words]["words"] == []
    assert "paint again" in page.values[page.tab.words]["note"]


# --- the grid --------------------------------------------------------------------------------------------


async def test_two_settings_are_crossed_cell_by_cell(page: ImagePage) -> None:
    page.set(prompt=PROMPT, x="num_inference_steps", x_values="1, 2", y="guidance_scale", y_values="1, 3")
    updates = await page.call(page.tab.on_grid)
    counts = [len(u[page.tab.grid]["cells"]) for u in updates if page.tab.grid in u]
    assert counts == sorted(counts)
    assert set(counts) >= {0, 1, 2, 3, 4}
    assert page.error == ""
    event = gr.EventData(None, {"x": 1, "y": 0})
    page.show(page.tab.on_cell(page.get("cells"), page.shown, event))
    assert (page.get("num_inference_steps"), page.get("guidance_scale")) == (2, 1.0)
    assert page.get("seed_mode") == KEEP_SEED
    record = page.shown.pictures[0].record
    assert (record["num_inference_steps"], record["guidance_scale"]) == (2, 1.0)
    seeds = {one.record["seed"] for one in page.get("cells").values()}
    assert len(seeds) == 1, "only what is crossed differs"


async def test_a_grid_is_stopped_and_keeps_its_cells(page: ImagePage) -> None:
    tab = page.tab
    page.set(prompt=PROMPT, x="seed", x_values="1,2,3,4,5", y="num_inference_steps", y_values="1, 2, 3, 4, 5")
    async for update in tab.on_grid(dict(page.values), page.request):
        page.show(update)
        if len(update.get(tab.grid, {}).get("cells", ())) == 2:
            tab.on_image_stop(page.request)
    assert 2 <= len(page.values[tab.grid]["cells"]) < 25
    assert "Stopped after" in page.values[tab.grid]["status"]
    assert page.visible[tab.paint]


@pytest.mark.parametrize(
    ("axes", "says"),
    [
        (("seed", "1,2,3,4,5,6", "nothing", ""), "1 to 5 values"),
        (("seed", "", "nothing", ""), "1 to 5 values"),
        (("seed", "1", "seed", "2"), "two different"),
        (("strength", "0.5", "nothing", ""), "without a start image"),
        (("lora_weight", "0.5", "nothing", ""), "without a LoRA"),
        (("guidance_scale", "nan", "nothing", ""), "guidance_scale must be"),
        (("num_inference_steps", "4, many", "nothing", ""), "num_inference_steps must be"),
        (("scheduler", "nosuch", "nothing", ""), "scheduler must be"),
        (("prompt", "x", "nothing", ""), "Choose which setting"),
        (("nothing", "", "seed", "1"), "Choose which setting"),
        ((None, None, None, None), "two different"),
        (("seed", 7, "nothing", ""), "must be text"),
    ],
)  # fmt: skip
async def test_a_wrong_grid_is_refused_before_the_first_picture(page: ImagePage, axes: Any, says: str) -> None:
    x, x_values, y, y_values = axes
    page.set(prompt=PROMPT, x=x, x_values=x_values, y=y, y_values=y_values)
    await page.call(page.tab.on_grid)
    assert says in page.error
    assert page.visible[page.tab.paint]


async def test_same_seed_other_guidance_is_a_row_of_pictures(page: ImagePage) -> None:
    await page.paint(num_inference_steps=1)
    await page.call(page.tab.on_guidances)
    grid = page.values[page.tab.grid]
    assert grid["x"]["values"] == ["1", "2", "3", "5", "8"]
    assert len(grid["cells"]) == 5
    assert {one.record["seed"] for one in page.get("cells").values()} == {page.shown.pictures[0].record["seed"]}


def test_the_cells_of_a_grid_differ_in_what_is_crossed_only() -> None:
    plan = grids.plan(
        ImageParams(prompt="x", num_images=4, seed=3), "num_inference_steps", "4, 8", "scheduler", "Euler, auto"
    )
    assert {k: (c.num_inference_steps, c.scheduler) for k, c in plan.cells.items()} == {
        (0, 0): (4, "euler"), (1, 0): (8, "euler"), (0, 1): (4, "auto"), (1, 1): (8, "auto"),
    }  # fmt: skip
    assert {(c.seed, c.num_images) for c in plan.cells.values()} == {(3, 1)}


# --- words -----------------------------------------------------------------------------------------------


def test_the_composer_writes_sentences() -> None:
    assert sentence("one", "fox", "", "", "") == "a fox"
    assert sentence("two", "fox", "", "in the snow", "neon") == "a neon sign of two foxes in the snow"
    assert sentence("one", "octopus", "umbrella", "underwater", "") == "an octopus next to an umbrella underwater"
    assert sentence("one", "unicorn", "", "on an orange background", "") == "a unicorn on an orange background"
    assert sentence("one", "", "", "in space", "") == ""
    known = words()
    assert len(known.subjects) >= 40
    assert len(known.colours) == 12
    assert {said for label, said in known.backgrounds if "orange" in label} == {"on an orange background"}
    for _ in range(50):
        assert sentence(*surprise()).split()


def test_every_word_of_the_composer_is_one_that_the_embedded_model_was_taught() -> None:
    from pipelines.recipes import image_subjects

    text = Path(image_subjects.__file__).with_name("image_data").joinpath("subjects.toml").read_text(encoding="utf-8")
    taught = {
        name.strip(' @"') for line in text.splitlines() if "=" in line for name in line.split("=", 1)[1].split(",")
    }
    assert set(words().subjects) - taught == set()


@pytest.mark.parametrize(
    ("text", "prompt"),
    [
        ("A red fox in deep snow, watercolour", "A red fox in deep snow, watercolour"),
        ('Prompt: "A fox under a full moon"\nEnjoy', "A fox under a full moon"),
        ("I am Mote and I explain a fox.", ""),
        ("A GAN has two networks.", ""),
        ("fox", ""),
        ("", ""),
        ("fox " * 200, ""),
    ],
)
def test_only_a_text_that_is_a_prompt_is_taken_for_one(text: str, prompt: str) -> None:
    assert written_prompt(text, "fox") == prompt


async def test_write_my_prompt_always_leaves_a_prompt_and_says_who_wrote_it(page: ImagePage) -> None:
    page.set(wish="fox, winter", prompt="my old prompt")
    await page.call(page.tab.on_write)
    assert "fox" in page.get("prompt")
    assert page.get("prompt") != "my old prompt"
    assert "Mote" in page.notice
    assert "my old prompt" in page.notice, "nothing typed is lost"
    page.set(wish="")
    await page.call(page.tab.on_write)
    assert "no words" in page.error
    assert completed("a fox").startswith(tuple(words().styles.values()))


# --- the page around it ----------------------------------------------------------------------------------


async def test_the_page_shows_the_models_own_settings_licence_and_what_a_run_will_take(page: ImagePage) -> None:
    tab = page.tab
    loaded = await tab.on_image_load({"prompt": "kept from before"})
    line, settings = loaded[0], dict(zip(tab.controls.components, loaded[1:], strict=False))
    assert "CC-BY-NC-4.0" in line
    assert "Not for commercial use" in line
    assert settings["num_inference_steps"]["value"] == 3
    assert settings["guidance_scale"]["value"] == 3.0
    assert "kept from before" in loaded
    assert "GB" in tab.on_plan("painter", "own", 3, 3.0, 1)
    await page.paint()
    assert "about" in tab.on_plan("painter", "own", 3, 3.0, 1), "seconds, once they were measured"
    for wrong in NOT_NUMBERS:
        assert tab.on_plan("painter", "own", wrong, 3.0, 1) == ""
    labels = {value: label for label, value in tab.model.choices}
    assert "non-commercial" in labels["painter"]


async def test_without_an_image_model_the_studio_starts_and_the_tab_says_why(
    image_text: str, cache: Path, tmp_path: Path
) -> None:
    studio = make_studio(tmp_path / "data", image_text.replace("painter/", "x"), image_model="nosuch")
    studio.warm_up()
    try:
        assert studio.failure is None
        assert TASK in studio.wait_until_ready().missing
        page = ImagePage(await asyncio.to_thread(make_tab, studio))
        loaded = await page.tab.on_image_load(None)
        stage = next(x for x in loaded if isinstance(x, dict) and x.get("phase") == "empty")
        assert "nosuch" in " ".join(stage["lines"])
        await page.paint()
        assert "There is no text-to-image model called" in page.error
        assert page.get("prompt") == PROMPT
    finally:
        studio.close()


async def test_sessions_share_nothing(page: ImagePage) -> None:
    other = ImagePage(page.tab, "another person")
    await asyncio.gather(page.paint("a red fox", num_images=2), other.paint("a blue rocket"))
    assert {one.record["prompt"] for one in page.shown.pictures} == {"a red fox"}
    assert {one.record["prompt"] for one in other.shown.pictures} == {"a blue rocket"}
    page.set(prompt="a red fox", num_inference_steps=150)
    async with aclosing(page.tab.on_paint(dict(page.values), page.request)) as steps:  # type: ignore[type-var]
        async for update in steps:
            if update.get(page.tab.stage, {}).get("images"):
                page.tab.on_image_stop(other.request)  # somebody else's Stop
                break
        assert await anext(steps)
    assert page.tab._turns == {}
