"""What there is and where; imports nothing of the arrays."""

from deepmd.backend.backend import Backend


@Backend.register("board")
class BoardBackend(Backend):
    name = "Board"
    packages = ("deepmd_board",)
    suffixes = (".board",)
    features = Backend.Feature.DEEP_EVAL | Backend.Feature.IO
    hooks = {
        "deep_eval": "deepmd_board.files:open_model",
        "evaluator": "deepmd_board.evaluator:BoardEvaluator",
        "serialize_hook": "deepmd_board.files:read_model",
        "deserialize_hook": "deepmd_board.files:write_model",
    }
