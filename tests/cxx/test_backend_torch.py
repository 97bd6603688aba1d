# SPDX-License-Identifier: LGPL-3.0-or-later
"""The PyTorch backend of the C++ library, driven through the C functions of backend.h."""

import resource
import threading
import zipfile

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from cxx import backend_abi as abi  # noqa: E402
from cxx.frames import check_extended, close, frame_of, inputs_of  # noqa: E402
from golden import cases  # noqa: E402
from pt.models import model, section  # noqa: E402

from deepmd.dpmodel.model import Model, prepare  # noqa: E402
from deepmd.dpmodel.model.info import ModelInfo  # noqa: E402
from deepmd.dpmodel.neighbors import batch_edges  # noqa: E402
from deepmd.io import load_model  # noqa: E402
from deepmd.pt.torchscript.export import read_pth, write_pth  # noqa: E402
from deepmd.runtime.probes import model_file_dict  # noqa: E402

LIBRARY = abi.find_library("libdeepmd_backend_torch.so")
pytestmark = pytest.mark.skipif(
    LIBRARY is None, reason="libdeepmd_backend_torch is not built, or DEEPMD_TEST_LIB not set"
)

#: One golden case per descriptor and per form of neighbor tables.
DESCRIPTORS = [
    "se_e2_a_twoside",
    *(
        pytest.param(name, marks=pytest.mark.slow)  # tracing takes seconds
        for name in (
            "se_e2_r_twoside",
            "se_e3_basic",
            "se_e3_tebd_strip",
            "dpa1_l2_smooth",
            "se_atten_v2_l0",
            "dpa2_three_body",
            "dpa3_basic",
            "hybrid_a_r",
            "linear_dp_tab_mean",
            "dipole_se_e2_a",
            "polar_se_e2_a",
            "property_intensive",
            "ener_fparam_aparam_default",
        )
    ),
]
#: Files of DeePMD-kit: typed and mixed lists, messages, parameters, all kinds of outputs.
FOREIGN = [
    "se_e2_a_oneside",
    "dpa1_l2_concat",
    "dpa2_basic",
    "dpa3_chg_spin",
    "ener_fparam_aparam_default",
    "dipole_se_e2_a",
    "polar_se_e2_a",
    "dos_se_e2_a",
    "property_intensive",
    "zbl_dpa1_l0",
]


@pytest.fixture(scope="module")
def functions():
    return abi.load(LIBRARY)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A small model with parameters, and its file."""
    built = model(numb_fparam=2, numb_aparam=1, type_one_side=True)
    path = tmp_path_factory.mktemp("pth") / "small.pth"
    write_pth(path, model_file_dict(built, section(), 0.5, "PyTorch"))
    return built, path


def reference_results(path, inputs):
    """What the program in the file gives when Python calls it."""
    program = torch.jit.load(str(path))
    with torch.no_grad():
        raw = program.forward_edges(*inputs.map(lambda x: torch.from_numpy(np.array(x))))
    return {k: v.numpy() for k, v in raw.items()}


# -- our own files --------------------------------------------------------------------------------


def test_query(functions, small):
    built, path = small
    handle = abi.Handle(functions, path)
    assert handle.entries == abi.EDGES | abi.COTANGENTS
    # The text of the file, as Python reads it.
    info = ModelInfo.from_dict(handle.description)
    assert info == built.info(probes=len(handle.probes))
    assert handle.sizes() == {"fparam": 2, "aparam": 1}
    assert handle.framework.startswith(f"PyTorch {torch.__version__.split('+')[0]}")
    handle.close()


def test_probes_are_those_of_the_file(functions, small):
    _, path = small
    handle = abi.Handle(functions, path)
    frames = read_pth(path)["probes"]["frames"]
    assert len(handle.probes) == len(frames) > 0
    for probe, frame in zip(handle.probes, frames, strict=True):
        stored = frame["@variables"]
        for name in ("coord", "atype", "force", "virial", "fparam", "aparam"):
            assert np.array_equal(np.ravel(probe[name]), stored[name].ravel()), name
        assert probe["value"] == stored["energy"].ravel()
        assert ("cell" in probe) == (stored["cell"] is not None)
    handle.close()


def test_single_precision_is_told(functions, tmp_path):
    path = tmp_path / "single.pth"
    write_pth(path, model_file_dict(model(precision="float32"), section(), None, "PyTorch"))
    handle = abi.Handle(functions, path)
    assert handle.description["precision"] == "float32"
    handle.close()


@pytest.mark.parametrize("natoms", [(7, 5, 1), (1,), (40,)])
def test_evaluate(functions, small, natoms):
    built, path = small
    inputs = inputs_of(built, natoms)
    handle = abi.Handle(functions, path, content=path.read_bytes())
    expected = reference_results(path, inputs)
    close(handle.evaluate(inputs), expected)
    values = handle.evaluate(inputs, gradients=False)
    assert list(values) == ["energy"]
    close(values, {"energy": expected["energy"]})
    handle.close()


def test_cotangents(functions, small):
    """The vector–Jacobian product is that of Python, and ones give the gradient of the sum."""
    built, path = small
    inputs = inputs_of(built)
    handle = abi.Handle(functions, path)
    n = len(inputs.atype)
    for cotangent in (np.random.default_rng(0).normal(size=(n, 1)), np.ones((n, 1))):
        expected = built.forward_edges(inputs, cotangent={"energy": cotangent})
        close(handle.evaluate(inputs, cotangent=cotangent), dict(expected), 1e-12)
    gradient = handle.evaluate(inputs)["energy_grad"][:, 0, :]
    assert np.array_equal(handle.evaluate(inputs, cotangent=np.ones((n, 1)))["vjp"], gradient)
    handle.close()


def test_arrays_of_other_kinds_are_refused(functions, small):
    built, path = small
    inputs = inputs_of(built)
    handle = abi.Handle(functions, path)
    vec = np.ascontiguousarray(inputs.vec)
    elsewhere = abi.view(vec)
    elsewhere.device = abi.CUDA
    with pytest.raises(abi.BackendError, match="vec lies on device 2"):
        handle.evaluate(inputs, vec=elsewhere)
    with pytest.raises(abi.BackendError, match=r"vec has numbers of type 2.*takes float64"):
        handle.evaluate(inputs, vec=abi.view(vec.astype(np.int64)))
    handle.close()


@pytest.mark.parametrize("name", DESCRIPTORS)
def test_descriptors(functions, reference, tmp_path, name):
    case = cases.named(name)
    data = load_model(cases.path(case, "dp"))
    path = tmp_path / "model.pth"
    write_pth(path, data)
    built = Model.deserialize(data["model"])
    given = frame_of(case, "pbc")
    given.edges = batch_edges(given, built.get_rcut())
    inputs = prepare(given, built.packings())
    handle = abi.Handle(functions, path)
    close(handle.evaluate(inputs), reference_results(path, inputs))
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

    before = torch.get_num_threads()
    workers = [threading.Thread(target=work, args=(k,)) for k in range(len(frames))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong
    assert torch.get_num_threads() == before
    handle.close()


def test_memory_does_not_grow(functions, small):
    built, path = small
    inputs = inputs_of(built)
    content = path.read_bytes()

    def cycle(times):
        for _ in range(times):
            handle = abi.Handle(functions, path, content=content)
            handle.evaluate(inputs)
            handle.close()

    cycle(10)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    cycle(30)
    # The file alone has 100 kB, the open program more: keeping any of them would show.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2048


# -- files of DeePMD-kit --------------------------------------------------------------------------


@pytest.mark.parametrize("name", FOREIGN)
def test_files_of_deepmd_kit(functions, reference, name):
    case = cases.named(name)
    handle = abi.Handle(functions, cases.path(case, "pth"))
    check_extended(handle, case, [s for s in ("pbc", "dense") if s in case["sets"]])
    handle.close()


# -- wrong files ----------------------------------------------------------------------------------


def checkpoint(path):
    torch.save({"model": {"w": torch.zeros(3)}}, path)


def foreign_script(path):
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), str(path))


def archive(path):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("hello/there.txt", "nothing")


WRONG = {
    "empty": (lambda path: path.write_bytes(b""), "empty"),
    "text": (lambda path: path.write_text("not a model at all"), "no TorchScript file"),
    "pickle": (lambda path: path.write_bytes(b"\x80\x02}q\x00."), "Python pickle"),
    "hdf5": (lambda path: path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(64)), "HDF5"),
    "checkpoint": (checkpoint, "checkpoint of training"),
    "archive": (archive, "no archive of PyTorch"),
    "program": (foreign_script, "holds no model"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_wrong_files(functions, tmp_path, kind):
    write, words = WRONG[kind]
    path = tmp_path / "model.pth"
    write(path)
    with pytest.raises(abi.BackendError, match=words) as caught:
        abi.Handle(functions, path)
    assert "model.pth" in str(caught.value)
    assert ";" in str(caught.value)  # how to mend it


def test_missing_file(functions, tmp_path):
    with pytest.raises(abi.BackendError, match=r"none\.pth: cannot be opened"):
        abi.Handle(functions, tmp_path / "none.pth")
    with pytest.raises(abi.BackendError, match="folder"):
        abi.Handle(functions, tmp_path)


@pytest.mark.parametrize("share", [0.1, 0.6, 0.99])
def test_truncated_file(functions, small, tmp_path, share):
    content = small[1].read_bytes()
    path = tmp_path / "half.pth"
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(abi.BackendError, match="incomplete"):
        abi.Handle(functions, path)
    with pytest.raises(abi.BackendError, match="incomplete"):
        abi.Handle(functions, path, content=path.read_bytes())


def test_spins(functions, reference, converted):
    """What files with spins say about them; callers that know no spins are refused."""
    theirs = cases.path(cases.named("spin_se_e2_a"), "pth")
    ours = converted(cases.path(cases.named("spin_dpa1"), "dp"), ".pth")
    for path in (theirs, ours):
        handle = abi.Handle(functions, path)
        assert handle.entries & ~abi.COTANGENTS == abi.EXTENDED
        scale = np.array(handle.description["spin_scale"])
        assert scale.max() > 0
        assert np.array_equal(scale != 0, handle.description["use_spin"])
        zero, nobody, alone = np.zeros((1, 3)), np.full((1, 1), -1), np.zeros(1)
        with pytest.raises(abi.BackendError, match="spins of the atoms"):
            handle.evaluate_extended(zero, alone, nobody, alone, {}, {})
        handle.close()
