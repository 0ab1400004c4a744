"""The command line: JSON lines that a script can read, one sentence on stderr when something is wrong."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pipelines import chat
from pipelines.chat import ChatParams
from pipelines.params import specs

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-m", "pipelines.chat"]
FIELDS = {"prompt", "text", "seed", "model", "device", "dtype", "seconds", "tokens", "finish_reason", "settings"}


def shell(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, as a person runs it."""
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "PYTHONIOENCODING": "utf-8"}
    return subprocess.run(
        [*COMMAND, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, encoding="utf-8", timeout=300
    )


def write_catalog(file: Path, folder: Path) -> Path:
    """A catalogue file of one's own with the model ``tiny``."""
    file.write_text(
        f'[[model]]\nid = "tiny"\ntask = "chat"\ntitle = "Tiny"\nsummary = "Random weights."\nsource = "local"\n'
        f'path = "{folder.as_posix()}"\nlicense = "Apache-2.0"\nmemory_mb = 1\ncontext = 128\n'
    )
    return file


@pytest.fixture
def flags(lively_folder: Path, tmp_path: Path) -> list[str]:
    """The flags that choose the tiny model, on the CPU."""
    own = write_catalog(tmp_path / "own.toml", lively_folder)
    return ["--catalog", str(own), "--model", "tiny", "--device", "cpu"]


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    file = tmp_path / "questions.txt"
    file.write_text("the cat\n\n  \nthe rät 🙂\nthe cat\n", encoding="utf-8-sig")
    return file


def test_a_file_of_prompts_gives_one_json_record_per_line(flags: list[str], questions: Path) -> None:
    found = shell(*flags, "--file", str(questions), "--json", "--seed", "7", "--max-new-tokens", "12")
    assert found.returncode == 0, found.stderr
    records = [json.loads(line) for line in found.stdout.splitlines()]
    assert [r["prompt"] for r in records] == ["the cat", "the rät 🙂", "the cat"]
    for record in records:
        assert set(record) >= FIELDS
        assert (record["model"], record["device"], record["dtype"], record["seed"]) == ("tiny", "cpu", "float32", 7)
        assert record["tokens"] == 12
        assert record["seconds"] > 0
        assert record["text"]
    assert records[0]["text"] == records[2]["text"] != records[1]["text"]
    # What is said besides goes to stderr, and no progress bar is in it.
    assert "Tiny, because it was asked for." in found.stderr
    assert "Loading Tiny" in found.stderr
    assert not [sign for sign in ("%|", "it/s", "\r", "Warning", "Traceback") if sign in found.stderr]


WRONG = [
    (["hi", "--temperature", "9"], "temperature must be a number from 0 to 2, not '9'"),
    (["hi", "--temperature", "nan"], "temperature must be a number"),
    (["hi", "--max-new-tokens", "0"], "max_new_tokens must be a whole number from 1 to 4096 tokens"),
    (["hi", "--seed", "1.5"], "seed must be a whole number"),
    (["hi", "--strategy", "best"], "invalid choice: 'best'"),
    (["hi", "--bogus", "1"], "unrecognized arguments: --bogus"),
    (["hi", "--catalog", "nowhere.toml"], "nowhere.toml cannot be read"),
    (["--file", "nowhere.txt"], "nowhere.txt cannot be read"),
    (["hi", "--file", "questions.txt"], "not both"),
    ([], "There is no prompt"),
    (["  "], "no question to answer"),
]


@pytest.mark.parametrize(("arguments", "says"), WRONG, ids=[" ".join(flags) or "nothing" for flags, _ in WRONG])
def test_a_wrong_flag_ends_in_one_line_and_status_2(arguments: list[str], says: str) -> None:
    found = shell(*arguments)
    assert found.returncode == 2
    assert found.stdout == ""
    lines = found.stderr.splitlines()
    assert len(lines) == 1
    assert says in lines[0]


def test_help_lists_every_setting_with_its_range() -> None:
    found = shell("--help")
    assert found.returncode == 0
    words = " ".join(found.stdout.split())
    for name, spec in specs(ChatParams).items():
        if name == "is_traced":  # a record per token is nothing for a command line
            continue
        assert f"--{name.replace('_', '-')} " in words
        assert spec.help in words
        assert spec.kind not in ("number", "integer") or f"({spec.span})" in words
    for flag in ("--model", "--catalog", "--device", "--dtype", "--file", "--json", "--allow-downloads"):
        assert f"{flag} " in words


def test_ctrl_c_ends_quietly(flags: list[str], tmp_path: Path) -> None:
    file = tmp_path / "many.txt"
    file.write_text("the cat\n" * 10_000)
    command = [*COMMAND, *flags, "--file", str(file), "--json"]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8"
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert json.loads(process.stdout.readline())["text"]
        process.send_signal(signal.SIGINT)
        process.stdout.read()
        said = process.stderr.read()
    assert process.returncode == 130
    assert "Traceback" not in said


# --- in this process, where torch is imported already ----------------------------------------------------


def test_an_answer_is_printed_as_text(flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [*flags, "the cat", "--strategy", "greedy", "--max-new-tokens", "8"]
    assert chat.main(arguments) == 0
    text = capsys.readouterr().out
    assert chat.main([*arguments, "--json"]) == 0
    assert text == json.loads(capsys.readouterr().out)["text"] + "\n"


def test_a_setting_on_the_command_line_reaches_the_answer(flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    def record(*more: str) -> dict[str, Any]:
        assert chat.main([*flags, "the cat", "--json", "--seed", "3", "--max-new-tokens", "9", *more]) == 0
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        return found

    plain, hot, beam = record(), record("--temperature", "1.9"), record("--strategy", "beam", "--num-beams", "3")
    assert len({r["text"] for r in (plain, hot, beam)}) == 3
    assert hot["settings"]["temperature"] == 1.9
    assert beam["settings"]["num_beams"] == 3


def test_one_prompt_that_fails_is_recorded_and_the_others_are_answered(
    flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "questions.txt"
    file.write_text(f"the cat\n{'the cät ' * 200}\nthe rat\n")
    assert chat.main([*flags, "--file", str(file), "--json", "--max-new-tokens", "5"]) == 1
    out, err = capsys.readouterr()
    records = [json.loads(line) for line in out.splitlines()]
    assert ["text" in r for r in records] == [True, False, True]
    assert set(records[1]) == {"prompt", "error", "seconds"}
    assert "reads 128 at most" in records[1]["error"]
    assert "cät" in out.splitlines()[1]
    assert err.count("reads 128 at most") == 1


def test_a_stage_of_the_work_is_said_once(flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert chat.main([*flags, "the cat", "--strategy", "beam", "--max-new-tokens", "60", "--num-beams", "8"]) == 0
    assert capsys.readouterr().err.splitlines().count("Searching beams") == 1


@pytest.mark.parametrize("name", ["huge", "Mote", ""])
def test_an_unknown_model_is_refused_with_those_that_are_known(
    flags: list[str], capsys: pytest.CaptureFixture[str], name: str
) -> None:
    assert chat.main([*flags, "hi", "--model", name]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert f"There is no chat model called {name!r}. Known: " in err
    assert "tiny" in err


def test_a_device_that_is_not_there_is_refused(flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert chat.main([*flags, "hi", "--device", "cuda:9"]) == 2
    assert "Device 'cuda:9' was asked for, but is not there." in capsys.readouterr().err


def test_a_broken_model_ends_in_words(lively_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = shutil.copytree(lively_folder, tmp_path / "copy")
    (folder / "model.safetensors").write_bytes(b"half")
    own = write_catalog(tmp_path / "own.toml", folder)
    assert chat.main(["hi", "--catalog", str(own), "--model", "tiny", "--device", "cpu"]) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("model.safetensors is not a complete safetensors file.")


def test_a_broken_catalogue_names_the_field(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "own.toml"
    file.write_text('[[model]]\nid = "tiny"\ntask = "chat"\n')
    assert chat.main(["hi", "--catalog", str(file)]) == 2
    assert "own.toml, model 'tiny': title is missing." in capsys.readouterr().err
