# SPDX-License-Identifier: LGPL-3.0-or-later
"""``dp train``: from the input file to the last checkpoint."""

import contextlib
import functools
import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from deepmd.base.files import write_text
from deepmd.dpmodel.schedule import learning_rate
from deepmd.runtime.distributed import ALONE, Distributed
from deepmd.schema import load_input, normalize, upgrade
from deepmd.train.adapters import adapt
from deepmd.train.build import count_steps, make_step, make_tasks, make_widths, start_from
from deepmd.train.checkpoints import CheckpointStore, remove_fragments_of
from deepmd.train.data_warnings import warn_of_data
from deepmd.train.folder import RunFolder, differing, later_results, results
from deepmd.train.options import make_extras
from deepmd.train.parallel import (
    compare_ranks,
    scaled_rate,
    share_arrays,
    share_widths,
    shared_plan,
    shared_start,
)
from deepmd.train.plan import Plan, Start, as_json, read_start
from deepmd.train.pretrained import check_options, from_pretrained
from deepmd.train.run_record import RunRecord, facts_of
from deepmd.train.start import compare_inputs
from deepmd.train.trainer import Trainer

log = logging.getLogger(__name__)


def train(*, overwrite: bool = False, ranks: Distributed = ALONE, **options: Any) -> None:
    """Train; a signal ends the program with the status 128 + its number, as shells expect.

    Parameters
    ----------
    overwrite : bool
        Overwrite results of an earlier run, which are otherwise kept under other names.
    ranks : Distributed
        Processes that train together; the first one writes files.
    **options
        Those of :func:`prepare`.

    Raises
    ------
    InputError
        If another training runs in the same folder, among others.
    """
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(RunFolder(overwrite=overwrite)) if ranks.writes else None
        trainer = prepare(folder=folder, ranks=ranks, **options)
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
    finetune: str | None = None,
    use_pretrain_script: bool = False,
    model_branch: str = "",
    force_load: bool = False,
    output: str = "out.json",
    skip_neighbor_stat: bool = False,
    folder: RunFolder | None = None,
    ranks: Distributed = ALONE,
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
    finetune : str, optional
        Model file or checkpoint that is fine-tuned, of any backend.
    use_pretrain_script : bool
        Take the sections of the model from the file that the training starts from.
    model_branch : str
        Branch of the pre-trained model; see :func:`deepmd.train.pretrained.make_rules`.
    force_load : bool
        Keep the initial values of parameters that the file does not have, or has in another shape.
    output : str
        Where the complete input is written.
    skip_neighbor_stat : bool
        Do not go through the data to count neighbors.
    folder : RunFolder, optional
        Owner of the files; without one nothing is locked and nothing kept.
    ranks : Distributed
        Processes that train together.
    """
    given = upgrade(load_input(INPUT))
    suffix = backend.checkpoint_suffix or backend.suffixes[0]
    check_options(init_model, init_frz_model, finetune, use_pretrain_script, model_branch)
    read = functools.partial(
        shared_start,
        ranks,
        functools.partial(read_start, backend, suffix),
        init_model=init_model,
        restart=restart,
        init_frz_model=init_frz_model,
        finetune=finetune,
    )
    start = None
    if finetune is not None or use_pretrain_script:  # the file completes the input
        given, start = from_pretrained(given, read(), finetune, use_pretrain_script, model_branch)
    config = normalize(given, file=INPUT)
    store = _store(config["training"], backend, suffix)
    if folder is not None:
        folder.claim(store, [output, config["training"].get("disp_file", "lcurve.out")])
    start = read() if start is None else start
    plan = shared_plan(ranks, config, start, skip_neighbor_stat=skip_neighbor_stat)
    trainer = make_trainer(plan, backend, store, folder, force=force_load, ranks=ranks)
    if ranks.writes:
        facts = facts_of(plan, backend, given, ranks.size)
        trainer.extras.insert(0, RunRecord(facts, store.link.parent))
    texts = {"input_v2_compat.json": as_json(given) + "\n", output: plan.text + "\n"}
    if ranks.writes:
        _write_texts(folder, trainer, texts, start, INPUT)
    return trainer


def _store(training: Mapping[str, Any], backend: Any, suffix: str) -> CheckpointStore:
    """Return the checkpoints that a section ``training`` names."""
    return CheckpointStore(
        training["save_ckpt"],
        suffix,
        backend.write_checkpoint,
        folder=training.get("save_dir"),
        parts=backend.checkpoint_parts,
    )


def make_trainer(
    plan: Plan,
    backend: Any,
    store: CheckpointStore,
    folder: RunFolder | None = None,
    *,
    force: bool = False,
    ranks: Distributed = ALONE,
) -> Trainer:
    """Build what a plan describes; parameters as of :func:`prepare`."""
    config = plan.config
    training, tasks = config["training"], make_tasks(plan, ranks, backend.evaluator)
    if ranks.writes:
        if plan.continued is None:
            warn_of_data(plan, tasks)
        start_from(plan, tasks, force=force, evaluator=backend.evaluator)
    models = {name: task.model for name, task in tasks.items()}
    share_arrays(ranks, models)
    notes = adapt(plan, tasks)
    if notes:
        share_arrays(ranks, models)
    widths = share_widths(ranks, lambda: make_widths(plan, tasks, backend.train_step))
    numb_steps = count_steps(training, tasks)
    store.keep = _kept(training, numb_steps)
    trainer = Trainer(
        tasks,
        make_step(plan, backend, tasks, widths, ranks),
        learning_rate(scaled_rate(config["learning_rate"], ranks), numb_steps),
        store,
        training,
        numb_steps=numb_steps,
        model_params=plan.model_params,
        min_nbor_dist=plan.min_nbor_dist,
        seed=plan.seed,
        extra=notes
        | {"input": plan.text, "ranks": np.array(ranks.size)}
        | {f"widths.{k}": np.array(v) for k, v in widths.items()},
        before_save=None if folder is None else folder.check,
        ranks=ranks,
    )
    trainer.extras = make_extras(config, trainer, backend.evaluator)
    if plan.continued is not None:
        compare_inputs(plan.text, plan.continued.trainer.get("input"))
        compare_ranks(ranks.size, plan.continued.trainer)
        trainer.restore(plan.continued)
    return trainer


def _write_texts(
    folder: RunFolder | None,
    trainer: Trainer,
    texts: Mapping[str, str],
    start: Start | None,
    given: str,
) -> None:
    """Write the input as it is used, after results of an earlier run got other names.

    Those that this one continues stay.
    """
    if folder is not None:
        curve = Path(trainer.curve)
        reads = [given, None if start is None else start.path]
        if start is None or not start.restart:
            found = results(trainer.store, curve)
        else:
            found = later_results(trainer.store, curve, start.path, trainer.step)
            reads.append(curve)
        step = trainer.step if start is not None and start.restart else 0
        found += [path for extra in trainer.extras for path in extra.files(step)]
        folder.set_aside([*differing(texts), *found], reads)
    for path, content in texts.items():
        remove_fragments_of(path)
        write_text(path, content)


def _kept(training: Mapping[str, Any], numb_steps: int) -> int:
    """Return how many checkpoints stay."""
    ratio = training.get("ckpt_keep_ratio")
    if ratio is None:
        return int(training.get("max_ckpt_keep", 5))
    return max(1, math.ceil(ratio * numb_steps / training["save_freq"]))
