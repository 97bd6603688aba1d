# SPDX-License-Identifier: LGPL-3.0-or-later
"""Frozen graphs of DeePMD-kit's TensorFlow, read without TensorFlow, give what they gave there."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import REFERENCE
from golden.cases import path, select
from golden.test_all_members import check_sets

pytest.importorskip("google.protobuf", reason="protobuf is not installed")

from deepmd.base.errors import ModelFileError, NotAvailableError
from deepmd.graphs import section
from deepmd.graphs.checkpoints import read_checkpoint
from deepmd.graphs.files import read_pb, tree_of
from deepmd.graphs.models import open_model
from deepmd.infer import DeepEval
from deepmd.io import load_model
from deepmd.io.graph import graph_message, read_graph, write_graph
from deepmd.io.tree import difference

CASES = [pytest.param(c, id=c["name"]) for c in select() if "pb" in c["files"]]
#: The graphs of these do not tell all: the bias of a dipole turns with nothing and is left out, that
#: of a polarizability is stored as the mean of its diagonal.
PARTLY = ("dipole", "polar")
INPUTS = ("coord", "box", "atype", "fparam", "aparam")
FILES = Path(__file__).parents[1] / "golden" / "files"
#: Small models that DeePMD-kit 3.2.0 trained and froze, without the nodes of derivatives, each with
#: two periodic and two open frames: attention; one-sided strip mode; a type embedding of the whole
#: model; a fitting as wide as the descriptor; a hybrid with excluded pairs; a
#: full polarizability with a scale per type; se_a_ebd_v2, and a hybrid with a type embedding;
#: se_a_mask with hidden atoms, which has open frames only; a sum over fragments, with periodic ones.
BLACK_BOX = (
    "att2_concat",
    "att0_strip_one",
    "a_typ_two",
    "fit_width",
    "hyb_a_a_excl",
    "pol",
    "types_v2_two",
    "types_hyb",
    "mask",
    "pairwise",
)
#: Compressed by DeePMD-kit with long intervals, so that tables differ from networks.
COMPRESSED = ("a_two_compressed", "att0_strip_compressed", "e3_compressed")
CHECKPOINT = REFERENCE / "checkpoints" / "tf_checkpoint" if REFERENCE else None


def opened(file) -> DeepEval:
    """Open a graph for evaluation with NumPy."""
    return DeepEval.from_evaluator(open_model(file))


@pytest.mark.parametrize("case", CASES)
def test_graphs_are_the_models_they_were_made_from(case):
    tree, source = read_pb(path(case, "pb")), load_model(path(case, "dp"))
    if case["kind"] in PARTLY:
        for data in (tree, source):
            data["model"]["@variables"].pop("out_bias")
    assert difference(tree["model"], source["model"]) is None
    assert tree["backend"] == "TensorFlow"


@pytest.mark.parametrize("case", CASES)
def test_graphs_give_the_numbers_of_deepmd_kit(case):
    check_sets(case, opened(path(case, "pb")))


@pytest.mark.parametrize("case", CASES)
def test_graphs_without_a_script_tell_the_same_model(case, monkeypatch):
    """Those of DeePMD-kit 1 have none; operators, names and shapes say what it says."""
    graph = read_graph(path(case, "pb"))
    with_script = tree_of(graph)["model"]
    monkeypatch.setattr(section, "script_of", lambda graph: None)
    if case["kind"] == "polar" or case["descriptor"] == "dpa1":
        with pytest.raises(ModelFileError, match="no training script"):
            tree_of(graph)
    else:
        assert difference(tree_of(graph)["model"], with_script) is None


def test_a_graph_with_a_modifier_has_its_dipole_model_too():
    """Trained and frozen by DeePMD-kit 3.2.0, whose program has constants in single precision."""
    wanted, file = np.load(FILES / "tf_dplr.npz"), FILES / "tf_dplr.pb"
    found = opened(file).evaluate(wanted["coord"], wanted["box"], wanted["atype"])
    for name in ("energy", "force", "virial"):
        want = wanted[name].reshape(found[name].shape)
        assert np.abs(found[name] - want).max() <= 1e-6 * np.abs(want).max(), name
    tree = read_pb(file)
    assert tree["model_def_script"]["modifier"]["sys_charge_map"] == [6.0, 1.0]
    assert tree["model"]["modifier"]["model"]["fitting"]["type"] == "dipole"


def test_checkpoint_is_the_model_that_is_frozen_from_it():
    checkpoint = read_checkpoint(CHECKPOINT / "model.ckpt-4.meta")
    assert checkpoint.step == 4
    frozen = read_pb(CHECKPOINT / "frozen.pb")
    assert difference(checkpoint.tree()["model"], frozen["model"]) is None


def test_frozen_checkpoint_gives_the_numbers_of_deepmd_kit():
    compare(opened(CHECKPOINT / "frozen.pb"), np.load(CHECKPOINT.with_name("tf_checkpoint.npz")))


def compare(potential, stored):
    """Compare the results for all sets of inputs in a file with the stored ones, to 1e-10."""
    for name in {key.partition("/")[0] for key in stored}:
        given = {k: stored[f"{name}/{k}"] for k in INPUTS if f"{name}/{k}" in stored}
        coord, cell = given.pop("coord"), given.pop("box", None)
        got = potential.evaluate(
            coord, cell, given.pop("atype"), derivatives=("force", "virial", "atom_virial"), **given
        )
        outputs = [k for k in stored if k.startswith(f"{name}/out/")]
        assert outputs
        for key in outputs:
            result, want = got.get(key.rpartition("/")[2]), stored[key]
            if result is not None:
                limit = 1e-10 * max(np.abs(want).max(), 0.01)
                assert np.abs(result.reshape(want.shape) - want).max() <= limit, key


@pytest.mark.parametrize("name", BLACK_BOX + COMPRESSED)
def test_graphs_that_deepmd_kit_trained_give_its_numbers(name):
    compare(opened(FILES / f"tf_{name}.pb"), np.load(FILES / f"tf_{name}.npz"))


def test_a_sum_over_fragments_has_one_type_embedding(changed):
    tree = read_pb(FILES / "tf_pairwise.pb")
    assert tree["model_def_script"]["type"] == "pairwise_dprc"
    parts = [tree["model"][name]["descriptor"] for name in ("qm_model", "qmmm_model")]
    assert difference(parts[0]["type_embedding"], parts[1]["type_embedding"]) is None
    assert difference(parts[0]["@variables"], parts[1]["@variables"]) is not None


def test_an_array_of_no_fragment_is_refused(changed):
    def rename(nodes, raw):
        nodes["layer_0_qm/matrix"].name = "layer_0/matrix"

    assert "neither of its models" in refused(changed(rename, FILES / "tf_pairwise.pb"))


def test_smooth_type_embeddings_are_refused(tmp_path):
    """They vanish by another function in DeePMD-kit's TensorFlow."""
    raw = graph_message(FILES / "tf_att2_concat.pb")
    (node,) = [n for n in raw.node if n.name == section.SCRIPT]
    text = node.attr["value"].tensor.string_val
    text[0] = text[0].replace(b'"smooth_type_embedding":false', b'"smooth_type_embedding":true')
    write_graph(tmp_path / "smooth.pb", raw)
    assert "another function" in refused(tmp_path / "smooth.pb", NotAvailableError)


def test_tensorflow_is_not_imported():
    code = (
        "import sys; sys.modules['tensorflow'] = None\n"
        "from deepmd.infer import DeepPot\n"
        f"print(DeepPot({str(CHECKPOINT / 'frozen.pb')!r}).get_type_map())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["['O',", "'H']"]


# -- graphs that are wrong ------------------------------------------------------------------------


@pytest.fixture
def changed(tmp_path):
    """Return a function that writes the frozen graph with a change to its nodes by name."""

    def write(change, source=None):
        raw = graph_message(source or CHECKPOINT / "frozen.pb")
        change({node.name: node for node in raw.node}, raw)
        file = tmp_path / "changed.pb"
        write_graph(file, raw)
        return file

    return write


def refused(file, kind=ModelFileError) -> str:
    with pytest.raises(kind) as caught:
        read_pb(file)
    text = str(caught.value)
    assert text.startswith(f"{file}: ") and "\n" not in text
    return text


def test_a_modifier_with_a_missing_attribute_is_refused(changed):
    def cut(nodes, raw):
        raw.node.remove(nodes["modifier_attr/mdl_charge_map"])

    file = changed(cut, FILES / "tf_dplr.pb")
    assert "its modifier has no model_charge_map" in refused(file)


def test_missing_weights_are_named(changed):
    def rename(nodes, raw):
        nodes["layer_1_type_1/matrix"].name = "dense_1_type_1/matrix"

    assert 'no node "layer_1_type_1/matrix"' in refused(changed(rename))


def test_unknown_weights_are_named(changed):
    def add(nodes, raw):
        extra = raw.node.add()
        extra.CopyFrom(nodes["layer_1_type_1/matrix"])
        extra.name = "layer_2_type_1/matrix"

    assert "layer_2_type_1/matrix" in refused(changed(add))


def test_weights_of_another_shape_are_named(changed):
    def copy(nodes, raw):
        source, target = nodes["layer_0_type_0/bias"], nodes["final_layer_type_0/bias"]
        target.attr["value"].CopyFrom(source.attr["value"])

    text = refused(changed(copy))
    assert "final_layer_type_0/bias" in text and "(6,)" in text


@pytest.mark.parametrize(("attribute", "named"), [("rcut_r", "rcut"), ("rcut_r_smth", "rcut_smth")])
def test_cutoffs_that_are_not_those_of_the_script_are_refused(changed, attribute, named):
    def move(nodes, raw):
        nodes["ProdEnvMatA"].attr[attribute].f += 0.1

    assert f"{named} is " in refused(changed(move))


def test_types_that_are_not_those_of_the_script_are_refused(changed):
    def swap(nodes, raw):
        nodes["model_attr/tmap"].attr["value"].tensor.string_val[0] = b"H O"

    assert "['H', 'O']" in refused(changed(swap))


def test_other_graphs_are_no_models(changed):
    def drop(nodes, raw):
        kept = [node for node in raw.node if "attr" not in node.name]
        del raw.node[:]
        raw.node.extend(kept)

    assert "neither a training script nor names of types" in refused(changed(drop))


def test_biases_that_the_graph_does_not_add_are_left_out(changed):
    """As of DeePMD-kit 1, where they are the biases of the last layers."""

    def cut(nodes, raw):
        for node in nodes.values():
            for k, name in enumerate(node.input):
                if name == "fitting_attr/t_bias_atom_e/read":
                    node.input[k] = "fitting_attr/t_nothing"

    before = read_pb(CHECKPOINT / "frozen.pb")["model"]["fitting"]["@variables"]["bias_atom_e"]
    after = read_pb(changed(cut))["model"]["fitting"]["@variables"]["bias_atom_e"]
    assert before.all() and not after.any()


def test_deviations_of_the_output_go_into_the_last_layers(changed):
    def widen(nodes, raw):
        tensor = nodes["model_attr/model_attr/t_out_std"].attr["value"].tensor
        tensor.tensor_content = np.array([2.0, 0.5]).tobytes()
        del tensor.double_val[:]

    before = read_pb(CHECKPOINT / "frozen.pb")["model"]["fitting"]
    after = read_pb(changed(widen))["model"]
    assert (after["@variables"]["out_std"] == 1.0).all()
    for t, factor in enumerate((2.0, 0.5)):
        old, new = (
            f["nets"]["networks"][t]["layers"][-1]["@variables"] for f in (before, after["fitting"])
        )
        assert np.array_equal(new["w"], factor * old["w"])
        assert np.array_equal(new["b"], factor * old["b"])


@pytest.mark.parametrize(
    ("key", "value"),
    [("use_srtab", "table"), ("modifier", {"type": "dipole_charge"}), ("type", "pairtab")],
    # A modifier has attributes of its own in the graph; a section alone tells nothing of its model.
)
def test_parts_that_are_not_read_are_named(changed, key, value):
    """A pair table must not be taken from a file of the name in the script, wherever that is."""

    def extend(nodes, raw):
        text = nodes[section.SCRIPT].attr["value"].tensor.string_val
        script = json.loads(text[0])
        script["model"][key] = value
        text[0] = json.dumps(script).encode()

    named = f"type {value}" if key == "type" else key
    assert f"models with {named} are not read" in refused(changed(extend), NotAvailableError)
