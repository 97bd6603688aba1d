# SPDX-License-Identifier: LGPL-3.0-or-later
"""The commands of ``dp`` and their options, as tables. Only a command that runs is imported."""

import argparse
from typing import Any

from deepmd.base.errors import InputError, did_you_mean
from deepmd.base.log import LEVELS
from deepmd.entrypoints.options import Options, alternatives, option

MODEL = option("-m --model", "model file or checkpoint", "frozen_model")
SYSTEM = option("-s --system", "system, or folder that is searched for systems", ".")
DATA = [SYSTEM, option("-f --datafile", "text file with one system per line")]
HEAD = option("--head --model-branch", "branch of a multi-task model", dest="head", metavar="NAME")
KEYS = option(
    "--keys",
    "names of labels in files that ASE reads, as energy=REF_energy; an empty name leaves it out",
    nargs="+",
    metavar="LABEL=NAME",
)
MPI_LOG = option(
    "-m --mpi-log",
    "which processes write log lines",
    "master",
    choices=["master", "collect", "workers"],
)
#: Options of every command.
LOG = [
    option(
        "-v --log-level",
        "which log lines appear, by name or number",
        "INFO",
        type=str.upper,
        choices=list(LEVELS),
    ),
    option("-l --log-path", "write the log lines here, too", metavar="FILE"),
]
#: Models of "dp model-devi".
GRAPHS = ["graph.000", "graph.001", "graph.002", "graph.003"]
DTYPES = ["fp32", "fp64", "native"]
PRECISION = option(
    "--precision",
    "number format of the networks in the file; vectors and sums stay float64",
    choices=["float64", "float32"],
)
#: What ``dp show`` tells.
ATTRIBUTES = (
    "model-branch type-map descriptor fitting-net size observed-type serialization-tree".split()
)

TRAIN: Options = [
    option("INPUT", "input file, JSON or YAML"),
    [
        option("-i --init-model", "start with the parameters of a checkpoint", metavar="PREFIX"),
        option("-r --restart", "continue from a checkpoint", metavar="PREFIX"),
        option("-f --init-frz-model", "start with the parameters of a model file", metavar="FILE"),
        option("-t --finetune", "fine-tune a pre-trained model", metavar="FILE"),
    ],
    option("--use-pretrain-script", "take the model section from the pre-trained model", False),
    option(
        "--model-branch",
        "branch of the pre-trained model that is fine-tuned, or RANDOM for a new fitting",
        "",
        metavar="NAME",
    ),
    option("--force-load", "tolerate missing parameters", False),
    option("-o --output", "complete input, defaults filled in", "out.json"),
    option(
        "--overwrite",
        "overwrite results of an earlier run in this folder; they are otherwise kept as #NAME.1#",
        False,
    ),
    option(
        "--skip-neighbor-stat",
        'do not count neighbors first; sel must be numbers, not "auto"',
        False,
    ),
    MPI_LOG,
]
FREEZE: Options = [
    option(
        "-c --checkpoint-folder --checkpoint",
        'checkpoint, or folder whose file "checkpoint" names one',
        ".",
        metavar="PATH",
    ),
    option(
        "-o --output",
        "model file; without a backend its suffix chooses one, with one that has the backend's suffix",
        "frozen_model",
    ),
    HEAD,
    option("-n --node-names", "names of nodes (TensorFlow)"),
    option("-w --nvnmd-weight", "weights for hardware (TensorFlow)"),
    option("--hessian", "let the model give the Hessian of its energy, too", False),
    PRECISION,
    option("--lower-kind", "accepted for compatibility", "nlist", choices=["nlist", "graph"]),
]
TEST: Options = [
    MODEL,
    [
        *DATA,
        option("--train-data", "training data of an input file", metavar="INPUT"),
        option("--valid-data", "validation data of an input file", metavar="INPUT"),
    ],
    option("-S --set-prefix", argparse.SUPPRESS),
    option("-n --numb-test", "frames per system, 0 for all", 0),
    option("-r --rand-seed", "seed of --shuffle-test", type=int),
    option("--shuffle-test", "take frames at random", False),
    option("-d --detail-file", "write every value", metavar="PREFIX"),
    option("--detail-hdf5", "write every value into one HDF5 file", metavar="FILE"),
    option("--json", "write the errors as JSON", dest="json_file", metavar="FILE"),
    option("--plot", "draw predictions against labels (.png, .pdf, .svg)", metavar="FILE"),
    option(
        "-a --atomic",
        "compare atomic values, too; of dipoles and polarizabilities in place of the frames'",
        False,
    ),
    KEYS,
    HEAD,
    option("--uncertainty", "compare errors with the uncertainty in the model file", False),
]
CHANGE_BIAS: Options = [
    option("INPUT", "model file or checkpoint"),
    [
        *DATA,
        option(
            "-b --bias-value",
            "the biases themselves, one per type in the order of the type map",
            nargs="+",
            type=float,
            metavar="VALUE",
        ),
    ],
    option("-n --numb-batch", "batches per system that are looked at, 0 for all", 0),
    option(
        "-m --mode",
        "change: add what is left between labels and predictions; set: fit the labels",
        "change",
        choices=["change", "set"],
    ),
    option("-o --output", "file to write; INPUT with _updated before its suffix", metavar="FILE"),
    HEAD,
]
CONVERT_BACKEND: Options = [
    option("INPUT", "model file to read"),
    option("OUTPUT", "model file to write; its suffix says the kind"),
    option(
        "--atomic-virial",
        "accepted for compatibility; every kind of file can give atomic virials",
        False,
    ),
    HEAD,
    PRECISION,
]
SHOW: Options = [
    option("INPUT", "model file or checkpoint"),
    option(
        "ATTRIBUTES",
        f"what to show: {', '.join(ATTRIBUTES)}",
        nargs="+",
        choices=ATTRIBUTES,
        metavar="ATTRIBUTE",
    ),
]
MODEL_DEVI: Options = [
    option(
        "-m --models",
        "model files or checkpoints (graph.000 to graph.003)",
        GRAPHS,
        nargs="+",
        metavar="MODEL",
    ),
    HEAD,
    SYSTEM,
    option("-o --output", "text file to append to", "model_devi.out", metavar="FILE"),
    option("-f --frequency", "steps between frames; the first column counts steps", 1),
    option(
        "--real_error --real-error",
        "root mean square over the models of the error, instead of their spread",
        False,
    ),
    option("--atomic", "add the force of every atom", False),
    option(
        "--relative",
        "divide deviations of forces by the force plus this level [eV/Å]",
        type=float,
        metavar="LEVEL",
    ),
    option(
        "--relative_v --relative-v",
        "divide deviations of virials by the virial per atom plus this level [eV]",
        type=float,
        metavar="LEVEL",
    ),
    option(
        "--calibrated",
        "standard deviations by the uncertainty in the file of the first model; of one model, or of "
        "the committee that it was fitted for",
        False,
    ),
]
EVAL_DESC: Options = [
    MODEL,
    DATA,
    option(
        "-o --output",
        "folder for one file per system, named by the last part of its path",
        "desc",
        metavar="FOLDER",
    ),
    option(
        "--dtype", "number format of the files; native is that of the model", "fp64", choices=DTYPES
    ),
    HEAD,
]
EMBED: Options = [
    option("-m --model", "model file or checkpoint", "model.ckpt.pt"),
    DATA,
    option("-o --output", "HDF5 file, with one group per system", "embedding.hdf5"),
    option(
        "--dtype", "number format of the file; native is that of the model", "fp32", choices=DTYPES
    ),
    HEAD,
]
NEIGHBOR_STAT: Options = [
    option("-s --system", "system, or folder or HDF5 file that holds systems", "."),
    option("-r --rcut", "cutoff radius [Å]", type=float, required=True),
    option(
        "-t --type-map",
        "names of the types; by default those of type_map.raw in order of appearance",
        nargs="+",
    ),
    option("--mixed-type --one-type", "count neighbors of all types together", False),
]
DOC_TRAIN_INPUT: Options = [
    option(
        "--out-type",
        "text, tree of arguments, or JSON schema for editors",
        "rst",
        choices=["rst", "json", "json_schema"],
    ),
    option("--multi-task", "describe multi-task inputs", False),
]
CONVERT_FROM: Options = [
    option(
        "FROM",
        "version that wrote the model, which its file tells; pbtxt marks the text form",
        "auto",
        nargs="?",
        choices=["auto", "0.12", "1.0", "1.1", "1.2", "1.3", "2.0", "pbtxt"],
    ),
    option("-i --input-model", "frozen TensorFlow model", "frozen_model.pb"),
    option("-o --output-model", "model file, or .pbtxt for the text form", "convert_out.pb"),
]

COMPRESS: Options = [
    option("-i --input", "model file", "frozen_model"),
    option("-o --output", "file that is written", "frozen_model_compressed"),
    option("-s --step", "length of the intervals of the tables", 0.01),
    option("-e --extrapolate", "how many times farther than the data the tables reach", 5.0),
    option("-f --frequency", "accepted for compatibility", -1),
    option("-c --checkpoint-folder", "accepted for compatibility", "model-compression"),
    option(
        "-t --training-script",
        "input of the training, whose data tell the smallest distance if the model does not",
        metavar="INPUT",
    ),
    option("--undo", "write the model without its tables", False),
    PRECISION,
    MPI_LOG,
    HEAD,
]
PLUGIN: Options = [
    option("action", "name what is installed, or write a new package", choices=["list", "new"]),
    option("NAME", "name of the new package", nargs="?"),
]

TYPE_MAP = option("-t --type-map", "names of the types; by default those of the data", nargs="+")
KINDS = ["npy", "mixed", "hdf5", "lmdb", "extxyz"]
SOURCES = option(
    "INPUT", "data sets: systems or folders of them, HDF5, LMDB, files that ASE reads", nargs="+"
)
DATA_CONVERT: Options = [
    SOURCES,
    option("OUTPUT", "data set to write; .extxyz, .hdf5 and .lmdb say the kind, else a folder"),
    option("-k --kind", "kind of data set, whatever the name says", choices=KINDS),
    option("--mixed", "put frames of one size together, with types of their own", False),
    KEYS,
    option("--dpdata", "read with dpdata, in its format, as vasp/outcar", metavar="FORMAT"),
    TYPE_MAP,
]
DATA_CHECK: Options = [
    option("INPUT", "data sets, or the input file of a training", nargs="+"),
    option("-V --valid", "validation data that must not be in the training data", nargs="+"),
    option("-r --rcut", "cutoff [Å]; that of the input, or 6", type=float),
    option("--sel", "numbers of neighbors that the model is to have", nargs="+", type=int),
    option(
        "--json",
        "write the report as JSON; - is the standard output",
        dest="json_file",
        metavar="FILE",
    ),
    KEYS,
    TYPE_MAP,
]
DATA_SPLIT: Options = [
    SOURCES,
    option("OUTPUT", "folder for the parts train, valid and, of three, test"),
    option("-f --fractions", "sizes of the parts", (0.9, 0.1), nargs="+", type=float),
    option(
        "--by",
        "what stays in one part: every frame by itself, compositions, or similar structures",
        "frame",
        choices=["frame", "composition", "similarity"],
    ),
    option("--seed", "seed of the choice", 0),
    option("-k --kind", "kind of data set", "npy", choices=KINDS),
    KEYS,
    TYPE_MAP,
]

PLAN: Options = [
    option("INPUT", "input file of a training"),
    option(
        "-a --alternatives",
        "what else to measure: tables, another precision, descriptors with the same cutoff",
        nargs="+",
        choices=["float32", "compressed", "se_e2_a", "se_e2_r", "se_e3", "se_atten_v2"],
        metavar="NAME",
    ),
    option("--seconds", "how long each training is measured", 60.0),
    option("--timestep", "time step of the dynamics [fs]", 1.0),
    option(
        "--json",
        "write the figures as JSON; - is the standard output",
        dest="json_file",
        metavar="FILE",
    ),
]
RUN = option("RUN", "folder of a training")
REPORT: Options = [
    RUN,
    option("-o --output", "HTML file", "report.html"),
    option("--pdf", "print it as PDF, too, with Chromium or WeasyPrint", metavar="FILE"),
    option("-n --numb-test", "frames of training and validation data that are evaluated", 300),
    HEAD,
]
DIAGNOSE: Options = [
    RUN,
    option("-n --numb-test", "frames of training and validation data that are evaluated", 200),
    HEAD,
    option(
        "--json",
        "write the findings as JSON; - is the standard output",
        dest="json_file",
        metavar="FILE",
    ),
]
DIFF: Options = [
    option("FIRST", "folder of a training, model file or checkpoint"),
    option("SECOND", "another one"),
]
REPRODUCE: Options = [
    RUN,
    option("-o --output", "new folder; RUN with -again", metavar="FOLDER"),
]

TRAINING_SET = option(
    "--train", "training data: systems, or the input file of the training", nargs="+"
)
UNCERTAINTY: Options = [
    option("MODEL", "model file; several are a committee, the first gets the result", nargs="+"),
    TRAINING_SET,
    option(
        "-V --valid",
        "validation data with energies and forces: systems, or the input file of the training",
        nargs="+",
    ),
    option("-o --output", "file to write; MODEL with _uncertainty before its suffix"),
    option("-n --numb-frames", "training frames of each system, evenly spaced, 0 for all", 200),
    option("--seed", "seed of random directions and weights", 0),
    KEYS,
]
SELECT: Options = [
    option(
        "INPUT", "data sets to choose from: systems, HDF5, LMDB, files that ASE reads", nargs="+"
    ),
    MODEL,
    option("-o --output", "data set to write; .txt is added for the list", "selected"),
    option("-n --number", "frames to choose, at most", 50),
    option("--low", "smallest deviation of the force on an atom [eV/Å]", 0.0),
    option("--high", "largest deviation of the force [eV/Å]", type=float),
    TRAINING_SET,
    option("-k --kind", "kind of data set, whatever the name says", choices=KINDS),
    KEYS,
]

TRANSFER = [
    option("-r --raw-model", "model file with the settings", "raw_frozen_model.pb"),
    option("-O --old-model", "model file with the parameters", "old_frozen_model.pb"),
    option("-o --output", "model file that is written", "frozen_model.pb"),
]

#: Command -> what it does, and its options. Commands of two words are groups.
COMMANDS: dict[str, tuple[str, Options]] = {
    "train": ("train a model", TRAIN),
    "freeze": ("write the model of a checkpoint as a model file", FREEZE),
    "test": ("compare a model with labeled data", TEST),
    "change-bias": ("fit the bias of a model to data, or set it", CHANGE_BIAS),
    "convert-backend": ("convert a model file into another kind", CONVERT_BACKEND),
    "compress": ("tabulate the embedding networks of a model file", COMPRESS),
    "convert-from": ("convert frozen TensorFlow models of old versions", CONVERT_FROM),
    "transfer": ("write a model with the parameters of another one", TRANSFER),
    "show": ("describe a model file", SHOW),
    "model-devi": ("how much several models disagree about data", MODEL_DEVI),
    "uncertainty": ("fit the uncertainty of a model, and store it in its file", UNCERTAINTY),
    "select": ("choose the frames of a data set that are worth labeling", SELECT),
    "eval-desc": ("write the descriptors of data", EVAL_DESC),
    "embed": ("write descriptors and last hidden layers of data", EMBED),
    "neighbor-stat": ("smallest distance and numbers of neighbors of data", NEIGHBOR_STAT),
    "data convert": ("convert data sets into another kind", DATA_CONVERT),
    "data check": ("find faults of data before a training", DATA_CHECK),
    "data split": ("divide data into training, validation and test data", DATA_SPLIT),
    "plan": ("say what a training and its model will cost on this machine", PLAN),
    "report": ("write a report of a training as one HTML file", REPORT),
    "diagnose": ("say what is wrong with a training", DIAGNOSE),
    "diff": ("say how two trainings or models differ", DIFF),
    "reproduce": ("train again as a folder says, and compare", REPRODUCE),
    "doc-train-input": ("describe the training input", DOC_TRAIN_INPUT),
    "plugin": ("list the plugins, or begin a new one", PLUGIN),
    "doctor": ("say what of this installation works", []),
}


def check_choices(command: str, **given: Any) -> None:
    """Refuse values of options that the command line would refuse.

    Parameters
    ----------
    command : str
    **given
        Values, one or several, by the name of the option.

    Raises
    ------
    InputError
        Naming the option and what it takes.
    """
    options = [o for item in COMMANDS[command][1] for o in alternatives(item)]
    for found in options:
        name = found.settings.get("dest") or found.flags[-1].lstrip("-").replace("-", "_")
        allowed = found.settings.get("choices")
        if name not in given or allowed is None:
            continue
        values = given[name]
        for value in values if isinstance(values, list | tuple) else [values]:
            if value not in allowed:
                raise InputError(
                    f'"{value}" is not known',
                    where=f"dp {command} {found.flags[-1]}",
                    fix=did_you_mean(str(value), allowed),
                )


#: What the first words of commands of two words are about.
GROUPS = {"data": "convert, divide and check data"}

#: Commands that are known but not built yet: they take their arguments and say so.
NOT_BUILT: dict[str, tuple[str, Options]] = {
    "gui": (
        "edit the input in a browser",
        [option("-p --port", default=6042), option("--bind_all", default=False)],
    ),
    "pretrained": (
        "download pre-trained models",
        [option("action", choices=["download"]), option("MODEL"), option("--cache-dir")],
    ),
    "train-nvnmd": (
        "train for hardware",
        [
            option("INPUT"),
            option("-i --init-model"),
            option("-r --restart"),
            option("-s --step", default="s1", choices=["s1", "s2"]),
            option("--skip-neighbor-stat", default=False),
        ],
    ),
}

#: What to do instead of a command that is not built.
INSTEAD = {
    "gui": "give an editor the schema that dp doc-train-input --out-type json_schema writes",
    "pretrained": "download the file with a browser, and give its path where a model is asked for",
}
