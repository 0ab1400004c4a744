"""Who imports whom, read from the source of every module: app -> studio -> pipelines, and nothing back.

Heavy libraries are imported inside functions, so that the page opens before they are there.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HEAVY = {"torch", "transformers", "diffusers", "peft", "accelerate", "torchao", "bitsandbytes"}


@dataclass(frozen=True)
class Import:
    """One imported module, by its full name, and where: ``is_lazy`` inside a function, ``is_typing`` for types only."""

    importer: str
    imported: str
    line: int
    is_lazy: bool
    is_typing: bool

    @property
    def top(self) -> str:
        return self.imported.split(".")[0]

    def __str__(self) -> str:
        return f"{self.importer}:{self.line} imports {self.imported}"


def module_name(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def imports_in(
    nodes: list[ast.AST], importer: str, package: str, *, is_lazy: bool = False, is_typing: bool = False
) -> Iterator[Import]:
    for node in nodes:
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package.split(".")[: len(package.split(".")) - node.level + 1]) if node.level else ""
            module = ".".join(part for part in (base, node.module) if part)
            # ``from package import module`` imports the module too; a name that is none does no harm here.
            names = [module, *(f"{module}.{alias.name}" for alias in node.names)]
        elif (
            isinstance(node, ast.Call)
            and ast.unparse(node.func) in ("importlib.import_module", "import_module", "__import__")
            and isinstance(argument := node.args[0] if node.args else None, ast.Constant)
        ):
            names = [str(argument.value)]
        for name in names:
            yield Import(importer, name, getattr(node, "lineno", 0), is_lazy, is_typing)
        lazy = is_lazy or isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        typing = is_typing or is_type_checking(node)
        children = list(ast.iter_child_nodes(node))
        yield from imports_in(children, importer, package, is_lazy=lazy, is_typing=typing)


def read(file: Path) -> list[Import]:
    name = module_name(file)
    package = name if file.name == "__init__.py" else name.rpartition(".")[0]
    return list(imports_in([ast.parse(file.read_text(encoding="utf-8"))], name, package))


def sources() -> list[Path]:
    """Every Python file of the project: app.py and the three packages."""
    found = list(ROOT.glob("*.py"))
    for folder in ("studio", "pipelines", "tests"):
        found += (ROOT / folder).rglob("*.py")
    return sorted(found)


EVERYTHING = [i for file in sources() for i in read(file)]


def offences(importers: str | tuple[str, ...], imported: set[str], *, but: tuple[str, ...] = ()) -> list[str]:
    """Imports of ``imported`` (names or beginnings of them) by modules under ``importers``."""
    inside = (importers,) if isinstance(importers, str) else importers
    return [
        str(i)
        for i in EVERYTHING
        if is_under(i.importer, *inside) and not is_under(i.importer, *but) and is_under(i.imported, *imported)
    ]


def is_under(name: str, *packages: str) -> bool:
    return any(name == package or name.startswith(package + ".") for package in packages)


# --- the reader itself ------------------------------------------------------------------------------------


def test_every_way_of_importing_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = """
import torch.nn
from pipelines import recipes
from . import events
from ..studio import shell as s
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    import gradio
try:
    import late
except ImportError:
    pass
class Class:
    import inside
    def method(self):
        import transformers
        import_module("diffusers")
"""
    (tmp_path / "pipelines").mkdir()
    (tmp_path / "pipelines" / "made_up.py").write_text(source)
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    found = {i.imported: (i.is_lazy, i.is_typing) for i in read(tmp_path / "pipelines" / "made_up.py")}
    assert found["torch.nn"] == found["pipelines.recipes"] == found["pipelines.events"] == (False, False)
    assert found["studio.shell"] == found["late"] == found["inside"] == (False, False)
    assert found["gradio"] == (False, True)
    assert found["transformers"] == found["diffusers"] == (True, False)


def test_whole_project_was_read() -> None:
    importers = {i.importer for i in EVERYTHING}
    assert {"pipelines.engine", "pipelines.chat", "pipelines.recipes.train_chat", __name__.rpartition(".")[2]} <= {
        name.rpartition(".")[2] if name.endswith("test_imports") else name for name in importers
    }


# --- the direction ----------------------------------------------------------------------------------------


def test_pipelines_know_neither_the_page_nor_gradio() -> None:
    assert offences("pipelines", {"gradio", "gradio_client", "studio", "app"}) == []


def test_studio_knows_neither_the_app_nor_any_model_library() -> None:
    assert offences("studio", {"app", *HEAVY}) == []


def test_app_reaches_pipelines_only_through_the_studio() -> None:
    assert offences("app", HEAVY) == []


def test_nothing_that_ships_imports_the_tests() -> None:
    assert offences(("app", "studio", "pipelines"), {"tests", "conftest", "pytest"}) == []


def test_nothing_but_recipes_and_tests_imports_a_recipe() -> None:
    assert offences(("app", "studio", "pipelines"), {"pipelines.recipes"}, but=("pipelines.recipes",)) == []


def crossings(folder: Path, owners: set[str], allowed: dict[str, str]) -> list[str]:
    """Imports between the files of different owners; ``chat_words.py`` belongs to ``chat``, as ``chat.py`` does."""
    own = {
        owner: {module_name(f) for f in folder.glob("*.py") if f.stem == owner or f.stem.startswith(f"{owner}_")}
        for owner in owners
    }
    return [
        offence
        for owner, modules in own.items()
        for other, foreign in own.items()
        if other not in (owner, allowed.get(owner))
        for module in modules
        for offence in offences(module, foreign)
    ]


def test_a_tab_imports_no_other_tab() -> None:
    folder = ROOT / "studio" / "tabs"
    stems = {f.stem for f in folder.glob("*.py")} - {"__init__"}
    tabs = {stem for stem in stems if not any(stem.startswith(f"{other}_") for other in stems)}
    assert crossings(folder, tabs, {}) == []


def test_a_task_imports_no_other_task() -> None:
    tasks = {"chat", "text_to_image", "personalize", "music"}
    assert crossings(ROOT / "pipelines", tasks, {"personalize": "text_to_image"}) == []


# --- what an import costs ---------------------------------------------------------------------------------


def test_heavy_libraries_are_imported_inside_functions_only() -> None:
    eager = [
        str(i)
        for i in EVERYTHING
        if is_under(i.importer, "app", "studio", "pipelines")
        and not is_under(i.importer, "pipelines.recipes")
        and i.top in HEAVY
        and not i.is_lazy
        and not i.is_typing
    ]
    assert eager == []


def test_importing_every_pipeline_loads_no_heavy_library_and_starts_nothing() -> None:
    modules = sorted(module_name(f) for f in (ROOT / "pipelines").glob("*.py") if f.name != "__init__.py")
    code = f"""
import importlib, os, sys, threading
environment = dict(os.environ)
for name in {modules!r}:
    importlib.import_module(name)
print(sorted(set({sorted(HEAVY | {"gradio", "huggingface_hub"})!r}) & set(sys.modules)))
print(threading.active_count(), dict(os.environ) == environment)
"""
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert run.stdout.splitlines() == ["[]", "1 True"], run.stderr
