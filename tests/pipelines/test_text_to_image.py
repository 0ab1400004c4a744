"""Painting with every class of image model that the studio knows: the real classes, tiny, with random weights."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipelines import device, image_loras, image_models, text_to_image
from pipelines.catalog import Model
from pipelines.device import GIB, Compute
from pipelines.engine import Engine
from pipelines.errors import Cancelled, InvalidParams, ModelCorrupt, ModelUnavailable, StudioError
from pipelines.events import CancelToken, Done, Event, Notice, Preview, Progress
from pipelines.image_local import LocalImage
from pipelines.jobs import Job
from pipelines.text_to_image import SCHEDULERS, ImageParams, ImageResult, Loader, Lora, StepView
from pipelines.weights import drain
from tests.tiny_image_models import MODELS

pytestmark = [
    # diffusers 0.42 hands numpy a torch tensor in the way that numpy 2 deprecates.
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    # peft says so whenever a second LoRA is loaded.
    pytest.mark.filterwarnings("ignore:Already found a `peft_config`:UserWarning"),
    # And these of a LoRA for another model, before it is refused and when diffusers takes it back.
    pytest.mark.filterwarnings("ignore:Adapter run_:UserWarning"),
    pytest.mark.filterwarnings("ignore:While injecting the PEFT adapters:RuntimeWarning"),
]

STEPS = 3
PROMPT = "a fox on a blue background"


def block(name: str, folder: Path, **changes: Any) -> Model:
    values: dict[str, Any] = {
        "id": name,
        "task": "text-to-image",
        "title": name.upper(),
        "summary": "Random weights.",
        "source": "local",
        "path": str(folder),
        "license": "Apache-2.0",
        "memory_mb": 1,
        "width": 64,
        "num_inference_steps": STEPS,
        "guidance_scale": 3.0,
    }
    return Model(**(values | changes))


def open_model(model: Model) -> LocalImage:
    backend: LocalImage = drain(LocalImage.open(model, device.Request("cpu", "fp32"), CancelToken()))
    return backend


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("image-models")
    return {name: make(root / name) for name, make in MODELS.items()}


@pytest.fixture(scope="session")
def backends(folders: dict[str, Path]) -> dict[str, LocalImage]:
    """Loaded once: a backend holds nothing of a run."""
    return {name: open_model(block(name, folder)) for name, folder in folders.items()}


@pytest.fixture
def sd(backends: dict[str, LocalImage]) -> LocalImage:
    return backends["sd"]


def paint(backend: LocalImage, **settings: Any) -> tuple[ImageResult, list[Event]]:
    params = ImageParams(**({"prompt": PROMPT, "seed": 5} | settings))
    events = list(backend.run(params, CancelToken()))
    assert isinstance(events[-1], Done)
    assert sum(isinstance(e, Done) for e in events) == 1
    result: ImageResult = events[-1].artifact
    return result, events


def pixels(result: ImageResult, i: int = 0) -> Any:
    return np.asarray(result.pictures[i].image).astype(int)


def difference(a: Any, b: Any) -> int:
    """The largest difference between two pictures, of 255."""
    return int(np.abs(a - b).max())


def notices(events: list[Event]) -> list[str]:
    return [e.text for e in events if isinstance(e, Notice)]


def views(events: list[Event]) -> list[StepView]:
    return [e.artifact for e in events if isinstance(e, Preview)]


@pytest.fixture(scope="session")
def start() -> Image.Image:
    """A start image of colours that no model with random weights paints."""
    return Image.fromarray((np.random.default_rng(0).random((48, 80, 3)) * 255).astype("uint8")).resize((64, 64))


# --- every class ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_every_class_paints_with_a_preview_at_every_step(backends: dict[str, LocalImage], name: str) -> None:
    result, events = paint(backends[name])
    [picture] = result.pictures
    assert (picture.image.size, picture.image.mode, picture.seed) == ((64, 64), "RGB", 5)
    assert np.asarray(picture.image).std() > 5
    shown = views(events)
    assert tuple(shown) == result.steps
    assert [(v.step, v.total) for v in shown] == [(i + 1, STEPS) for i in range(STEPS)]
    assert all(len(v.images) == 1 and v.images[0].size == (256, 256) and v.guidance is None for v in shown)
    levels = [v.sigma for v in shown]
    assert 1 > levels[0] > levels[1] > levels[2] == pytest.approx(0, abs=0.05)
    first, last = (np.asarray(v.images[0]).astype(int) for v in (shown[0], shown[-1]))
    assert difference(first, last) > 1


@pytest.mark.parametrize("name", MODELS)
def test_progress_counts_every_step_and_says_how_long_it_will_take(backends: dict[str, LocalImage], name: str) -> None:
    _, events = paint(backends[name])
    steps = {e.step: e for e in events if isinstance(e, Progress) and e.label == "Painting"}
    assert sorted(steps) == [1, 2, 3]
    assert all(e.total == STEPS and e.remaining_s is not None and e.remaining_s >= 0 for e in steps.values())
    assert steps[3].remaining_s == 0


@pytest.mark.parametrize("name", MODELS)
def test_same_seed_same_picture_alone_or_in_a_batch(backends: dict[str, LocalImage], name: str) -> None:
    batch, events = paint(backends[name], num_images=3)
    assert [p.seed for p in batch.pictures] == [5, 6, 7]
    assert all(len(v.images) == 3 for v in views(events))
    for i, seed in enumerate((5, 6)):
        alone, _ = paint(backends[name], seed=seed)
        assert difference(pixels(alone), pixels(batch, i)) <= 1  # sums of other lengths round differently
    assert difference(pixels(batch, 0), pixels(batch, 1)) > 20


@pytest.mark.parametrize("name", MODELS)
def test_every_scheduler_that_a_class_offers_paints_and_the_others_are_refused(
    backends: dict[str, LocalImage], name: str
) -> None:
    backend = backends[name]
    assert len(backend.schedulers) >= 2
    first, _ = paint(backend)
    for scheduler in SCHEDULERS:
        if scheduler not in backend.schedulers:
            with pytest.raises(InvalidParams, match=f"cannot use the scheduler {scheduler}"):
                next(iter(backend.run(ImageParams(scheduler=scheduler), CancelToken())))
        elif name in ("sd", "sd-flow") or scheduler in ("unipc", "dpmpp_2m"):
            result, events = paint(backend, scheduler=scheduler)
            assert len(views(events)) == STEPS
            assert result.pictures[0].record["scheduler"] == scheduler
    again, _ = paint(backend)
    assert difference(pixels(first), pixels(again)) == 0


def test_flow_euler_on_a_unet_takes_the_steps_of_flow_matching(backends: dict[str, LocalImage]) -> None:
    """diffusers' FlowMatchEuler does not run in the UNet pipelines; what stands in for it is compared with it."""
    import torch
    from diffusers import FlowMatchEulerDiscreteScheduler

    pipe = backends["sd-flow"]._pipe
    ours = image_models.make_scheduler(pipe, "flow_euler", is_few_steps=False)
    ours.set_timesteps(4)
    theirs = FlowMatchEulerDiscreteScheduler()
    theirs.set_timesteps(sigmas=[float(s) for s in ours.sigmas[:-1]])
    torch.manual_seed(0)
    a = b = torch.randn(1, 4, 8, 8)
    for t, u in zip(ours.timesteps, theirs.timesteps, strict=True):
        output = torch.randn(1, 4, 8, 8)
        a, b = ours.step(output, t, a).prev_sample, theirs.step(output, u, b).prev_sample
    assert torch.allclose(a, b, atol=1e-4)


@pytest.mark.parametrize("name", MODELS)
def test_a_start_image_steers_the_picture(backends: dict[str, LocalImage], name: str, start: Image.Image) -> None:
    free, _ = paint(backends[name], width=64, height=64)
    size = {"width": 64, "height": 64, "num_inference_steps": 4}
    steered, events = paint(backends[name], init_image=start, strength=0.5, **size)
    if name == "flux2":
        told = " ".join(notices(events))
        assert "strength was not used" in told
        assert "has guidance built in" in told
        free, _ = paint(backends[name], **size)
        assert difference(pixels(free), pixels(steered)) > 0
    else:
        assert difference(pixels(free), pixels(steered)) > 20
        assert len(views(events)) == 2
        assert steered.pictures[0].record["strength"] == 0.5


@pytest.mark.parametrize("name", MODELS)
def test_a_mask_keeps_what_is_black(backends: dict[str, LocalImage], name: str, start: Image.Image) -> None:
    mask = Image.new("L", (64, 64), 0)
    mask.paste(255, (0, 0, 32, 64))
    painted, _ = paint(backends[name], init_image=start, mask_image=mask, strength=1.0, width=64, height=64)
    other, _ = paint(backends[name], init_image=start, mask_image=mask, strength=1.0, width=64, height=64, seed=6)
    change = np.abs(pixels(painted) - pixels(other)).mean(axis=(0, 2))
    assert change[:16].mean() > 3 * change[48:].mean(), change.round()


def test_sides_that_a_class_cannot_paint_are_refused_with_the_nearest(backends: dict[str, LocalImage]) -> None:
    with pytest.raises(InvalidParams, match=r"width must be a multiple of 16 px .* The nearest is 64"):
        next(iter(backends["flux2"].run(ImageParams(width=72), CancelToken())))
    with pytest.raises(InvalidParams, match=r"height must be a multiple of 8 px"):
        paint(backends["zimage"], height=68)


@pytest.mark.parametrize(
    ("name", "guidance", "reason"),
    [("flux2", 3.0, "this model takes none"), ("sd", 1.0, "it needs guidance"), ("zimage", 0.0, "it needs guidance")],
)
def test_a_negative_prompt_that_cannot_act_is_told(
    backends: dict[str, LocalImage], name: str, guidance: float, reason: str
) -> None:
    _, events = paint(backends[name], negative_prompt="red", guidance_scale=guidance)
    assert [n for n in notices(events) if n.startswith("The negative prompt was not used") and reason in n]


def test_a_negative_prompt_acts_where_it_can(sd: LocalImage) -> None:
    plain, _ = paint(sd)
    without, events = paint(sd, negative_prompt="a red rocket in snow")
    assert difference(pixels(plain), pixels(without)) > 0
    assert notices(events) == []


# --- stopping and sharing ---------------------------------------------------------------------------------


def test_cancelling_takes_one_step_and_leaves_nothing_behind(sd: LocalImage) -> None:
    before = threading.active_count()
    first, _ = paint(sd)
    cancel, seen = CancelToken(), []
    steps = sd.run(ImageParams(prompt=PROMPT, seed=5, num_inference_steps=50), cancel)

    def until_stopped() -> Iterator[Event]:
        for event in steps:
            yield event
            if isinstance(event, Preview) and event.step == 2:
                cancel.set()

    with pytest.raises(Cancelled):
        seen.extend(e.step for e in until_stopped() if isinstance(e, Preview))
    assert max(e for e in seen or [2]) <= 2
    assert threading.active_count() == before
    assert not sd._turn.locked()
    again, _ = paint(sd)
    assert difference(pixels(first), pixels(again)) == 0


def test_leaving_in_the_middle_ends_the_thread(sd: LocalImage) -> None:
    before = threading.active_count()
    steps = sd.run(ImageParams(prompt=PROMPT, num_inference_steps=50), CancelToken())
    while not isinstance(next(steps), Preview):
        pass
    assert threading.active_count() == before + 1
    steps.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before
    assert not sd._turn.locked()


def test_runs_that_take_turns_do_not_disturb_each_other(sd: LocalImage, style: Path, picture_style: Path) -> None:
    """Different seeds, steps, schedulers, guidance, LoRAs and tracing, one step each in turn on the same weights."""
    settings: list[dict[str, Any]] = [
        {"seed": 5},
        {"seed": 6, "num_inference_steps": 5, "scheduler": "dpmpp_2m", "guidance_scale": 0.0},
        {"seed": 7, "loras": (Lora(str(style), 1.0),)},
        {"seed": 8, "is_traced": True, "num_images": 2},
        {"seed": 9, "loras": (Lora(str(picture_style), -0.5),), "is_traced": True},
    ]
    alone = [paint(sd, **one)[0] for one in settings]
    runs = [iter(sd.run(ImageParams(**({"prompt": PROMPT} | one)), CancelToken())) for one in settings]
    results: dict[int, ImageResult] = {}
    order = []
    while len(results) < len(runs):
        for i, run in enumerate(runs):
            event = next(run, None)
            if isinstance(event, Preview):
                order.append(i)
            if isinstance(event, Done):
                results[i] = event.artifact
    assert order != sorted(order)
    for i, expected in enumerate(alone):
        for j in range(len(expected.pictures)):
            assert difference(pixels(results[i], j), pixels(expected, j)) == 0
        assert len(results[i].words) == len(expected.words)
        for a, b in zip(results[i].words, expected.words, strict=True):
            assert np.allclose(a.map, b.map, atol=1e-5)
    assert layers(sd) == plain_layers(sd)


def test_what_others_do_between_two_steps_of_a_run_does_not_reach_it(
    sd: LocalImage, style: Path, tmp_path: Path
) -> None:
    """The model is lent to other work, then somebody's LoRA fails half-way."""
    params = {"loras": (Lora(str(style), 1.0),)}
    alone, _ = paint(sd, **params)
    run = iter(sd.run(ImageParams(prompt=PROMPT, seed=5, **params), CancelToken()))
    while not isinstance(next(run), Preview):
        pass
    shown = Progress("Looking")
    assert drain(sd.lend(lambda pipe: pipe.unet.config.in_channels, shown)) == 4
    next(e for e in run if isinstance(e, Preview))
    with pytest.raises(InvalidParams, match="does not fit"):
        paint(sd, loras=(Lora(str(style)), Lora(str(bad_loras(tmp_path, style)["does not fit 1"]))))
    done = list(run)[-1]
    assert isinstance(done, Done)
    assert difference(pixels(done.artifact), pixels(alone)) == 0


def test_the_engine_runs_two_peoples_pictures_and_stops_one(folders: dict[str, Path]) -> None:
    engine = Engine(Loader(device.Request("cpu", "fp32")), 2 * GIB)
    model = block("sd", folders["sd"])
    try:
        one = engine.submit(Job("one", model, ImageParams(prompt=PROMPT, seed=5)))
        two = engine.submit(Job("two", model, ImageParams(prompt=PROMPT, seed=5, num_inference_steps=150)))
        for event in two.events():
            if isinstance(event, Preview):
                two.cancel()
                break
        done = list(one.events())[-1]
        assert isinstance(done, Done)
        assert done.artifact.pictures[0].seed == 5
    finally:
        engine.close()


# --- LoRAs ------------------------------------------------------------------------------------------------


def layers(backend: LocalImage) -> list[tuple[str, str]]:
    """Every layer of the networks that a LoRA could have touched, by name and class."""
    pipe = backend._pipe
    return [
        (name, type(layer).__name__)
        for network in (pipe.unet, pipe.text_encoder)
        for name, layer in network.named_modules()
    ]


def plain_layers(backend: LocalImage) -> list[tuple[str, str]]:
    """The same for a model that no LoRA has ever touched."""
    return layers(open_model(backend.model))


def make_lora(folder: Path, model: Path, *, has_text: bool = True) -> Path:
    """A LoRA on the UNet and perhaps the text encoder, saved as diffusers' training scripts save them. It has dropout,
    which must not act when it is used."""
    import torch
    from diffusers import StableDiffusionPipeline
    from diffusers.utils import convert_state_dict_to_diffusers
    from peft import LoraConfig
    from peft.utils import get_peft_model_state_dict

    pipe: Any = StableDiffusionPipeline.from_pretrained(model, safety_checker=None)
    torch.manual_seed(1)
    states = {}
    for network, targets in ((pipe.unet, ["to_q", "to_v", "to_k"]), (pipe.text_encoder, ["q_proj", "v_proj"])):
        network.add_adapter(
            LoraConfig(r=4, lora_alpha=8, lora_dropout=0.5, init_lora_weights="gaussian", target_modules=targets)
        )
        for name, weight in network.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(weight, std=0.3)
        states[type(network).__name__] = convert_state_dict_to_diffusers(get_peft_model_state_dict(network))
    StableDiffusionPipeline.save_lora_weights(
        folder,
        unet_lora_layers=states["UNet2DConditionModel"],
        text_encoder_lora_layers=states["CLIPTextModel"] if has_text else None,
        weight_name="style.safetensors",
        unet_lora_adapter_metadata=pipe.unet.peft_config["default"].to_dict(),
        text_encoder_lora_adapter_metadata=pipe.text_encoder.peft_config["default"].to_dict() if has_text else None,
    )
    return folder / "style.safetensors"


@pytest.fixture(scope="session")
def style(folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_lora(tmp_path_factory.mktemp("loras"), folders["sd"])


@pytest.fixture(scope="session")
def picture_style(folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA that leaves the text encoder alone."""
    return make_lora(tmp_path_factory.mktemp("loras"), folders["sd"], has_text=False)


def test_a_lora_acts_by_its_weight_and_is_gone_afterwards(sd: LocalImage, style: Path) -> None:
    plain, _ = paint(sd)
    weak, _ = paint(sd, loras=(Lora(str(style), 0.3),))
    strong, _ = paint(sd, loras=(Lora(str(style.parent), 1.0),))
    nothing, _ = paint(sd, loras=(Lora(str(style), 0.0),))
    again, _ = paint(sd)
    effect = [np.abs(pixels(r) - pixels(plain)).mean() for r in (nothing, weak, strong)]
    assert effect[0] < 0.1 < effect[1] < effect[2]
    assert difference(pixels(again), pixels(plain)) == 0
    assert layers(sd) == plain_layers(sd)
    assert sd._pipe.get_list_adapters() == {}


def test_two_loras_add_up_and_the_record_names_both_without_their_folder(sd: LocalImage, style: Path) -> None:
    both, _ = paint(sd, loras=(Lora(str(style), 0.5), Lora(str(style), 0.5)))
    one, _ = paint(sd, loras=(Lora(str(style), 1.0),))
    assert difference(pixels(both), pixels(one)) <= 1
    loras = both.pictures[0].record["loras"]
    assert [(lora["name"], lora["weight"]) for lora in loras] == [("style", 0.5)] * 2
    assert len(loras[0]["sha256"]) == 64
    assert str(style.parent) not in json.dumps(both.pictures[0].record)


def bad_loras(folder: Path, good: Path) -> dict[str, Path]:
    """Files that are no LoRA for this model, each in its own way."""
    import torch
    from safetensors.torch import load_file, save_file

    state = load_file(good)
    first = next(iter(state))

    def saved(name: str, tensors: dict[str, Any]) -> Path:
        save_file(tensors, folder / name)
        return folder / name

    def written(name: str, data: bytes) -> Path:
        (folder / name).write_bytes(data)
        return folder / name

    empty = folder / "empty"
    empty.mkdir()
    torch.save(state, folder / "pickle.bin")
    torch.save(state, folder / "disguised.safetensors")
    return {
        "no LoRA file": folder / "absent.safetensors",
        "no safetensors file": empty,
        "is no safetensors": folder / "pickle.bin",
        "damaged 1": folder / "disguised.safetensors",
        "damaged 2": written("cut.safetensors", good.read_bytes()[:-100]),
        "damaged 3": written("zero.safetensors", b""),
        "not finite": saved("nan.safetensors", state | {first: state[first] * float("nan")}),
        "does not fit 1": saved("wide.safetensors", {k: torch.cat([v, v], 1) for k, v in state.items()}),
        "does not fit 2": saved("whole.safetensors", {"model.weight": torch.ones(2, 2)}),
        "half": saved("half.safetensors", {k: torch.cat([v, v], -1) if "text" in k else v for k, v in state.items()}),
        "elsewhere": saved("other.safetensors", {k.replace("unet.", "prior."): v for k, v in state.items() if "unet" in k}),
        "numbers": saved("integers.safetensors", {k: torch.ones(v.shape, dtype=torch.int32) for k, v in state.items()}),
    }  # fmt: skip


def test_a_bad_lora_is_refused_by_name_and_the_model_stays_as_it_was(
    sd: LocalImage, style: Path, tmp_path: Path
) -> None:
    plain, _ = paint(sd)
    for why, path in bad_loras(tmp_path, style).items():
        with pytest.raises(InvalidParams) as refusal:
            paint(sd, loras=(Lora(str(style)), Lora(str(path))))
        assert path.name in str(refusal.value), why
        assert str(tmp_path) not in str(refusal.value)
        assert sd._pipe.get_list_adapters() == {}, why
        assert not sd._turn.locked()
    assert layers(sd) == plain_layers(sd)
    again, _ = paint(sd)
    assert difference(pixels(again), pixels(plain)) == 0


def test_a_lora_for_another_kind_of_model_is_refused(backends: dict[str, LocalImage], style: Path) -> None:
    for name in ("flux2", "zimage", "sdxl"):
        with pytest.raises(InvalidParams, match=r"style\.safetensors"):
            paint(backends[name], loras=(Lora(str(style)),))
        assert backends[name]._pipe.get_list_adapters() == {}


def test_a_giant_file_is_no_lora(tmp_path: Path) -> None:
    with (tmp_path / "model.safetensors").open("wb") as file:
        file.truncate(image_loras.LARGEST_BYTES + 1)
    with pytest.raises(InvalidParams, match=r"model\.safetensors is larger"):
        image_loras.find(Lora(str(tmp_path / "model.safetensors")))


# --- numbers that break -----------------------------------------------------------------------------------

HALF = Compute("cpu", "float16", "sdpa", 8 * GIB, "cpu", "CPU", "For a test.")


def test_an_overflow_in_half_precision_is_retried_in_single_and_told(folders: dict[str, Path]) -> None:
    """The decoder's first layer is scaled up until float16 overflows, as in SDXL's; the group norm after it takes the
    scale out again, so that float32 paints the right picture."""
    import torch

    right, _ = paint(open_model(block("sd", folders["sd"])))
    backend = LocalImage.load(block("sd", folders["sd"]), folders["sd"], HALF)
    with torch.no_grad():
        backend._pipe.vae.decoder.conv_in.weight.mul_(3.5e5)
        backend._pipe.vae.decoder.conv_in.bias.mul_(3.5e5)
    before = {name: (p.dtype, p.clone()) for name, p in backend._pipe.vae.named_parameters()}
    result, events = paint(backend)
    assert [n for n in notices(events) if "no valid numbers in float16; trying again in float32" in n]
    assert len(result.steps) == STEPS
    assert np.abs(pixels(result) - pixels(right)).mean() < 30  # float16 weights; not the zeros of an overflow
    assert np.asarray(result.pictures[0].image).std() > 5
    for name, parameter in backend._pipe.vae.named_parameters():
        assert parameter.dtype == before[name][0] == torch.float16
        assert torch.equal(parameter, before[name][1])


def test_a_black_picture_in_half_precision_is_retried(folders: dict[str, Path]) -> None:
    """A last bias of -60000 makes everything black in any precision: retried once, told, then given out."""
    import torch

    backend = LocalImage.load(block("sd", folders["sd"]), folders["sd"], HALF)
    with torch.no_grad():
        backend._pipe.vae.decoder.conv_out.bias.fill_(-60000.0)
    result, events = paint(backend)
    assert [n for n in notices(events) if "a black picture in float16; trying again in float32" in n]
    assert pixels(result).max() == 0


@pytest.mark.parametrize("part", ["unet", "vae"])
def test_numbers_that_are_broken_in_any_precision_are_an_error_in_words(folders: dict[str, Path], part: str) -> None:
    import torch

    backend = open_model(block("sd", folders["sd"]))
    network = backend._pipe.unet.conv_out if part == "unet" else backend._pipe.vae.decoder.conv_out
    with torch.no_grad():
        network.weight[0, 0, 0, 0] = float("nan")
    with pytest.raises(StudioError, match="no valid numbers"):
        paint(backend)
    assert not backend._turn.locked()


def test_a_picture_that_the_models_own_filter_blacks_out_is_told_and_not_retried(sd: LocalImage) -> None:
    """Stable Diffusion's safety checker with thresholds that everything passes."""
    import torch
    from diffusers import StableDiffusionPipeline
    from diffusers.pipelines.stable_diffusion import StableDiffusionSafetyChecker
    from transformers import CLIPConfig, CLIPImageProcessor

    vision = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4}
    checker = StableDiffusionSafetyChecker(
        CLIPConfig(vision_config=vision | {"image_size": 30, "patch_size": 15}, projection_dim=16)
    ).eval()
    with torch.no_grad():
        checker.concept_embeds_weights.fill_(-2.0)
    parts = sd._pipe.components | {
        "safety_checker": checker,
        "feature_extractor": CLIPImageProcessor(size={"shortest_edge": 30}, crop_size={"height": 30, "width": 30}),
    }
    result, events = paint(LocalImage(sd.model, StableDiffusionPipeline(**parts), sd.compute))
    assert pixels(result).max() == 0
    assert [n for n in notices(events) if "safety filter blacked a picture out" in n]
    assert len(views(events)) == STEPS


# --- prompts ----------------------------------------------------------------------------------------------


def test_a_prompt_longer_than_the_model_reads_is_cut_and_told(sd: LocalImage) -> None:
    _, events = paint(sd, prompt="a fox " * 300)
    assert "The prompt is 602 tokens long; SD reads 77 and left out the end." in notices(events)


@pytest.mark.parametrize(
    "prompt", ["", " ", "\n\n", "<start><end><pad>", "{{ x }}", "\U0001f98a" * 500, "<script>", "%s%n"]
)
def test_strange_prompts_are_painted_like_any_other(sd: LocalImage, prompt: str) -> None:
    result, _ = paint(sd, prompt=prompt, num_inference_steps=1)
    assert result.pictures[0].record["prompt"] == prompt


# --- previews ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_previews_come_from_a_projection_fitted_once_to_the_autoencoder(
    backends: dict[str, LocalImage], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = backends[name]
    fresh = image_models.Previews()
    monkeypatch.setattr(backend, "previews", fresh)
    _, events = paint(backend, width=96, height=64)
    shown = views(events)
    assert len(shown) == STEPS
    assert all(v.images[0].size == (256, 171) for v in shown)
    fitted = fresh._matrix
    assert fitted is not None
    paint(backend)
    assert fresh._matrix is fitted


def test_a_projection_shows_what_an_autoencoder_that_keeps_everything_was_given() -> None:
    import torch
    from torch.nn.functional import avg_pool2d, interpolate, pixel_unshuffle

    class Unshuffle:
        """An autoencoder without loss: 8 x 8 pixels become the numbers of one latent."""

        config = SimpleNamespace(block_out_channels=(1, 1, 1, 1))
        dtype = torch.float32

        def encode(self, pixels: torch.Tensor) -> Any:
            latents = pixel_unshuffle(pixels, 8)
            return SimpleNamespace(latent_dist=SimpleNamespace(mode=lambda: latents))

    pipe = SimpleNamespace(vae=Unshuffle(), _execution_device="cpu")
    pixels = (
        interpolate(torch.rand(1, 3, 10, 10, generator=torch.Generator().manual_seed(3)), (64, 64), mode="nearest") * 2
        - 1
    )
    (shown,) = image_models.Previews()(pipe, pixel_unshuffle(pixels, 8))
    found = np.asarray(shown.resize((32, 32), Image.Resampling.BOX), float) / 127.5 - 1
    expected = avg_pool2d(pixels, 2)[0].permute(1, 2, 0).numpy()
    assert np.abs(found - expected).mean() < 0.06


# --- loading ----------------------------------------------------------------------------------------------


def test_a_pipeline_of_another_class_is_refused_by_name(folders: dict[str, Path], tmp_path: Path) -> None:
    from diffusers import DDIMPipeline, DDIMScheduler, UNet2DModel

    network = UNet2DModel(
        sample_size=8, block_out_channels=(8, 8), norm_num_groups=4, layers_per_block=1,
        down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2,
    )  # fmt: skip
    DDIMPipeline(network, DDIMScheduler()).save_pretrained(tmp_path / "ddim")
    with pytest.raises(ModelUnavailable, match="DDIMPipeline, which this studio does not paint with"):
        open_model(block("ddim", tmp_path / "ddim"))


@pytest.mark.parametrize("damage", ["config", "index", "class"])
def test_a_damaged_folder_is_an_error_without_a_path(folders: dict[str, Path], tmp_path: Path, damage: str) -> None:
    import shutil

    folder = shutil.copytree(folders["sd"], tmp_path / "sd")
    file = folder / ("unet/config.json" if damage == "config" else "model_index.json")
    text = file.read_text()
    file.write_text(text.replace("UNet2DConditionModel", "Nothing") if damage == "class" else text[: len(text) // 2])
    with pytest.raises(ModelCorrupt) as refusal:
        open_model(block("sd", folder))
    assert str(tmp_path) not in str(refusal.value)


# --- command line and record ------------------------------------------------------------------------------


@pytest.fixture
def flags(folders: dict[str, Path], tmp_path: Path) -> list[str]:
    model = block("tiny", folders["sd"])
    names = ("id", "task", "title", "summary", "source", "path", "license", "memory_mb", "width", "num_inference_steps")
    lines = [f"{name} = {json.dumps(getattr(model, name))}" for name in names]
    (tmp_path / "own.toml").write_text("\n".join(["[[model]]", *lines]))
    return ["--catalog", str(tmp_path / "own.toml"), "--model", "tiny", "--device", "cpu"]


def test_the_command_line_writes_a_picture_that_carries_its_record(
    flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], style: Path
) -> None:
    from pipelines import pictures

    output = tmp_path / "fox.png"
    lora = ["--lora", f"{style}:0.8"]
    assert text_to_image.main([PROMPT, *flags, "--seed", "1", "--output", str(output), "--num-images", "2", *lora]) == 0
    assert capsys.readouterr().out.split() == [str(output), str(tmp_path / "fox-2.png")]
    found = pictures.read_record(output)
    assert found is not None
    assert (found.prompt, found.seed, found.width) == (PROMPT, 1, 64)
    record = json.loads(Image.open(output).text["studio"])  # type: ignore[attr-defined]
    assert record["loras"][0]["weight"] == 0.8
    assert set(record) >= {
        "prompt", "negative_prompt", "seed", "width", "height", "num_inference_steps", "guidance_scale", "scheduler",
        "loras", "model", "revision", "device", "dtype", "seconds", "versions", "generated",
    }  # fmt: skip
    assert json.loads(Image.open(tmp_path / "fox-2.png").text["studio"])["seed"] == 2  # type: ignore[attr-defined]


def test_a_file_of_prompts_gives_a_folder_of_pictures_and_json_lines(
    flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a fox\n\na red rocket!\n")
    arguments = ["--file", str(prompts), "--output-dir", str(tmp_path / "out"), "--json", "--seed", "3"]
    assert text_to_image.main([*flags, *arguments]) == 0
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [r["prompt"] for r in records] == ["a fox", "a red rocket!"]
    names = ["001-a-fox-3.png", "002-a-red-rocket-3.png"]
    assert [Path(r["files"][0]).name for r in records] == names
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == names


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["a fox", "--width", "65"], "width must be a multiple of 8"),
        (["a fox", "--guidance-scale", "nan"], "guidance_scale must be a number"),
        (["a fox", "--lora", "x:9"], "A LoRA's weight"),
        (["a fox", "--image", "absent.png"], "cannot be opened"),
        (["a fox", "--output", "a.png", "--output-dir", "b"], "--output names one file"),
        ([], "There is no prompt"),
    ],
)
def test_wrong_flags_are_one_sentence_and_nothing_is_painted(
    arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert text_to_image.main(arguments) == 2
    shown = capsys.readouterr()
    assert complaint in shown.err
    assert shown.out == ""


def test_the_records_settings_paint_the_same_picture_again(sd: LocalImage) -> None:
    first, _ = paint(sd, seed=-1, scheduler="euler_ancestral", num_images=2)
    record = first.pictures[1].record
    names = (
        "prompt",
        "negative_prompt",
        "seed",
        "width",
        "height",
        "num_inference_steps",
        "guidance_scale",
        "scheduler",
    )
    again, _ = paint(sd, **{name: record[name] for name in names})
    assert difference(pixels(again), pixels(first, 1)) <= 1


def test_traced_runs_tell_what_each_word_did_and_both_halves_of_guidance(sd: LocalImage) -> None:
    plain, _ = paint(sd)
    traced, events = paint(sd, is_traced=True)
    assert difference(pixels(plain), pixels(traced)) == 0
    assert [word.word for word in traced.words] == PROMPT.split()
    assert all(w.map.dtype == np.float32 and 0 <= w.map.min() <= w.map.max() <= 1 for w in traced.words)
    for view in views(events):
        assert view.guidance is not None
        without, with_prompt = view.guidance
        assert without.size == with_prompt.size == (256, 256)
