# SPDX-License-Identifier: LGPL-3.0-or-later
# ruff: noqa: UP006, UP035, UP045  (TorchScript and metatomic compare these annotations)
"""Model interface of metatrain around our models of energies."""

import copy
import logging
from collections.abc import Mapping
from typing import Any, ClassVar, Dict, List, Literal, Optional

import torch
from ase.data import chemical_symbols
from metatensor.torch import Labels, TensorBlock, TensorMap, sum_over_samples
from metatensor.torch import slice as slice_map
from metatomic.torch import (
    AtomisticModel,
    ModelCapabilities,
    ModelMetadata,
    ModelOutput,
    NeighborListOptions,
    System,
)
from metatrain.utils.abc import ModelInterface
from metatrain.utils.data import DatasetInfo
from metatrain.utils.data.target_info import TargetInfo
from metatrain.utils.hypers import raise_if_hypers_mismatch
from metatrain.utils.metadata import merge_metadata

from deepmd.base.errors import InputError
from deepmd.dpmodel.atomic_model import AtomicModel
from deepmd.dpmodel.model import Model, build_model
from deepmd.metatrain import ARCHITECTURE
from deepmd.metatrain.checkpoints import MODEL_UPGRADES, MODEL_VERSION, upgrade
from deepmd.metatrain.energies import AtomEnergies
from deepmd.metatrain.hypers import ModelHypers, checked_input, default_hypers
from deepmd.pt.lift import convert, to_neutral
from deepmd.pt.torchscript.energies import LiftedCore, TracedCore

log = logging.getLogger(__name__)


class EnergyMap(torch.nn.Module):
    """Energies of atoms as metatensor's maps; compiled by TorchScript for a file.

    Parameters
    ----------
    energies : AtomEnergies
    target, label : str
        Names of the output and of its property.
    outputs : dict of str to ModelOutput
        The output, as engines see it.
    """

    outputs: Dict[str, ModelOutput]

    def __init__(
        self,
        energies: AtomEnergies,
        target: str,
        label: str,
        outputs: Dict[str, ModelOutput],
        dtype: torch.dtype = torch.float64,
    ) -> None:
        super().__init__()
        # metatrain takes the number format of systems from the first array of an exported model.
        self.register_buffer("number_format", torch.zeros(1, dtype=dtype), persistent=False)
        self.energies = energies
        self.target, self.label, self.outputs = target, label, outputs

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        """Move arrays to a device; their number formats are those of the model section."""
        return super()._apply(lambda x: x.to(fn(x).device), recurse)

    @torch.jit.export
    def requested_neighbor_lists(self) -> List[NeighborListOptions]:
        """Return the neighbor list that the engine makes."""
        return [self.energies.options]

    def forward(
        self,
        systems: List[System],
        outputs: Dict[str, ModelOutput],
        selected_atoms: Optional[Labels] = None,
    ) -> Dict[str, TensorMap]:
        """Evaluate systems; see metatrain's model interface."""
        results: dict[str, TensorMap] = {}
        if self.target not in outputs:
            return results
        device = systems[0].positions.device
        values = self.energies(systems).to(systems[0].positions.dtype)
        rows: list[torch.Tensor] = []
        for k, system in enumerate(systems):
            atoms = torch.arange(len(system), device=device)
            rows.append(torch.stack([torch.full_like(atoms, k), atoms], dim=1))
        zero = torch.zeros((1, 1), dtype=torch.int64, device=device)
        block = TensorBlock(
            values,
            Labels(["system", "atom"], torch.cat(rows)),
            [],
            Labels([self.label], zero),
        )
        found = TensorMap(Labels(["_"], zero), [block])
        if selected_atoms is not None:
            found = slice_map(found, axis="samples", selection=selected_atoms)
        if outputs[self.target].sample_kind != "atom":
            found = sum_over_samples(found, ["atom"])
        results[self.target] = found
        return results


def energy_target(info: DatasetInfo) -> tuple[str, TargetInfo]:
    """Return name and description of the energy in a data set.

    Raises
    ------
    InputError
        If there are other targets, or none.
    """
    for name, target in info.targets.items():
        fit = (
            "metatrain trains our models of energies, with forces and stress; leave the target out"
        )
        block = target.layout.block(0) if len(target.layout.keys) == 1 else None
        if target.quantity != "energy" or block is None or len(block.components) > 0:
            raise InputError(f'the target "{name}" is no energy', where="training_set", fix=fit)
        if target.sample_kind != "system" or len(block.properties) != 1:
            raise InputError(
                f'the target "{name}" is not one number for each structure',
                where="training_set",
                fix=fit,
            )
    if len(info.targets) != 1:
        raise InputError(
            f"there are {len(info.targets)} energies ({', '.join(info.targets)})",
            where="training_set",
            fix="train a model on one of them",
        )
    return next(iter(info.targets.items()))


def model_of(hypers: Mapping[str, Any], type_map: list[str]) -> Model:
    """Return the neutral model of hyper-parameters, with initial values."""
    section = checked_input(hypers, None, type_map)["model"]
    kind = AtomicModel.registry.get(section.get("type", "standard"), where="model/type")
    for selection in kind.selections(section, "model"):
        if isinstance(selection.value, str):
            count = int(hypers.get("neighbors", 120))
            selection.value = count if selection.mixed else [count] * len(type_map)
    return build_model(section)


class DeepMD(ModelInterface[ModelHypers]):
    """A model of energies; forces and stress are derivatives that engines take.

    Parameters
    ----------
    hypers : dict
        See :data:`deepmd.metatrain.hypers.ModelHypers`.
    dataset_info : DatasetInfo
        One energy; atomic types become the type map.
    """

    dataset_info: Any
    __checkpoint_version__ = MODEL_VERSION
    __supported_devices__: ClassVar = ["cuda", "cpu"]
    __supported_dtypes__: ClassVar = [torch.float64, torch.float32]
    __default_metadata__: ClassVar = ModelMetadata(
        references={
            "implementation": ["https://doi.org/10.1063/5.0155600"],
            "architecture": ["https://doi.org/10.1103/PhysRevLett.120.143001"],
        }
    )

    def __init__(self, hypers: Any, dataset_info: DatasetInfo) -> None:
        super().__init__(hypers, dataset_info, self.__default_metadata__)
        self.atomic_types = [int(z) for z in dataset_info.atomic_types]
        energy_target(dataset_info)
        type_map = [chemical_symbols[z] for z in self.atomic_types]
        self.set_model(model_of(hypers, type_map))
        self.best_state: dict[str, torch.Tensor] | None = None
        #: Whether statistics and biases are those of data.
        self.is_trained = False
        self.dtype = torch.float64

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        """Move arrays to a device, and note the number format of systems and results."""
        self.dtype = fn(torch.zeros((), dtype=self.dtype)).dtype
        return super()._apply(fn, recurse)

    # -- our model ----------------------------------------------------------------------------

    def neutral(self) -> Model:
        """Return the neutral model with the parameters of this moment."""
        model: Model = to_neutral(self.evaluation.energies.core.lifted)
        return model

    def set_model(self, model: Model) -> None:
        """Take the parameters, statistics and biases of a neutral model."""
        name, target = energy_target(self.dataset_info)
        label = target.layout.block(0).properties.names[0]
        core = LiftedCore(convert(model))
        energies = AtomEnergies(core, model.info(), self.atomic_types)
        self.evaluation = EnergyMap(energies, name, label, self.outputs)

    @property
    def outputs(self) -> Dict[str, ModelOutput]:
        """The energy, of structures and of atoms."""
        return self.supported_outputs()

    # -- what metatrain asks for ----------------------------------------------------------------

    def forward(
        self,
        systems: List[System],
        outputs: Dict[str, ModelOutput],
        selected_atoms: Optional[Labels] = None,
    ) -> Dict[str, TensorMap]:
        """Evaluate systems; derivatives of any order follow from their positions and cells."""
        return self.evaluation(systems, outputs, selected_atoms)

    def requested_neighbor_lists(self) -> List[NeighborListOptions]:
        """Return the neighbor list that systems must have."""
        return self.evaluation.requested_neighbor_lists()

    def supported_outputs(self) -> dict[str, ModelOutput]:
        """Return the energy, of structures and of atoms."""
        name, target = energy_target(self.dataset_info)
        return {
            name: ModelOutput(
                quantity=target.quantity,
                unit=target.unit,
                sample_kind="atom",
                description=target.description,
            )
        }

    def restart(
        self, dataset_info: DatasetInfo, model_hypers: dict[str, Any] | None = None
    ) -> "DeepMD":
        """Return the model for another data set: the same target, and no new elements.

        Raises
        ------
        InputError
            If the data set has elements or a target that the model does not know.
        """
        unknown = sorted(set(dataset_info.atomic_types) - set(self.atomic_types))
        if unknown:
            names = ", ".join(chemical_symbols[z] for z in unknown)
            raise InputError(
                f"the model was not trained for {names}",
                where="training_set",
                fix="start a new training, or fine-tune with dp train --finetune",
            )
        if model_hypers is not None:
            raise_if_hypers_mismatch(self.hypers, model_hypers, default_hypers()["model"])
        known, found = energy_target(self.dataset_info)[0], energy_target(dataset_info)[0]
        if known != found:
            raise InputError(
                f'the model predicts "{known}", the data set has "{found}"',
                where="training_set",
                fix="name the target as it was",
            )
        self.dataset_info = self.dataset_info.union(dataset_info)
        return self

    def scriptable(self) -> EnergyMap:
        """Return the evaluation with a graph as its core, which TorchScript compiles."""
        model = self.neutral()
        energies = AtomEnergies(TracedCore(model), model.info(), self.atomic_types)
        kept = self.evaluation
        return EnergyMap(energies, kept.target, kept.label, self.outputs, self.dtype)

    def export(self, metadata: Optional[ModelMetadata] = None) -> AtomisticModel:
        """Return the model for engines: its core is a graph, the rest is compiled."""
        module = self.scriptable().eval()
        capabilities = ModelCapabilities(
            outputs=self.supported_outputs(),
            atomic_types=self.atomic_types,
            interaction_range=float(self.neutral().info().interaction_range),
            length_unit=self.dataset_info.length_unit,
            supported_devices=self.__supported_devices__,
            dtype=str(self.dtype).removeprefix("torch."),
        )
        merged = merge_metadata(self.__default_metadata__, metadata)
        return AtomisticModel(module, merged, capabilities)

    # -- checkpoints --------------------------------------------------------------------------

    def get_checkpoint(self) -> dict[str, Any]:
        """Return all that :meth:`load_checkpoint` needs."""
        state = copy.deepcopy(self.state_dict())
        return {
            "architecture_name": ARCHITECTURE,
            "model_ckpt_version": self.__checkpoint_version__,
            "metadata": self.__default_metadata__,
            "model_data": {
                "model_hypers": self.hypers,
                "dataset_info": self.dataset_info.to(device="cpu"),
            },
            "epoch": None,  # set by the trainer
            "best_epoch": None,
            "model_state_dict": state,
            "best_model_state_dict": state if self.best_state is None else self.best_state,
        }

    @classmethod
    def load_checkpoint(
        cls,
        checkpoint: dict[str, Any],
        context: Literal["restart", "finetune", "export"],
    ) -> "DeepMD":
        """Return the model of a checkpoint: the last one to restart, else the best one."""
        if context not in ("restart", "finetune", "export"):
            raise ValueError(f'Unknown context "{context}": use restart, finetune or export')
        data = checkpoint["model_data"]
        model = cls(data["model_hypers"], data["dataset_info"])
        model.is_trained = True
        kind, epoch = ("latest", "epoch") if context == "restart" else ("best", "best_epoch")
        log.info("Using %s model from epoch %s", kind, checkpoint[epoch])
        restarts = context == "restart"
        model.load_state_dict(
            checkpoint["model_state_dict" if restarts else "best_model_state_dict"]
        )
        if restarts:
            model.best_state = checkpoint["best_model_state_dict"]
        return model

    @classmethod
    def upgrade_checkpoint(cls, checkpoint: dict[str, Any]) -> dict[str, Any]:
        """Return a checkpoint of the current version."""
        return upgrade(checkpoint, "model_ckpt_version", MODEL_VERSION, MODEL_UPGRADES)
