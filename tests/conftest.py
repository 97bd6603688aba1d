# SPDX-License-Identifier: LGPL-3.0-or-later
"""What all tests share."""

import functools
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

#: Part of the golden models, inputs and outputs that belongs to the repository.
COMPACT = Path(__file__).resolve().parent / "golden" / "compact"


def _find_reference() -> Path:
    """Return the folder of the environment, the full set beside the repository, or the compact one."""
    if chosen := os.environ.get("DEEPMD_TEST_REFERENCE"):
        return Path(chosen).resolve()
    full = Path(__file__).resolve().parents[2] / "shared" / "reference"
    return full if full.is_dir() else COMPACT


#: Golden models, inputs and outputs.
REFERENCE = _find_reference()


def reference_path(name: str) -> Path:
    """Return a file or folder of the reference data; skip the test where only the full set has it."""
    path = REFERENCE / name
    if REFERENCE == COMPACT and not path.exists():
        pytest.skip(f"{name} is in the full reference data only (../shared/reference)")
    return path


@pytest.fixture(scope="session")
def reference() -> Path:
    """Folder of the reference data."""
    return REFERENCE


@pytest.fixture(scope="session")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path, str], Path]:
    """File of a stored model in another format, made once: ``converted(path, ".pth")``."""
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:  # one folder for all processes of the run
        base = base.parent
    folder = base / "converted"
    folder.mkdir(exist_ok=True)

    def convert(source: Path, suffix: str) -> Path:
        from deepmd.entrypoints.convert_backend import convert_backend

        target = folder / f"{source.parent.name}-{source.stem}{suffix}"
        if not target.exists():
            convert_backend(INPUT=str(source), OUTPUT=str(target))
        return target

    return convert


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark tests that ask for the reference data, or for a case of a module that reads them."""
    names, wanted = vars(getattr(item, "module", None) or item), getattr(item, "fixturenames", ())
    sources = {getattr(v, "__module__", None) or getattr(v, "__name__", "") for v in names.values()}
    reads = "REFERENCE" in names or "golden.cases" in sources
    if "reference" in wanted or ("case" in wanted and reads):
        item.add_marker("golden")


@functools.cache
def _quick_options() -> dict[str, Any]:
    """Return options for quick compilation that this version of XLA knows."""
    import jax

    options = {"xla_cpu_use_fusion_emitters": False}
    try:
        jax.jit(lambda: 0, compiler_options=options).lower().compile()
    except Exception:  # noqa: BLE001
        return {}
    return options


def compile_quickly() -> None:
    """Let XLA compile without most of its optimizations."""
    import jax
    import optax  # noqa: F401  (its functions are not to be compiled with options of their own)

    options = _quick_options()
    jax.config.update("jax_disable_most_optimizations", True)
    jax.jit = functools.partial(jax.jit, compiler_options=options)


@pytest.fixture
def quick_programs(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let XLA compile without most of its optimizations: the same numbers in a third of the time."""
    jax = pytest.importorskip("jax", reason="jax is not installed")
    monkeypatch.setattr(jax, "jit", jax.jit)  # restores it
    before = jax.config.read("jax_disable_most_optimizations")
    compile_quickly()
    yield
    jax.config.update("jax_disable_most_optimizations", before)


@pytest.fixture
def eager_functions(monkeypatch):
    """Let TensorFlow run functions as they are, without tracing: the same numbers in less time."""
    tf = pytest.importorskip("tensorflow", reason="tensorflow is not installed")
    from deepmd.runtime import programs
    from deepmd.tf import evaluator, train_step

    def eager(function, *specs):
        return lambda *args: function(*tf.nest.map_structure(tf.convert_to_tensor, args))

    monkeypatch.setattr(programs, "_made", type(programs._made)())
    for module in (evaluator, train_step):
        monkeypatch.setattr(module, "traced", eager)


@pytest.fixture
def evaluated_once(request: pytest.FixtureRequest) -> None:
    """Do without tracing where the ``backend`` of a test that evaluates once is TensorFlow."""
    if request.node.callspec.params["backend"] == "tensorflow":
        request.getfixturevalue("eager_functions")


#: Folders whose tests open models as a user does: by the native engine where it knows them.
AS_USERS = ("infer", "lammps", "ipi", "docs", "examples")


@pytest.fixture(scope="module", autouse=True)
def _log_level() -> Iterator[None]:
    """Leave the level of log lines as it was, so that modules do not depend on their order."""
    logger = logging.getLogger("deepmd")
    before = logger.level
    yield
    logger.setLevel(before)


@pytest.fixture(scope="module", autouse=True)
def _evaluated_by_frameworks(request: pytest.FixtureRequest) -> Iterator[None]:
    """Let the framework of a file evaluate it where a test asks for no engine.

    The tests of frameworks and of their files would test the native engine otherwise.
    """
    folder = request.path.relative_to(Path(__file__).parent).parts[0]
    with pytest.MonkeyPatch.context() as patch:
        if folder not in AS_USERS:
            from deepmd.infer import deep_eval

            def chosen(path: Any, head: str | None = None, engine: str = "auto") -> Any:
                return opened(path, head, "framework" if engine == "auto" else engine)

            opened = deep_eval.open_native
            patch.setattr(deep_eval, "open_native", chosen)
        yield
