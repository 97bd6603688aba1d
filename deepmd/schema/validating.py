# SPDX-License-Identifier: LGPL-3.0-or-later
"""Section ``validating``: evaluation of the whole validation set while training."""

import re

from dargs import Argument

from deepmd.schema.common import NOT_NEGATIVE, Rule, count, flag, option


def is_metric(value: str) -> bool:
    """Whether this is a metric such as E:MAE."""
    return re.fullmatch(r"(E|F|V|S|FR|FM):(MAE|RMSE)", value, re.IGNORECASE) is not None


def validating_argument() -> Argument:
    """Return the section."""
    return Argument(
        "validating",
        dict,
        [
            flag("full_validation", "Evaluate the whole validation set."),
            flag("ema_full_validation", "The same for the averaged parameters."),
            count("validation_freq", 5000, "Steps between evaluations."),
            flag("save_best", "Keep the best checkpoint.", default=True),
            option("save_best_dir", [str, None], None, "Folder of the best checkpoints."),
            count("max_best_ckpt", 1, "Number of best checkpoints."),
            option(
                "validation_metric",
                str,
                "E:MAE",
                "What is best: E, F, V, S, FR or FM with :MAE or :RMSE.",
                rule=Rule(is_metric, "must be E, F, V, S, FR or FM followed by :MAE or :RMSE"),
            ),
            option("full_val_file", str, "val.log", "Log of the evaluations."),
            option(
                "full_val_start",
                [float, int],
                0.5,
                "First step, or fraction of the run; 0 always, 1 never.",
                rule=NOT_NEGATIVE,
            ),
            flag("compiled_infer", "Compile the evaluation."),
            flag("tf32_infer", "TF32 products of matrices in the evaluation."),
            flag("amp_infer", "bfloat16 in the evaluation."),
        ],
        optional=True,
        default={},
        doc="Evaluation of the whole validation set while training.",
    )
