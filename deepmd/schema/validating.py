# SPDX-License-Identifier: LGPL-3.0-or-later
"""Section ``validating``: evaluation of the whole validation set while training."""

import re

from dargs import Argument

from deepmd.schema.common import NOT_NEGATIVE, POSITIVE, Rule
from deepmd.schema.settings import Settings, setting


def is_metric(value: str) -> bool:
    """Whether this is a metric such as E:MAE."""
    return re.fullmatch(r"(E|F|V|S|FR|FM):(MAE|RMSE)", value, re.IGNORECASE) is not None


class ValidatingKeys(Settings):
    """Keys of the section."""

    full_validation: bool = setting(False, "Evaluate the whole validation set.")
    ema_full_validation: bool = setting(False, "The same for the averaged parameters.")
    validation_freq: int = setting(5000, "Steps between evaluations.", rule=POSITIVE)
    save_best: bool = setting(True, "Keep the best checkpoint.")
    save_best_dir: str | None = setting(None, "Folder of the best checkpoints.")
    max_best_ckpt: int = setting(1, "Number of best checkpoints.", rule=POSITIVE)
    validation_metric: str = setting(
        "E:MAE",
        "What is best: E, F, V, S, FR or FM with :MAE or :RMSE.",
        rule=Rule(is_metric, "must be E, F, V, S, FR or FM followed by :MAE or :RMSE"),
    )
    full_val_file: str = setting("val.log", "Log of the evaluations.")
    full_val_start: float | int = setting(
        0.5, "First step, or fraction of the run; 0 always, 1 never.", rule=NOT_NEGATIVE
    )
    compiled_infer: bool = setting(False, "Evaluate by the native engine, which is compiled.")
    tf32_infer: bool = setting(False, "TF32 products of matrices in the evaluation.")
    amp_infer: bool = setting(False, "bfloat16 in the evaluation.")


def validating_argument() -> Argument:
    """Return the section."""
    return Argument(
        "validating",
        dict,
        ValidatingKeys.arguments(),
        optional=True,
        default={},
        doc="Evaluation of the whole validation set while training.",
    )
