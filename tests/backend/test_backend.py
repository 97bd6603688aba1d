# SPDX-License-Identifier: LGPL-3.0-or-later
"""The registry of backends, names of model files, and that hooks lead somewhere."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from deepmd.backend import backend as module
from deepmd.backend.backend import Backend, choose_backend
from deepmd.backend.detect import (
    backend_of,
    existing_model,
    output_of,
    resolve_model,
)
from deepmd.base.errors import InputError, ModelFileError, NotAvailableError

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("file", "key"),
    [
        ("a.pth", "pytorch"),
        ("model.ckpt.pt", "pytorch"),
        ("a.hlo", "jax"),
        ("model.ckpt-4.jax", "jax"),
        ("dir/a.savedmodel/", "jax"),
        ("A.DP", "dpmodel"),
        ("a.yaml", "dpmodel"),
        ("a.yml", "dpmodel"),
        ("a.pb", "tensorflow"),
        ("a.savedmodeltf", "tensorflow2"),
        ("a.pt2", "pytorch-exportable"),
        ("a.pd", "paddle"),
        (Path("x") / "a.pth", "pytorch"),
    ],
)
def test_the_suffix_alone_chooses(file, key):
    assert Backend.detect_backend_by_model(file).key == key


def test_unknown_suffix_and_name():
    with pytest.raises(InputError, match=r"a\.json: no backend opens files of this name"):
        Backend.detect_backend_by_model("a.json")
    with pytest.raises(InputError, match='did you mean "pytorch"'):
        Backend.get_backend("pytroch")
    assert Backend.get_backend("PT").key == "pytorch"


def test_no_suffix_belongs_to_two_backends():
    suffixes = [s for b in Backend.get_backends().values() for s in set(b.file_suffixes())]
    assert len(suffixes) == len(set(suffixes))


def test_every_backend_on_the_command_line_is_registered():
    from deepmd.main import BACKEND_FLAGS

    assert set(BACKEND_FLAGS) == set(Backend.get_backends())
    for key, flags in BACKEND_FLAGS.items():
        for flag in flags:
            assert Backend.get_backend(flag.removeprefix("--")).key == key


def test_not_built_backend_says_so():
    with pytest.raises(NotAvailableError, match="Paddle: cannot be used: known but not built"):
        backend_of("a.pd")
    assert not Backend.get_backend("pd")().is_available()


def test_reading_may_need_less_than_the_rest(monkeypatch):
    """Frozen graphs of TensorFlow are read without it."""
    monkeypatch.setattr(
        module, "find_spec", lambda name: None if name.startswith("tensorflow") else True
    )
    backend = backend_of("a.pb")
    assert backend.why_not_read() is None and not backend.is_available()
    assert callable(backend.serialize_hook) and callable(backend.deep_eval)
    with pytest.raises(NotAvailableError, match="TensorFlow: cannot be used"):
        _ = backend.deserialize_hook
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(NotAvailableError, match=r"google\.protobuf is not installed"):
        backend_of("a.pb")


def test_choice_and_reasons(monkeypatch):
    missing = ("tensorflow", "torch")
    monkeypatch.setattr(module, "find_spec", lambda name: None if name in missing else True)
    chosen, why = choose_backend(None)
    assert chosen.key == "jax"
    assert "TensorFlow: tensorflow is not installed; PyTorch: torch is not installed" in why
    missing = ()
    assert choose_backend(None)[0].key == "tensorflow"
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(NotAvailableError, match="numpy and autograd are not installed"):
        choose_backend(None)
    with pytest.raises(NotAvailableError, match="jax is not installed"):
        choose_backend("jax")


def test_choosing_imports_no_framework():
    code = (
        "import sys; from deepmd.backend.backend import choose_backend; choose_backend(None);"
        "print([m for m in ('torch', 'jax', 'tensorflow', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


HOOKS = [
    (backend.key, hook, target)
    for backend in Backend.get_backends().values()
    for hook, target in backend.hooks.items()
]


@pytest.mark.parametrize(("key", "hook", "target"), HOOKS)
def test_hooks_lead_to_something(key, hook, target):
    """Looked up in the source, so that no framework is loaded."""
    name, _, attribute = target.partition(":")
    path = ROOT.joinpath(*name.split("."))
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    defined = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            defined.add(node.name)
        elif isinstance(node, ast.ImportFrom):
            defined |= {a.asname or a.name for a in node.names}
    assert attribute in defined


def test_missing_hook_says_so():
    class Half(Backend):
        name = "Half"

    with pytest.raises(NotAvailableError, match="Half: evaluating models is not built yet"):
        Half().deep_eval("x")


def test_names_of_model_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    dp, pt = Backend.get_backend("dp"), Backend.get_backend("pt")
    assert output_of("frozen_model", pt) == Path("frozen_model.pth")
    assert output_of("a/b.pb", pt) == Path("a/b.pth")
    assert output_of("b.yaml", dp) == Path("b.yaml")
    # Numbers are no suffixes: run-1.5 and run-1.6 have files of their own.
    assert output_of("run-1.5", dp) == Path("run-1.5.dp")
    assert output_of("run.5a/b", dp) == Path("run.5a/b.dp")
    with pytest.raises(
        InputError, match=r"x\.xyz: no model file ends in \.xyz; PyTorch writes x\.pth"
    ):
        output_of("x.xyz", pt)
    Path("x.pth").touch()
    assert output_of("x.pth", pt) == Path("x.pth")
    with pytest.raises(InputError, match=r"x\.dp: PyTorch writes \.pth, but x\.pth is there and"):
        output_of("x.dp", pt)
    Path("m.dp").touch()
    assert resolve_model("m", "pytorch") == Path("m.dp")
    Path("m.pth").touch()
    assert resolve_model("m", "pytorch") == Path("m.pth")
    assert resolve_model("m", "dp") == Path("m.dp")
    with pytest.raises(ModelFileError, match=r"m\.hlo: model file not found.*m\.dp, m\.pth"):
        existing_model("m.hlo")


def test_plugin_backend_registers():
    @Backend.register("mine", "my")
    class Mine(Backend):
        name = "Mine"
        suffixes = (".mine",)

    try:
        assert Backend.get_backend("my") is Mine
        assert Backend.detect_backend_by_model("a.mine") is Mine
    finally:
        for name in ("mine", "my"):
            module._registry._by_name.pop(name)
