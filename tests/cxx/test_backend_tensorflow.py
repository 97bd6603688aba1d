# SPDX-License-Identifier: LGPL-3.0-or-later
"""The TensorFlow backend of the C++ library, driven through the C functions of backend.h."""

import threading

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

from conftest import REFERENCE  # noqa: E402
from cxx import backend_abi as abi  # noqa: E402
from cxx.frames import check_extended, close, frame_of, inputs_of  # noqa: E402
from golden import cases  # noqa: E402
from golden.make_ours import OURS  # noqa: E402
from pt.models import model, section  # noqa: E402

from deepmd.dpmodel.model import Model, prepare  # noqa: E402
from deepmd.dpmodel.model.info import ModelInfo  # noqa: E402
from deepmd.dpmodel.neighbors import batch_edges  # noqa: E402
from deepmd.graphs import ours  # noqa: E402
from deepmd.io import load_model  # noqa: E402
from deepmd.runtime.probes import model_file_dict  # noqa: E402
from deepmd.tf.files import write_pb  # noqa: E402

LIBRARY = abi.find_library("libdeepmd_backend_tensorflow.so")
pytestmark = pytest.mark.skipif(
    LIBRARY is None, reason="libdeepmd_backend_tensorflow is not built, or DEEPMD_TEST_LIB not set"
)

#: One golden case per form of neighbor tables.
DESCRIPTORS = [
    "se_e2_a_twoside",
    *(
        pytest.param(name, marks=pytest.mark.slow)  # tracing takes seconds
        for name in ("dpa1_l2_smooth", "dpa3_basic", "dipole_se_e2_a", "ener_fparam_aparam_default")
    ),
]
#: SavedModels of DeePMD-kit; XLA compiles them for every size.
FOREIGN = [
    "se_e2_a_oneside",
    *(pytest.param(name, marks=pytest.mark.slow) for name in ("dpa1_l2_smooth", "dpa3_basic")),
]


@pytest.fixture(scope="module")
def functions():
    return abi.load(LIBRARY)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A small model with parameters, and its file."""
    built = model(numb_fparam=2, numb_aparam=1, type_one_side=True)
    path = tmp_path_factory.mktemp("pb") / "small.pb"
    write_pb(path, model_file_dict(built, section(), 0.5, "TensorFlow"))
    return built, path


def reference_results(built, inputs):
    """Results of the model in NumPy."""
    return {k: np.asarray(v) for k, v in built.forward_edges(inputs).items()}


# -- our own files --------------------------------------------------------------------------------


def test_query(functions, small):
    built, path = small
    handle = abi.Handle(functions, path)
    assert handle.entries == abi.EDGES
    assert ModelInfo.from_dict(handle.description) == built.info(probes=len(handle.probes))
    assert handle.framework == f"TensorFlow {tf.__version__}"
    assert len(handle.probes) == 2
    assert {"coord", "atype", "value", "force", "virial", "fparam"} <= set(handle.probes[0])
    handle.close()


@pytest.mark.parametrize("natoms", [(7, 5, 1), (1,), (40,)])
def test_evaluate(functions, small, natoms):
    built, path = small
    inputs = inputs_of(built, natoms)
    handle = abi.Handle(functions, path, content=path.read_bytes())
    expected = reference_results(built, inputs)
    found = handle.evaluate(inputs)
    close(found, expected, 1e-12)
    values = handle.evaluate(inputs, gradients=False)
    assert list(values) == ["energy"]
    close(values, {"energy": expected["energy"]}, 1e-12)
    # Results do not depend on the number of threads that share an operator.
    close(handle.evaluate(inputs, threads=2), found)
    handle.close()


@pytest.mark.parametrize("name", DESCRIPTORS)
def test_descriptors(functions, reference, tmp_path, name):
    case = cases.named(name)
    data = load_model(cases.path(case, "dp"))
    path = tmp_path / "model.pb"
    write_pb(path, data)
    built = Model.deserialize(data["model"])
    given = frame_of(case, "pbc")
    given.edges = batch_edges(given, built.get_rcut())
    inputs = prepare(given, built.packings())
    handle = abi.Handle(functions, path)
    close(handle.evaluate(inputs), reference_results(built, inputs), 1e-12)
    handle.close()


def test_threads_at_once(functions, small):
    built, path = small
    handle = abi.Handle(functions, path)
    frames = [inputs_of(built, natoms) for natoms in ((7, 5), (12,), (3, 3, 3), (20,))]
    expected = [handle.evaluate(frame) for frame in frames]
    wrong = []

    def work(k):
        for _ in range(10):
            out = handle.evaluate(frames[k], threads=1)
            wrong.extend(n for n in out if not np.array_equal(out[n], expected[k][n]))

    workers = [threading.Thread(target=work, args=(k,)) for k in range(len(frames))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong
    handle.close()


@pytest.mark.parametrize("suffix", ["savedmodel", "savedmodeltf"])
def test_saved_models(functions, suffix):
    """Those of this program have the entry of all its files, a description and probes."""
    folder = OURS / "v2" / "models"
    built = Model.deserialize(load_model(folder / "parameters.dp")["model"])
    handle = abi.Handle(functions, f"{folder / 'parameters'}.{suffix}/")
    assert handle.entries == abi.EDGES and len(handle.probes) >= 1
    assert ModelInfo.from_dict(handle.description) == built.info(probes=len(handle.probes))
    inputs = inputs_of(built)
    close(handle.evaluate(inputs), reference_results(built, inputs), 1e-12)
    handle.close()


# -- files of DeePMD-kit --------------------------------------------------------------------------


@pytest.mark.parametrize("name", FOREIGN)
def test_saved_models_of_deepmd_kit(functions, name):
    path = REFERENCE / "models" / f"{name}.savedmodel"
    if not path.is_dir():
        pytest.skip("the reference data are not here")
    case = cases.named(name)
    handle = abi.Handle(functions, f"{path}/")
    check_extended(handle, case, ["pbc"])
    handle.close()


def test_frozen_graphs_of_deepmd_kit_are_to_be_converted(functions):
    path = REFERENCE / "models" / "se_e2_a_twoside.pb"
    if not path.is_file():
        pytest.skip("the reference data are not here")
    with pytest.raises(abi.BackendError, match=r"twoside\.pb: .*dp convert-backend"):
        abi.Handle(functions, path)


# -- wrong files ----------------------------------------------------------------------------------


def graph_with(small, change, close=ours.closed):
    """Bytes of the small model's graph after a change, with a checksum that is right."""
    graph = tf.compat.v1.GraphDef.FromString(small[1].read_bytes())
    assert graph.node[-1].name == ours.DIGEST
    del graph.node[-1]
    change(graph)
    return close(graph.SerializeToString())


def flipped(small):
    """One bit of the largest constant is another one."""
    data = bytearray(small[1].read_bytes())
    data[len(data) // 2] ^= 1
    return bytes(data)


def writes_a_file(graph):
    node = graph.node.add(name="harm", op="WriteFile")
    node.input.extend(["deepmd/metadata", "deepmd/metadata"])


def has_a_name_of_two_lines(graph):
    graph.node.add(name="harm", op="Write\nFile")


def calls_a_function(graph):
    graph.library.function.add().signature.name = "harm"


def loses_an_output(graph):
    for node in graph.node:
        if node.name == "deepmd/out/energy":
            node.name = "deepmd/out/other"


WRONG = {
    "empty": (lambda small: b"", "empty"),
    "hdf5": (lambda small: b"\x89HDF\r\n\x1a\n" + bytes(64), "HDF5"),
    "archive": (lambda small: b"PK\x03\x04" + bytes(64), "archive"),
    "text": (lambda small: b"not a model at all", "damaged|no evaluation entry"),
    "cut off": (lambda small: small[1].read_bytes()[:-500], "cut off or damaged"),
    "harm": (lambda small: graph_with(small, writes_a_file), "operator WriteFile"),
    "two lines": (
        lambda small: graph_with(small, has_a_name_of_two_lines),
        r"operator Write\?File",
    ),
    "flipped": (flipped, "its checksum differs"),
    "no checksum": (lambda small: graph_with(small, id, bytes), "its checksum differs or is not"),
    "functions": (lambda small: graph_with(small, calls_a_function), "calls functions"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_wrong_files(functions, small, tmp_path, kind):
    make, words = WRONG[kind]
    path = tmp_path / "model.pb"
    path.write_bytes(make(small))
    with pytest.raises(abi.BackendError, match=words) as caught:
        abi.Handle(functions, path)
    assert "model.pb" in str(caught.value)
    assert ";" in str(caught.value)  # how to mend it


def test_missing_parts(functions, small, tmp_path):
    with pytest.raises(abi.BackendError, match=r"none\.pb: cannot be opened"):
        abi.Handle(functions, tmp_path / "none.pb")
    (tmp_path / "none.savedmodel").mkdir()
    with pytest.raises(abi.BackendError, match=r"none\.savedmodel.*cannot be opened"):
        abi.Handle(functions, tmp_path / "none.savedmodel")
    path = tmp_path / "model.pb"
    path.write_bytes(graph_with(small, loses_an_output))
    handle = abi.Handle(functions, path)
    with pytest.raises(abi.BackendError, match=r"no node deepmd/out/energy"):
        handle.evaluate(inputs_of(small[0]))
    handle.close()
