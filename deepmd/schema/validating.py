# SPDX-License-Identifier: LGPL-3.0-or-later
"""Section ``validating``: evaluation of the whole validation set while training."""

import re

from dargs import Argument

from deepmd.schema.common import NOT_NEGATIVE, POSITIVE, Rule, option


def is_metric(value: str) -> bool:
    """Whether this is a metric such as E:MAE."""
    return re.fullmatch(r"(E|F|V|S|FR|FM):(MAE|RMSE)", value, re.IGNORECASE) is not None


def validating_argument() -> Argument:
    """Return the section."""
    return Argument(
        "validating",
        dict,
        [
            option("full_validation", bool, False, "Evaluate the whole validation set."),
            option("ema_full_validation", bool, False, "The same for the averaged parameters."),
            option("validation_freq", int, 5000, "Steps between evaluations.", rule=POSITIVE),
            option("save_best", bool, True, "Keep the best checkpoint."),
            option("save_best_dir", [str, None], None, "Folder of the best checkpoints."),
            option("max_best_ckpt", int, 1, "Number of best checkpoints.", rule=POSITIVE),
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
            option("compiled_infer", bool, False, "Compile the evaluation."),
            option("tf32_infer", bool, False, "TF32 products of matrices in the evaluation."),
            option("amp_infer", bool, False, "bfloat16 in the evaluation."),
        ],
        optional=True,
        default={},
        doc="Evaluation of the whole validation set while training.",
    )
