# SPDX-License-Identifier: LGPL-3.0-or-later
"""``dp train``: from the input file to the last checkpoint."""

import json
import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from deepmd.base.errors import ModelFileError
from deepmd.base.files import write_text
from deepmd.dpmodel.model import Model
from deepmd.dpmodel.module import assign, split
from deepmd.dpmodel.schedule import learning_rate
from deepmd.io.files import SINGLE, branch_params
from deepmd.runtime.checkpoint import Checkpoint
from deepmd.runtime.step import StepOptions, TrainStep
from deepmd.schema import load_input, normalize, upgrade
from deepmd.train import setup
from deepmd.train.checkpoints import CheckpointStore, read_newest, remove_fragments_of
from deepmd.train.folder import RunFolder, differing, later_results, results
from deepmd.train.statistics import Sample, keep_given_bias, table_widths
from deepmd.train.trainer import Task, Trainer

log = logging.getLogger(__name__)

#: Options that change no number and are not built.
_WITHOUT_EFFECT = ("profiling", "enable_profiler")
#: Batches per system in which neighbours are counted for the widths of tables.
_WIDTH_BATCHES = 10


def train(*, overwrite: bool = False, **options: Any) -> None:
    """Train; a signal ends the program with the status 128 + its number, as shells expect.

    Parameters
    ----------
    overwrite : bool
        Overwrite results of an earlier run, which are otherwise kept under other names.
    **options
        Those of :func:`prepare`.

    Raises
    ------
    InputError
        If another training runs in the same folder, among others.
    """
    with RunFolder(overwrite=overwrite) as folder:
        trainer = prepare(folder=folder, **options)
        ended = trainer.run()
    if ended.signal is not None:
        log.info(
            "stopped by %s after step %d of %d; saved %s; continue with --restart %s",
            ended.signal.name,
            ended.step,
            trainer.numb_steps,
            ended.path,
            trainer.store.prefix,
        )
        raise SystemExit(128 + int(ended.signal))


def prepare(
    *,
    INPUT: str,
    backend: Any,
    init_model: str | None = None,
    restart: str | None = None,
    init_frz_model: str | None = None,
    force_load: bool = False,
    output: str = "out.json",
    skip_neighbor_stat: bool = False,
    folder: RunFolder | None = None,
    **_: Any,
) -> Trainer:
    """Read and check everything and return a trainer that is ready to run.

    Files are written when nothing is left that could be wrong with the input or the data.

    Parameters
    ----------
    INPUT : str
        Input file.
    backend : Backend
        Its ``train_step``, ``read_checkpoint``, ``write_checkpoint`` and ``checkpoint_suffix`` are
        used.
    init_model, restart, init_frz_model : str, optional
        Start with the parameters of a checkpoint, go on where it was written, or start with the
        parameters of a model file.
    force_load : bool
        Keep the initial values of parameters that the file does not have, or has in another shape.
    output : str
        Where the complete input is written.
    skip_neighbor_stat : bool
        Do not go through the data to count neighbours.
    folder : RunFolder, optional
        Owner of the files; without one nothing is locked and nothing kept.
    """
    given = upgrade(load_input(INPUT))
    config = normalize(given, file=INPUT)
    training, suffix = config["training"], backend.checkpoint_suffix or backend.suffixes[0]
    store, curve = _make_store(training, suffix, backend), training.get("disp_file", "lcurve.out")
    if folder is not None:
        folder.claim(store, [output, curve])
    start, source = _read_start(backend, suffix, init_model, restart, init_frz_model)
    continued = start if restart else None
    systems = {b.name: setup.open_both(b) for b in setup.branches(config)}
    min_dist = _resolve_neighbors(config, systems, continued, skip=skip_neighbor_stat)
    text = _json(config)
    seed = 0 if restart else setup.choose_seed(training)  # a checkpoint has its own
    tasks = setup.make_tasks(config, systems, seed=seed, scan=continued is None)
    _start_from(start, config, tasks, force=force_load, restart=bool(restart))
    widths = _widths(tasks, backend.train_step, continued)
    numb_steps = setup.count_steps(training, tasks)
    store.keep = _kept(training, numb_steps)
    trainer = Trainer(
        tasks,
        _make_step(config, backend, tasks, widths),
        learning_rate(config["learning_rate"], numb_steps),
        store,
        training,
        numb_steps=numb_steps,
        model_params=config["model"],
        min_nbor_dist=min_dist if math.isfinite(min_dist) else None,
        seed=seed,
        extra={"input": text, **{f"widths.{k}": np.array(v) for k, v in widths.items()}},
        before_save=None if folder is None else folder.check,
    )
    if continued is not None:
        _compare_inputs(text, continued.trainer.get("input"))
        trainer.restore(continued)
    texts = {"input_v2_compat.json": _json(given) + "\n", output: text + "\n"}
    _write_texts(folder, trainer, texts, source if restart else None, [INPUT, source])
    return trainer


def _write_texts(
    folder: RunFolder | None,
    trainer: Trainer,
    texts: Mapping[str, str],
    continued: Path | None,
    reads: list[str | Path | None],
) -> None:
    """Write the input as it is used, after results of an earlier run got other names.

    Those that this one continues stay.
    """
    if folder is not None:
        curve = Path(trainer.curve)
        if continued is None:
            found = results(trainer.store, curve)
        else:
            found = later_results(trainer.store, curve, continued, trainer.step)
            reads = [*reads, curve]
        folder.set_aside([*differing(texts), *found], reads)
    for path, content in texts.items():
        remove_fragments_of(path)
        write_text(path, content)


def _make_step(
    config: Mapping[str, Any],
    backend: Any,
    tasks: Mapping[str, Task],
    widths: Mapping[str, list[int]],
) -> TrainStep:
    """Give models and losses to the backend."""
    training = config["training"]
    for name in _WITHOUT_EFFECT:
        if training.get(name):
            log.warning("training/%s is not built yet and has no effect", name)
    models = {name: task.model for name, task in tasks.items()}
    total, trained = count_parameters(models)
    log.info("Model Params: %.3f M   (Trainable: %.3f M)", total / 1e6, trained / 1e6)
    for task in tasks.values():
        task.loss.take_statistics(task.model)
    return backend.train_step(
        models,
        {name: task.loss for name, task in tasks.items()},
        config["optimizer"],
        StepOptions(
            gradient_max_norm=training.get("gradient_max_norm"),
            compile=bool(training.get("enable_compile", False)),
            widths=dict(widths) or None,
        ),
    )


def _widths(
    tasks: Mapping[str, Task], step: type[TrainStep], start: Checkpoint | None
) -> dict[str, list[int]]:
    """Widths of the neighbour tables for backends that want them; a restart has the same ones."""
    if not step.uses_widths:
        return {}
    out = {}
    for name, task in tasks.items():
        known = None if start is None else start.trainer.get(f"widths.{name}")
        if known is None:
            known = table_widths(task.model, Sample(task.data, _WIDTH_BATCHES).batches())
        out[name] = [int(n) for n in known]
    return out


def _json(data: Mapping[str, Any]) -> str:
    return json.dumps(data, indent=4, ensure_ascii=False)


def _make_store(training: Mapping[str, Any], suffix: str, backend: Any) -> CheckpointStore:
    return CheckpointStore(
        training["save_ckpt"], suffix, backend.write_checkpoint, folder=training.get("save_dir")
    )


def _kept(training: Mapping[str, Any], numb_steps: int) -> int:
    """Return how many checkpoints stay."""
    ratio = training.get("ckpt_keep_ratio")
    if ratio is None:
        return int(training.get("max_ckpt_keep", 5))
    return max(1, math.ceil(ratio * numb_steps / training["save_freq"]))


def count_parameters(models: Mapping[str, Model]) -> tuple[int, int]:
    """Count numbers of all models, and those that are trained; shared ones once."""
    sizes: dict[int, int] = {}
    trained: dict[int, int] = {}
    for model in models.values():
        params, fixed = split(model)
        sizes |= {id(v): int(np.size(v)) for v in (*params.values(), *fixed.values())}
        trained |= {id(v): int(np.size(v)) for v in params.values()}
    return sum(sizes.values()), sum(trained.values())


# -- neighbours -----------------------------------------------------------------------------------


def _resolve_neighbors(
    config: dict[str, Any], systems: Mapping[str, Any], start: Checkpoint | None, *, skip: bool
) -> float:
    """Resolve every ``sel`` and return the smallest distance; a restart knows both already."""
    min_dist = math.inf
    for branch in setup.branches(config):
        if start is not None:
            setup.take_over_sel(branch, branch_params(start.model_params, branch.name))
        elif not skip:
            min_dist = min(min_dist, setup.count_neighbors(branch, systems[branch.name][0]))
        setup.refuse_auto(branch)
    return min_dist if start is None or start.min_nbor_dist is None else start.min_nbor_dist


# -- starting from files --------------------------------------------------------------------------


def _read_start(
    backend: Any,
    suffix: str,
    init_model: str | None,
    restart: str | None,
    init_frz_model: str | None,
) -> tuple[Checkpoint | None, Path | None]:
    """Read what the training starts from; return it and its file."""
    given = restart or init_model
    if given is not None:
        checkpoint, path = read_newest(given, suffix, backend.read_checkpoint)
        log.info("Read %s (step %d).", path, checkpoint.step)
        return checkpoint, path
    if init_frz_model is None:
        return None, None
    from deepmd.backend.backend import Backend

    tree = Backend.detect_backend_by_model(init_frz_model)().serialize_hook(init_frz_model)
    if "model" not in tree:
        raise ModelFileError("holds no single model", where=init_frz_model, fix="freeze one branch")
    log.info("Read %s.", init_frz_model)
    start = Checkpoint(
        models={SINGLE: Model.deserialize(tree["model"])},
        model_params=tree.get("model_def_script") or {},
    )
    return start, Path(init_frz_model)


def _start_from(
    start: Checkpoint | None,
    config: dict[str, Any],
    tasks: Mapping[str, Task],
    *,
    force: bool,
    restart: bool,
) -> None:
    """Put the parameters of a checkpoint or model file, or new statistics, into the models.

    A new training (not a ``restart``) has the biases that its input fixes, wherever it starts from.
    """
    if start is None:
        setup.set_all_statistics(config, tasks)
    else:
        keys = differing_keys(start.model_params, config["model"], "model")
        keys = [k for k in keys if not k.startswith("model/info")]
        for name, task in tasks.items():
            take_parameters(task.model, _model_of(start, name), keys=keys, force=force)
            if not restart:
                keep_given_bias(task.model)
        _keep_info(config, start.model_params)
    for task in tasks.values():
        for line in task.model.warnings():
            log.warning(line)


def _model_of(start: Checkpoint, name: str) -> Model:
    if name not in start.models:
        raise ModelFileError(
            f'the checkpoint has no branch "{name}", but {", ".join(start.models)}',
            where="model/model_dict",
            fix="use the branches of the checkpoint",
        )
    return start.models[name]


def take_parameters(
    model: Model, source: Model, *, keys: Sequence[str] = (), force: bool = False
) -> None:
    """Put the arrays of one model into another one of the same architecture.

    ``keys`` of the input that differ are named in the error.

    Raises
    ------
    ModelFileError
        If types differ, or arrays are missing, superfluous or of other shapes; with ``force`` only
        those that fit are taken.
    """
    if source.get_type_map() != model.get_type_map():
        raise ModelFileError(
            f"the checkpoint has types {source.get_type_map()}, "
            f"the input has {model.get_type_map()}",
            where="model/type_map",
            fix="use the same type_map",
        )
    here = {k: v for part in split(model) for k, v in part.items()}
    there = {k: v for part in split(source) for k, v in part.items()}
    wrong = [
        *(
            f"{k} has shape {np.shape(there[k])} in the checkpoint, {np.shape(v)} in the input"
            for k, v in here.items()
            if k in there and np.shape(there[k]) != np.shape(v)
        ),
        *(f"{k} is missing in the checkpoint" for k in here if k not in there),
        *(f"{k} is not in the input's model" for k in there if k not in here),
    ]
    if wrong and not force:
        raise ModelFileError(
            f"the model of the input is not that of the checkpoint: {wrong[0]}"
            + (f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else "")
            + (f"; keys that differ: {', '.join(keys)}" if keys else ""),
            where="model",
            fix="use the same model section, or --force-load to take what fits",
        )
    for line in wrong:
        log.warning("%s", line)
    fitting = {k: v for k, v in there.items() if k in here and np.shape(v) == np.shape(here[k])}
    assign(model, fitting)


def _keep_info(config: dict[str, Any], known: Mapping[str, Any]) -> None:
    """Take over what earlier runs noted about the model."""
    for branch in setup.branches(config):
        info = branch_params(known, branch.name).get("info")
        if info:
            branch.model["info"] = {**info, **(branch.model.get("info") or {})}


def _compare_inputs(now: str, before: str | None) -> None:
    """Warn of keys that differ from the input of the checkpoint."""
    if before is None:
        log.warning("the checkpoint does not hold its input; differences cannot be named")
        return
    keys = differing_keys(json.loads(before), json.loads(now))
    if keys:
        log.warning("the input differs from that of the checkpoint: %s", ", ".join(keys))


def differing_keys(a: Any, b: Any, path: str = "") -> list[str]:
    """Return the paths at which two inputs differ."""
    if isinstance(a, dict) and isinstance(b, dict):
        keys = list(dict.fromkeys([*a, *b]))
        found = [differing_keys(a.get(k), b.get(k), f"{path}/{k}" if path else k) for k in keys]
        return [key for part in found for key in part]
    return [] if a == b else [path]
