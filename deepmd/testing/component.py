# SPDX-License-Identifier: LGPL-3.0-or-later
"""Tests of every model, whatever it predicts."""

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from deepmd.dpmodel.model import Model, build_model
from deepmd.infer import DeepEval
from deepmd.io.tree import difference
from deepmd.runtime.evaluator import Evaluator
from deepmd.runtime.probes import model_file_dict
from deepmd.testing.backends import SUFFIXES, evaluator, open_backend
from deepmd.testing.systems import randomize, small_system
from deepmd.testing.training import assert_exact_restart, labeled_batch


class ComponentTests:
    """Dictionaries, agreement of backends, files and restarts of models of any output.

    Attributes
    ----------
    cases : dict of str to dict
        Model sections by name, without ``type_map``.
    type_map : list of str
    backends : tuple of str
        Who evaluates them: ``numpy``, ``torch``, ``jax``, ``tensorflow``. Those not installed are skipped.
    files : tuple of str
        Of these, the backends that write the first case as a file, and train it.
    tolerance : float
        By how much of max|x| equal results may differ.
    derivatives : tuple of str
        Those that are evaluated where the model has some.
    """

    cases: ClassVar[dict[str, dict[str, Any]]] = {}
    type_map: ClassVar[list[str]] = ["O", "H"]
    backends: ClassVar[tuple[str, ...]] = ("numpy",)
    files: ClassVar[tuple[str, ...]] = ("numpy", "torch")
    tolerance: ClassVar[float] = 1e-11
    derivatives: ClassVar[tuple[str, ...]] = ("force", "virial")

    # -- what is tested -----------------------------------------------------------------------

    def section(self, case: dict[str, Any]) -> dict[str, Any]:
        """Return the model section of a case."""
        return {"type_map": self.type_map, **case}

    @pytest.fixture
    def model(self, case: dict[str, Any]) -> Model:
        """The neutral model, with random statistics."""
        return randomize(build_model(self.section(case)))

    @pytest.fixture
    def potential(self, model: Model, backend: str) -> Any:
        """The model in a backend."""
        return self.opened(evaluator(backend, model))

    @pytest.fixture
    def system(self, model: Model) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Positions, cell and types."""
        return small_system(model.get_ntypes(), model.get_rcut())

    def pytest_generate_tests(self, metafunc: Any) -> None:
        """Run every test for all cases and backends."""
        if "case" in metafunc.fixturenames:
            metafunc.parametrize("case", list(self.cases.values()), ids=list(self.cases))
        if "first_case" in metafunc.fixturenames:
            metafunc.parametrize(
                "first_case", list(self.cases.values())[:1], ids=list(self.cases)[:1]
            )
        if "backend" in metafunc.fixturenames:
            metafunc.parametrize("backend", self.backends)
        if "writer" in metafunc.fixturenames:
            metafunc.parametrize("writer", [b for b in self.backends if b in self.files])

    def opened(self, made: Evaluator) -> Any:
        """Return what results are asked of."""
        return DeepEval.from_evaluator(made)

    def extra(self, n_atoms: int) -> dict[str, np.ndarray]:
        """Return what a model takes of atoms besides positions and types, (n_atoms, size) by name."""
        return {}

    def evaluate(
        self, potential: Any, coord: Any, cell: Any, atype: Any, **more: Any
    ) -> dict[str, Any]:
        """Evaluate frames (n_frames, n_atoms, 3) or one of them; all results by name.

        What else it takes, ``more``, is that of :meth:`extra`, or the same for every frame.
        """
        coord = np.asarray(coord, dtype=float)
        frames = coord[None] if coord.ndim == 2 else coord
        derivatives = self.derivatives if potential.model.differentiable() else ()
        out: dict[str, Any] = potential.evaluate(
            frames,
            cell,
            atype,
            derivatives=derivatives,
            mixed_type=np.ndim(atype) == 2,
            **{name: self._of_frames(value, frames) for name, value in more.items()},
        )
        return out

    def _of_frames(self, value: np.ndarray, frames: np.ndarray) -> np.ndarray:
        """Give every frame the same values, if they are those of one."""
        return value if value.ndim == 3 else np.tile(value, (len(frames), 1, 1))

    def assert_same(self, got: Any, want: Any, name: str = "") -> None:
        """Compare within the tolerance: arrays, or those of two dictionaries that ``want`` has."""
        if isinstance(want, dict):
            for key, value in want.items():
                self.assert_same(got[key], value, key)
            return
        want = np.asarray(want)
        limit = self.tolerance * max(float(np.abs(want).max(initial=0.0)), 1.0)
        np.testing.assert_allclose(got, want, rtol=0, atol=limit, err_msg=name)

    # -- formats and backends -----------------------------------------------------------------

    def test_dictionary_round_trip(self, model: Model, system: Any) -> None:
        """A model made from its dictionary is the same model."""
        data = model.serialize()
        again = Model.deserialize(data)
        assert difference(data, again.serialize()) is None
        a, b = (self.opened(evaluator("numpy", m)) for m in (model, again))
        want, got = (self.evaluate(p, *system, **self.extra(len(system[0]))) for p in (a, b))
        for name, value in want.items():
            np.testing.assert_array_equal(got[name], value)

    def test_backends_agree(self, model: Model, potential: Any, system: Any) -> None:
        """Every backend gives the numbers of the reference."""
        reference = self.opened(evaluator("numpy", model))
        for cell in (system[1], None):
            given, more = (system[0], cell, system[2]), self.extra(len(system[0]))
            want = self.evaluate(reference, *given, **more)
            self.assert_same(self.evaluate(potential, *given, **more), want)

    def test_export(self, first_case: dict[str, Any], writer: str, tmp_path: Path) -> None:
        """A model file gives what the model gives, and the same model again."""
        model = randomize(build_model(self.section(first_case)))
        backend, name = open_backend(writer), f"model{SUFFIXES[writer]}"
        data = model_file_dict(model, self.section(first_case), None, backend.name)
        backend.deserialize_hook(tmp_path / name, data)
        system = small_system(model.get_ntypes(), model.get_rcut())
        more = self.extra(len(system[0]))
        want = self.evaluate(self.opened(evaluator(writer, model)), *system, **more)
        found = self.opened(DeepEval(tmp_path / name).evaluator)
        self.assert_same(self.evaluate(found, *system, **more), want)
        assert difference(found.model.serialize(), model.serialize()) is None

    def test_restart(self, first_case: dict[str, Any], writer: str, tmp_path: Path) -> None:
        """Two steps, a checkpoint and two more are four steps, bit for bit."""
        model = randomize(build_model(self.section(first_case)))
        section = self.section(first_case)
        batch = labeled_batch(model, extra=self.extra)
        assert_exact_restart(open_backend(writer), model, section, tmp_path, batch=batch)
