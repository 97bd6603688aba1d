"""Model files: the neutral dictionary, packed, and probes that the file must reproduce."""

import io
import zipfile

from deepmd.base.errors import ModelFileError
from deepmd.base.files import replacing
from deepmd.io.guard import opening
from deepmd.io.packed import pack_tree, unpack_tree
from deepmd.runtime.probes import compare_probes
from deepmd_board.evaluator import BoardEvaluator


def write_model(path, data):
    """Write a file; it is opened again and compared before it appears under its name."""
    tree, arrays = pack_tree(data)
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, part in (("model.json", tree), ("arrays.npz", arrays)):
            archive.writestr(zipfile.ZipInfo(name), part)
    with replacing(path) as file:
        file.write(content.getvalue())
        worst = compare_probes(open_model(file.path), data["probes"]) if "probes" in data else None
        if worst is not None:
            raise ModelFileError(worst, where=path, fix="no file was written")


def read_model(path):
    """Read the dictionary of a file; no code of it runs."""
    with opening(path), zipfile.ZipFile(path) as archive:
        return unpack_tree(archive.read("model.json"), archive.read("arrays.npz"))


def open_model(path, head=None):
    """Open a file for evaluation."""
    return BoardEvaluator.of_tree(read_model(path), path, head)
