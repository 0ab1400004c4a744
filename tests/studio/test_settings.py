"""Settings: a flag beats a variable beats the default, and whatever is wrong is said in one line."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.errors import InvalidParams
from studio.settings import Settings, parse, table, variable

ROOT = Path(__file__).resolve().parents[2]
FIELDS = dataclasses.fields(Settings)
NAMES = [f.name for f in FIELDS]


def test_without_flags_and_variables_every_setting_has_its_default() -> None:
    settings, command = parse([], {})
    assert settings == Settings()
    assert command == "run"


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("host", "0.0.0.0", "0.0.0.0"),
        ("port", "8000", 8000),
        ("device", "cpu", "cpu"),
        ("data_dir", "/tmp/elsewhere", Path("/tmp/elsewhere")),
        ("time_limit_s", "12.5", 12.5),
        ("model_memory_gb", "3", 3.0),
        ("presenter_password", "p\u00e4ss wort", "p\u00e4ss wort"),
    ],
)
def test_a_value_is_the_same_from_a_flag_and_from_a_variable(name: str, text: str, expected: object) -> None:
    by_flag, _ = parse([f"--{name.replace('_', '-')}", text], {})
    by_variable, _ = parse([], {variable(name): text})
    assert getattr(by_flag, name) == getattr(by_variable, name) == expected


def test_a_flag_wins_over_its_variable_and_the_variable_over_the_default() -> None:
    environment = {"STUDIO_PORT": "8001", "STUDIO_CHAT_MODEL": "mote", "STUDIO_OFFLINE": "1"}
    settings, _ = parse(["--port", "8002", "--no-offline"], environment)
    assert (settings.port, settings.chat_model, settings.offline) == (8002, "mote", False)


@pytest.mark.parametrize("word", ["1", "true", "YES", "on"])
def test_a_switch_is_turned_on_by_any_of_the_usual_words(word: str) -> None:
    assert parse([], {"STUDIO_OFFLINE": word})[0].offline is True


@pytest.mark.parametrize("word", ["0", "false", "No", "off"])
def test_a_switch_is_turned_off_by_any_of_the_usual_words(word: str) -> None:
    assert parse([], {"STUDIO_OFFLINE": word})[0].offline is False


@pytest.mark.parametrize("name", NAMES)
def test_an_empty_variable_counts_as_not_set(name: str) -> None:
    assert parse([], {variable(name): ""})[0] == Settings()


def test_offline_forbids_downloads_that_were_allowed() -> None:
    assert parse(["--allow-downloads"], {})[0].may_download
    assert not parse(["--allow-downloads", "--offline"], {})[0].may_download


def test_on_a_space_the_page_listens_to_the_outside() -> None:
    assert parse([], {"SPACE_ID": "somebody/studio"})[0].host == "0.0.0.0"
    assert parse([], {"SPACE_ID": "somebody/studio", "STUDIO_HOST": "127.0.0.1"})[0].host == "127.0.0.1"
    assert parse(["--host", "127.0.0.1"], {"SPACE_ID": "somebody/studio"})[0].host == "127.0.0.1"
    assert parse([], {})[0].host == "127.0.0.1"


def test_the_catalogue_lies_in_the_data_directory_unless_named(tmp_path: Path) -> None:
    own, data = tmp_path / "own.toml", ["--data-dir", str(tmp_path)]
    own.touch()
    assert parse(data, {})[0].catalog_file is None
    (tmp_path / "catalog.toml").touch()
    assert parse(data, {})[0].catalog_file == tmp_path / "catalog.toml"
    assert parse([*data, "--catalog", str(own)], {})[0].catalog_file == own


@pytest.mark.parametrize(
    ("arguments", "environment", "words"),
    [
        (["--port", "abc"], {}, ("--port", "whole number", "'abc'")),
        (["--port", "0"], {}, ("port", "1 to 65535", "0")),
        (["--port", "65536"], {}, ("port", "1 to 65535", "65536")),
        (["--port"], {}, ("--port", "expected one argument")),
        (["--nope"], {}, ("--nope", "--help")),
        (["paint"], {}, ("paint", "run", "doctor")),
        (["--time-limit-s", "nan"], {}, ("time_limit_s", "1 to 86400 s", "nan")),
        (["--time-limit-s", "0.5"], {}, ("time_limit_s", "0.5")),
        (["--max-waiting", "0"], {}, ("max_waiting", "1 to 100000")),
        (["--max-waiting", "1.5"], {}, ("--max-waiting", "whole number", "'1.5'")),
        (["--model-memory-gb", "inf"], {}, ("model_memory_gb", "inf")),
        (["--model-memory-gb=-1"], {}, ("model_memory_gb", "-1")),
        (["--root-path", "studio"], {}, ("root_path", "'studio'")),
        (["--catalog", "/no/such.toml"], {}, ("catalog", "/no/such.toml")),
        ([], {"STUDIO_PORT": "x" * 1000}, ("STUDIO_PORT", "whole number")),
        ([], {"STUDIO_TIME_LIMIT_S": "soon"}, ("STUDIO_TIME_LIMIT_S", "a number", "'soon'")),
        ([], {"STUDIO_OFFLINE": "maybe"}, ("STUDIO_OFFLINE", "true", "'maybe'")),
    ],
)
def test_a_wrong_value_is_named_with_what_would_be_right(
    arguments: list[str], environment: dict[str, str], words: tuple[str, ...]
) -> None:
    with pytest.raises(InvalidParams) as caught:
        parse(arguments, environment)
    message = str(caught.value)
    assert all(word in message for word in words), message
    assert "\n" not in message
    assert len(message) < 250


def run_app(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "app.py", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=120
    )


def test_a_wrong_value_ends_the_program_with_status_2_and_one_line() -> None:
    done = run_app("--port", "seven")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == "--port must be a whole number, not 'seven'.\n"


def test_help_lists_every_setting_with_its_meaning() -> None:
    done = run_app("--help")
    assert done.returncode == 0
    shown = " ".join(done.stdout.split())
    for f in FIELDS:
        assert f"--{f.name.replace('_', '-')} " in shown
        assert f.metadata["help"] in shown


@pytest.mark.parametrize("name", NAMES)
def test_every_setting_has_help(name: str) -> None:
    help = Settings.__dataclass_fields__[name].metadata["help"]
    assert len(help) > 10
    assert "|" not in help  # it stands in a Markdown table


def test_the_readme_table_has_one_row_per_setting() -> None:
    head, rule, *rows = table().splitlines()
    assert head.count("|") == rule.count("|") == 5
    assert len(rows) == len(FIELDS)
    for f, row in zip(FIELDS, rows, strict=True):
        cells = [cell.strip() for cell in row.strip("|").split(" | ")]
        assert cells[0].strip("`| ") == "--" + f.name.replace("_", "-")
        assert cells[1] == f"`STUDIO_{f.name.upper()}`"
        assert cells[3].strip("| ") == f.metadata["help"]
        assert cells[2] == "off" if f.default is False else cells[2] in ("none", f"`{f.default}`")


def test_neither_table_nor_help_shows_a_password(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parse(["--help"], {"STUDIO_PRESENTER_PASSWORD": "kept-quiet"})
    assert "kept-quiet" not in capsys.readouterr().out + table()
