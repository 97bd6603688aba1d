# SPDX-License-Identifier: LGPL-3.0-or-later
"""From the input to what a training does beside its steps."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from deepmd.base.errors import InputError, NotAvailableError
from deepmd.dpmodel.model import Model
from deepmd.np.engine import NativeEvaluator
from deepmd.runtime.evaluator import Evaluator
from deepmd.train.average import Average, ema_prefix
from deepmd.train.checkpoints import CheckpointStore
from deepmd.train.extras import Extra
from deepmd.train.full_validation import AverageValidation, FullValidation
from deepmd.train.trainer import Trainer


def make_extras(
    config: Mapping[str, Any], trainer: Trainer, evaluator: Any = Evaluator
) -> list[Extra]:
    """Return what a checked input asks for, in the order in which it acts after a step."""
    training, validating = config["training"], config["validating"]
    store = trainer.store
    out: list[Extra] = []
    average = None
    if training["enable_ema"]:
        kept = training["ema_ckpt_keep"]
        own = CheckpointStore(
            ema_prefix(store.prefix),
            store.suffix,
            store.write,
            keep=store.keep if kept is None else kept,
            folder=None if store.folder == store.prefix.parent else store.folder,
            parts=store.parts,
            pointer=False,
        )
        average = Average(trainer.stepper, list(trainer.tasks), training["ema_decay"], own)
        out.append(average)
    bits = {"tf32": validating["tf32_infer"], "bfloat16": validating["amp_infer"]}
    if validating["full_validation"] or validating["ema_full_validation"]:
        models = [task.model for task in trainer.tasks.values()]
        if validating["compiled_infer"]:
            evaluator = compiled_evaluator(models, **bits)
        elif any(bits.values()):
            evaluator = evaluator.with_fewer_bits(models, **bits)
    common: dict[str, Any] = {
        "evaluator": evaluator,
        "spin": any(task.model.has_spin() for task in trainer.tasks.values()),
    }
    steps, stop = trainer.numb_steps, training.get("early_stop")
    if validating["full_validation"]:
        out.append(FullValidation(validating, steps, store, early_stop=stop, **common))
        stop = None  # these errors decide
    if average is not None and validating["ema_full_validation"]:
        common |= {"early_stop": stop, "models": average.models}
        out.append(AverageValidation(validating, steps, store, **common))
    return out


def compiled_evaluator(
    models: Sequence[Model], *, tf32: bool, bfloat16: bool
) -> Callable[[Model], Evaluator]:
    """Return the evaluator of the native engine, which has no program to make for new parameters.

    Parameters
    ----------
    models : sequence of Model
        Those to evaluate, with any parameters.
    tf32, bfloat16 : bool
        Whether products of fewer bits are asked for, too.

    Raises
    ------
    InputError
        If they are.
    NotAvailableError
        If the engine is not installed, or does not know a part of a model.
    """
    where = "validating/compiled_infer"
    if tf32 or bfloat16:
        raise InputError(
            "excludes tf32_infer and amp_infer", where=where, fix="leave out one or the other"
        )
    for model in models:
        try:
            NativeEvaluator.of_model(model)
        except NotAvailableError as error:
            raise NotAvailableError(
                f"the native engine does not evaluate this model: {error.what}",
                where=where,
                fix="leave it out: the backend of the training then evaluates",
            ) from None
    return NativeEvaluator.of_model
