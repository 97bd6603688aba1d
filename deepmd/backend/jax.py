# SPDX-License-Identifier: LGPL-3.0-or-later
"""The JAX backend."""

from deepmd.backend.backend import EVERYTHING, Backend


@Backend.register("jax")
class JAXBackend(Backend):
    """Training and StableHLO models of JAX."""

    name = "JAX"
    packages = ("jax",)
    suffixes = (".hlo", ".savedmodel")
    folders = (".savedmodel",)
    plugins = ("deepmd.jax",)
    checkpoint_suffix = ".jax"
    features = EVERYTHING
    hooks = {
        "deep_eval": "deepmd.jax.files:open_model",
        "evaluator": "deepmd.jax.evaluator:JaxEvaluator",
        "train_step": "deepmd.jax.train_step:JaxTrainStep",
        "start_group": "deepmd.jax.distributed:start_group",
        "read_checkpoint": "deepmd.runtime.checkpoint_file:read_checkpoint",
        "write_checkpoint": "deepmd.runtime.checkpoint_file:write_checkpoint",
        "serialize_hook": "deepmd.jax.files:read_model",
        "deserialize_hook": "deepmd.jax.files:write_model",
    }
