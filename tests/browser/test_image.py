"""The image tab as a person meets it: paint, watch, stop, drop a picture back, look inside, on a screen and on a phone."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import Locator, expect

from pipelines import pictures
from tests.browser.conftest import Visit, Visitors, start_app
from tests.serving import App
from tests.studio.image_page import image_catalog

PROMPT = "a fox on a blue background"
SIZES = {"phone": {"width": 390, "height": 844}, "screen": {"width": 1440, "height": 900}}


@pytest.fixture(scope="module")
def app(two_models: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    folder = tmp_path_factory.mktemp("image")
    catalog = two_models + image_catalog(folder / "model", steps=8)
    made = start_app(folder / "data", catalog, "--chat-model", "tiny", "--image-model", "painter")
    made.until(lambda _: "Painter is loaded" in made.log, "loaded")
    yield made
    made.stop()


class ImageVisit:
    """A person's hands and eyes on the image tab."""

    def __init__(self, visit: Visit) -> None:
        self.visit, self.page = visit, visit.page
        self.page.get_by_role("tab", name="Text to image").click()
        expect(self.at("stage")).to_contain_text("Describe a picture")
        expect(self.page.locator("#image-num_inference_steps input[type=number]")).to_have_value("8")

    def at(self, name: str) -> Locator:
        return self.page.locator(f"#image-{name}")

    @property
    def prompt(self) -> Locator:
        return self.page.locator("#image-prompt textarea")

    @property
    def error(self) -> Locator:
        return self.page.locator("#image-error .card.error")

    def unfold(self, name: str) -> None:
        head = self.page.locator(f"#image-{name} .fold-head")
        if head.get_attribute("aria-expanded") == "false":
            head.click()

    def paint(self, prompt: str = PROMPT) -> None:
        self.prompt.fill(prompt)
        self.at("paint").click()

    def paint_and_wait(self, prompt: str = PROMPT) -> None:
        self.paint(prompt)
        self.wait()

    def wait(self) -> None:
        """Until a picture is there and the next can be asked for."""
        expect(self.at("numbers")).to_contain_text("AI-generated")
        expect(self.at("paint")).to_be_visible()
        expect(self.at("stop")).to_be_hidden()

    def set_steps(self, steps: int) -> None:
        field = self.page.locator("#image-num_inference_steps input[type=number]")
        field.fill(str(steps))
        field.press("Tab")

    def current_file(self) -> bytes:
        """The picture on show, as a download gives it."""
        source = self.page.locator("#image-gallery img").first.get_attribute("src") or ""
        return self.page.request.get(source).body()


@pytest.fixture
def image(visitor: Visit) -> ImageVisit:
    return ImageVisit(visitor)


def test_previews_arrive_and_the_picture_ends_with_its_numbers(image: ImageVisit) -> None:
    image.page.evaluate(
        """() => { window.steps = [];
          new MutationObserver(() => { const i = document.querySelector('#image-stage .stage-pictures img');
            if (i && i.dataset.step !== window.steps.at(-1)) window.steps.push(i.dataset.step); })
          .observe(document.body, {subtree: true, childList: true, attributes: true, attributeFilter: ['data-step']}); }"""
    )
    image.set_steps(30)
    image.paint()
    expect(image.at("stop")).to_be_visible()
    expect(image.page.locator("#image-stage .stage-status")).to_contain_text(re.compile(r"Painting \d+ of 30"))
    image.wait()
    steps = [int(step) for step in image.page.evaluate("window.steps")]
    assert len(steps) >= 3, "one sees it grow"
    assert steps == sorted(steps)
    expect(image.at("numbers")).to_contain_text(re.compile(r"s .* 64 x 64 px .* 30 steps .* guidance 3 .* seed"))
    expect(image.prompt).to_have_value(PROMPT)


def test_stop_ends_the_painting_and_the_next_one_works(image: ImageVisit) -> None:
    image.set_steps(150)
    image.paint()
    expect(image.page.locator("#image-stage .stage-pictures img")).to_be_visible()
    image.at("stop").click()
    expect(image.at("paint")).to_be_visible()
    expect(image.at("numbers")).to_contain_text("Stopped")
    image.visit.app.until(lambda now: now["running"] == 0, "stopped", 20)
    image.set_steps(4)
    image.at("paint").click()
    image.wait()


def test_the_keyboard_paints_and_stops(image: ImageVisit) -> None:
    image.set_steps(150)
    image.prompt.fill(PROMPT)
    image.prompt.press("Control+Enter")
    expect(image.at("stop")).to_be_visible()
    image.page.keyboard.press("Escape")
    expect(image.at("paint")).to_be_visible()
    expect(image.at("numbers")).to_contain_text("Stopped")


def test_an_example_fills_the_prompt(image: ImageVisit) -> None:
    image.page.get_by_text("a rocket in space").click()
    expect(image.prompt).to_have_value("a rocket in space")


def test_the_composer_writes_the_prompt(image: ImageVisit) -> None:
    image.unfold("composer")
    image.visit.choose("#image-subject", "owl")
    image.visit.choose("#image-background", "in the snow")
    expect(image.prompt).to_have_value("an owl in the snow")
    image.at("surprise").click()
    expect(image.prompt).not_to_have_value("an owl in the snow")


def test_a_saved_picture_that_is_dropped_brings_its_settings_back(visitors: Visitors, tmp_path: Path) -> None:
    one = ImageVisit(visitors())
    one.set_steps(5)
    one.paint_and_wait("a cat in snow")
    file = tmp_path / "saved.png"
    file.write_bytes(one.current_file())
    record = pictures.read_record(file)
    assert record is not None
    assert (record.prompt, record.num_inference_steps) == ("a cat in snow", 5)
    other = ImageVisit(visitors())
    drop(other, file)
    expect(other.prompt).to_have_value("a cat in snow")
    expect(other.at("notice")).to_contain_text("settings are back")
    expect(other.page.locator("#image-num_inference_steps input[type=number]")).to_have_value("5")
    other.unfold("more")
    expect(other.page.locator("#image-seed input")).to_have_value(str(record.seed))
    other.at("paint").click()
    other.wait()
    expect(other.at("numbers")).to_contain_text(str(record.seed))


def drop(image: ImageVisit, file: Path) -> None:
    """Drop a file onto the tab as a hand does, on no place in particular."""
    image.page.evaluate(
        """([name, data]) => {
          const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
          const transfer = new DataTransfer();
          transfer.items.add(new File([bytes], name, {type: 'image/png'}));
          const place = document.querySelector('#image-stage');
          for (const kind of ['dragover', 'drop'])
            place.dispatchEvent(new DragEvent(kind, {bubbles: true, cancelable: true, dataTransfer: transfer}));
        }""",
        [file.name, base64.b64encode(file.read_bytes()).decode()],
    )


@pytest.mark.parametrize("content", [b"no picture", b"\x89PNG\r\n\x1a\n" + b"\0" * 60, b"%!PS-Adobe-3.0 EPSF-3.0\n"])
def test_a_hostile_upload_is_a_card_and_the_prompt_is_kept(image: ImageVisit, content: bytes, tmp_path: Path) -> None:
    image.prompt.fill("my precious prompt")
    file = tmp_path / "picture.png"
    file.write_bytes(content)
    drop(image, file)
    expect(image.error).to_be_visible()
    expect(image.error).not_to_contain_text("unexpected")
    expect(image.prompt).to_have_value("my precious prompt")
    image.set_steps(2)
    image.at("paint").click()
    image.wait()
    expect(image.error).to_have_count(0)


def test_a_start_image_is_shown_and_painted_over(image: ImageVisit, tmp_path: Path) -> None:
    file = tmp_path / "start.png"
    Image.new("RGB", (96, 64), "red").save(file)
    image.unfold("start")
    with image.page.expect_file_chooser() as chooser:
        image.at("start-file").click()
    chooser.value.set_files(str(file))
    expect(image.at("editor")).to_be_visible()
    expect(image.page.locator("#image-editor canvas").first).to_be_visible()
    image.paint_and_wait()
    expect(image.at("numbers")).to_contain_text("strength 0.6")


# --- see inside ------------------------------------------------------------------------------------------


def test_the_film_strip_is_there_when_it_is_opened_later_and_is_scrubbed(image: ImageVisit) -> None:
    image.paint_and_wait()
    image.unfold("inside")
    frames = image.page.locator("#image-film .film-strip button")
    expect(frames).to_have_count(8)
    large = image.page.locator("#image-film .film-frame")
    expect(image.page.locator("#image-film .film-at")).to_have_text("Step 8 of 8")
    last = large.get_attribute("src")
    scrub = image.page.locator("#image-film .film-scrub")
    scrub.focus()
    scrub.press("Home")
    expect(image.page.locator("#image-film .film-at")).to_have_text("Step 1 of 8")
    assert large.get_attribute("src") != last
    scrub = image.page.locator("#image-film .film-scrub")
    expect(scrub).to_be_focused()
    scrub.press("ArrowRight")
    expect(image.page.locator("#image-film .film-at")).to_have_text("Step 2 of 8")
    frames.nth(4).click()
    expect(image.page.locator("#image-film .film-at")).to_have_text("Step 5 of 8")
    expect(image.page.locator("#image-film .film-chart circle")).to_have_count(8)
    expect(image.page.locator("#image-film .film-halves figure")).to_have_count(3)


def pixels_of(canvas: Locator) -> list[int]:
    found: list[int] = canvas.evaluate(
        "(c) => c.width ? [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data] : []"
    )
    return found


def settled(image: ImageVisit, canvas: Locator, other: Any = None) -> list[int]:
    """The canvas' pixels once it was drawn on, differently from ``other``."""
    for _ in range(200):
        seen = pixels_of(canvas)
        if any(seen) and seen != other:
            return seen
        image.page.wait_for_timeout(50)
    raise AssertionError("nothing was drawn")


def test_guidance_is_mixed_by_a_slider(image: ImageVisit) -> None:
    image.paint_and_wait()
    image.unfold("inside")
    canvas = image.page.locator("#image-film .film-halves canvas")
    before = settled(image, canvas)
    image.page.locator("#image-film .film-mix input").fill("9")
    settled(image, canvas, before)
    expect(image.page.locator("#image-film .film-halves figcaption").last).to_have_text("mixed at guidance 9.0")


def test_a_click_on_a_word_shows_its_map(image: ImageVisit) -> None:
    image.paint_and_wait()
    image.unfold("inside")
    words = image.page.locator("#image-words .word-line button")
    expect(words).to_have_text(PROMPT.split())
    words.filter(has_text="fox").click()
    heat = image.page.locator("#image-words canvas.word-heat")
    expect(heat).to_have_attribute("data-word", "fox")
    first = settled(image, heat)
    image.page.locator("#image-words .word-line button", has_text="blue").click()
    expect(heat).to_have_attribute("data-word", "blue")
    settled(image, heat, first)


def test_the_picture_is_put_under_noise(image: ImageVisit) -> None:
    image.paint_and_wait()
    image.unfold("inside")
    slider = image.page.locator("#image-noise-level input[type=range]")
    slider.focus()
    slider.press("ArrowRight")
    slider.dispatch_event("pointerup")
    expect(image.page.locator("#image-noise-pair img")).to_have_count(2)


def test_a_grid_fills_cell_by_cell_and_a_cell_comes_onto_the_stage(image: ImageVisit) -> None:
    image.prompt.fill(PROMPT)
    image.unfold("compare")
    image.page.locator("#image-x-values textarea, #image-x-values input").first.fill("1, 2")
    image.page.locator("#image-y-values textarea, #image-y-values input").first.fill("1, 3")
    image.at("paint-grid").click()
    cells = image.page.locator("#image-grid button.grid-cell")
    expect(cells).to_have_count(4)
    expect(image.at("paint")).to_be_visible()
    cells.nth(1).click()
    expect(image.at("numbers")).to_contain_text("2 steps")
    expect(image.page.locator("#image-num_inference_steps input[type=number]")).to_have_value("2")


# --- people and screens ----------------------------------------------------------------------------------


def test_two_people_do_not_see_each_others_pictures(visitors: Visitors) -> None:
    one, other = ImageVisit(visitors()), ImageVisit(visitors())
    one.paint_and_wait("a red rocket")
    expect(other.at("stage")).to_contain_text("Describe a picture")
    other.paint_and_wait("a blue cat")
    record = pictures.read_record(other.current_file())
    assert record is not None
    assert record.prompt == "a blue cat"


@pytest.mark.parametrize("size", list(SIZES))
def test_paint_and_stop_are_in_view_and_nothing_scrolls_sideways(visitors: Visitors, size: str) -> None:
    image = ImageVisit(visitors(viewport=SIZES[size]))
    wide = "document.documentElement.scrollWidth <= window.innerWidth"
    expect(image.at("paint")).to_be_in_viewport()
    assert image.page.evaluate(wide)
    image.set_steps(60)
    image.paint()
    expect(image.at("stop")).to_be_visible()
    expect(image.at("stop")).to_be_in_viewport()
    image.wait()
    for name in ("composer", "more", "start", "inside", "compare"):
        image.unfold(name)
        assert image.page.evaluate(wide), name
    image.page.locator("#image-words .word-line button", has_text="fox").click()
    assert image.page.evaluate(wide)
    image.page.mouse.wheel(0, 600)
    expect(image.at("paint")).to_be_in_viewport()


def test_every_control_of_the_tab_has_a_name(image: ImageVisit) -> None:
    from tests.browser.test_chat import NAMELESS

    image.paint_and_wait()
    for name in ("composer", "more", "inside", "compare"):
        image.unfold(name)
    assert image.page.evaluate(NAMELESS) == []
