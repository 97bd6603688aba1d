# SPDX-License-Identifier: LGPL-3.0-or-later
"""Fitting networks: from the descriptor of an atom to its share of a quantity."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from deepmd.base.errors import InputError, ModelFileError, NotAvailableError
from deepmd.base.plugin import Registry
from deepmd.dpmodel import ops
from deepmd.dpmodel.construction import claim
from deepmd.dpmodel.descriptor.base import Atoms, Descriptor, DescriptorOutput, Slots
from deepmd.dpmodel.input_def import InputDef
from deepmd.dpmodel.module import Module, Registered, Serial
from deepmd.dpmodel.neighbors import Packing
from deepmd.dpmodel.nn.activation import precision_name
from deepmd.dpmodel.nn.layers import FittingNetwork, NetworkCollection
from deepmd.dpmodel.nn.random import Seed, child_seed
from deepmd.dpmodel.output_def import FittingOutputDef, Level
from deepmd.dpmodel.statistics import Sample
from deepmd.dpmodel.type_map import TypeChange
from deepmd.schema.common import NOT_NEGATIVE
from deepmd.schema.network import ACTIVATION, PRECISION, SEED, timestep, widths
from deepmd.schema.registry import fitting_args
from deepmd.schema.settings import setting

PARAM_STD_FLOOR = 0.01


class Fitting(Registered):
    """Base of all fittings: ``y_i = N([D_i, fparam, aparam, case]) + bias``.

    One network per center type, or one for all with ``mixed_types``. Frame and atomic parameters
    are shifted and scaled by their statistics.
    """

    registry: ClassVar[Registry] = Registry("fitting")
    keys = fitting_args
    torch_names: ClassVar[Mapping[str, str]] = {"nets": "filter_layers"}
    #: Whether it reads the equivariant part of descriptors.
    reads_directions: ClassVar[bool] = True
    atom_ener: list[float | None] | None = None
    layer_name: Any = None
    tot_ener_zero = False
    spin = None
    case_embd: Any
    fparam_avg: Any
    fparam_inv_std: Any
    aparam_avg: Any
    aparam_inv_std: Any

    ntypes: int = setting(..., "Number of types.", key=False)
    dim_descrpt: int = setting(..., "Width of the descriptor.", key=False)
    numb_fparam: int = setting(
        0, "Number of frame parameters (file fparam.npy).", rule=NOT_NEGATIVE
    )
    numb_aparam: int = setting(
        0, "Number of atomic parameters (file aparam.npy).", rule=NOT_NEGATIVE
    )
    default_fparam: list[float] | None = setting(
        None, "Frame parameters of systems without fparam.npy."
    )
    dim_case_embd: int = setting(
        0,
        "Length of the one-hot vector that tells branches of a multi-task model apart.",
        rule=NOT_NEGATIVE,
    )
    neuron: list[int] = widths(
        [120, 120, 120], "Widths of the fitting network.", alias=["n_neuron"]
    )
    activation_function: str = ACTIVATION
    resnet_dt: bool = timestep(True)
    precision: str = PRECISION
    seed: Seed = SEED
    trainable: bool | list[bool] = setting(
        True, "Whether the parameters are trained, for all or for each layer."
    )
    rcond: float | None = setting(
        None,
        "Singular values below this fraction of the largest are dropped in the bias fit.",
        key=False,
        rule=NOT_NEGATIVE,
    )
    use_aparam_as_mask: bool = setting(
        False,
        "The atomic parameter is a mask for the descriptor se_a_mask, and no input of the network.",
        key=False,
    )
    mixed_types: bool = setting(False, "Whether one network serves all types.", key=False)
    exclude_types: list[int] = setting((), "Types of which nothing is predicted.", key=False)
    type_map: list[str] | None = setting(None, "Names of the types.", key=False)

    def build(self) -> None:
        """Make the networks, with initial values, and statistics that change nothing."""
        if self.default_fparam is not None and len(self.default_fparam) != self.numb_fparam:
            raise InputError(
                f"default_fparam has {len(self.default_fparam)} numbers, numb_fparam is "
                f"{self.numb_fparam}",
                where="fitting_net",
                fix="give numb_fparam numbers",
            )
        layers = len(self.neuron) + 1
        flags = self.trainable if isinstance(self.trainable, list) else [self.trainable] * layers
        if len(flags) != layers:
            raise InputError(
                f"trainable has {len(flags)} entries for {layers} layers",
                where="fitting_net/trainable",
                fix="give one per hidden layer and one for the output layer",
            )
        self.trainable = [bool(flag) for flag in flags]
        claim(self.ntypes, self.net_out)
        claim(self.dim_case_embd + self.numb_fparam + self.numb_aparam)
        networks = [
            self.fresh_network(child_seed(self.seed, k))
            for k in range(1 if self.mixed_types else self.ntypes)
        ]
        self.nets = NetworkCollection(
            0 if self.mixed_types else 1, self.ntypes, "fitting_network", networks
        )
        self.bias_atom_e = np.zeros((self.ntypes, self.net_out))
        self.case_embd = np.zeros(self.dim_case_embd) if self.dim_case_embd else None
        for name, n in (("fparam", self.numb_fparam), ("aparam", self.numb_aparam)):
            setattr(self, f"{name}_avg", np.zeros(n) if n else None)
            setattr(self, f"{name}_inv_std", np.ones(n) if n else None)

    @property
    def net_out(self) -> int:
        """Numbers that the networks put out."""
        raise TypeError(f"{type(self).__name__} does not state the width of its output")

    def fresh_network(self, seed: Seed) -> FittingNetwork:
        """Return a network of one type with initial values."""
        aparam = 0 if self.use_aparam_as_mask else self.numb_aparam
        width = self.dim_descrpt + self.numb_fparam + aparam + self.dim_case_embd
        return self.part(FittingNetwork, in_dim=width, out_dim=self.net_out, seed=seed)

    @classmethod
    def for_descriptor(
        cls,
        section: dict[str, Any],
        descriptor: Descriptor,
        type_map: Sequence[str],
        exclude_types: Sequence[int] = (),
        tebd_dim: int = 0,
    ) -> Any:
        """Build the fitting of a checked section without its type.

        Parameters
        ----------
        section : dict
        descriptor : Descriptor
            Whose output it gets.
        type_map : list of str
        exclude_types : list of int
            Types of which nothing is predicted.
        tebd_dim : int
            Length of the type embedding of the model, which comes behind the descriptor; one
            network then serves all types.
        """
        return cls(
            len(type_map),
            descriptor.dim_out + tebd_dim,
            mixed_types=descriptor.mixed_types or tebd_dim > 0,
            type_map=type_map,
            exclude_types=exclude_types,
            **section,
        )

    def change_types(self, change: TypeChange) -> None:
        """Adopt another type map; new types get a network with initial values."""
        if not self.mixed_types:
            old = self.nets.networks
            self.nets.networks = [
                old[t] if t >= 0 else self.fresh_network(child_seed(change.seed, k))
                for k, t in enumerate(change.index)
            ]
        self.nets.ntypes = self.ntypes = len(change.new)
        self.bias_atom_e = change.rows(self.bias_atom_e, 0.0)
        self.exclude_types = change.types(self.exclude_types)
        if self.type_map is not None:
            self.type_map = list(change.new)
        if self.atom_ener:
            self.atom_ener = self._reordered_vacuum(change)

    def _reordered_vacuum(self, change: TypeChange) -> list[float | None]:
        """Reorder ``atom_ener``, whose numbers say of which types a vacuum energy is subtracted."""
        old = list(self.atom_ener or [])
        new = change.values(old)
        had, has = (any(e is not None for e in values) for values in (old, new))
        if self.mixed_types and had and not has:
            # One number switches this on for all types of a common network.
            raise InputError(
                "atom_ener would be left without a number, which changes the energies of all types",
                where="type_map",
                fix="keep a type that has one",
            )
        return new

    def reorder_descriptor(self, order: np.ndarray) -> None:
        """Let networks take the components of the descriptor, (dim_descrpt,), in another order."""
        if (order == np.arange(len(order))).all():
            return
        for network in self.nets.networks:
            first = network.layers[0]
            if first.adds_input:
                raise NotAvailableError(
                    "the components of the descriptor cannot change places, since the first layer "
                    "of the fitting adds its input"
                )
            first.w = np.concatenate([first.w[order], first.w[len(order) :]])

    def output_def(self) -> FittingOutputDef:
        """Return what this fitting predicts."""
        raise TypeError(f"{type(self).__name__} does not state its outputs")

    def inputs(self) -> tuple[InputDef, ...]:
        """Frame and atomic parameters, where there are any."""
        given = self.default_fparam
        default = None if given is None else tuple(float(x) for x in given)
        known = (
            InputDef("fparam", Level.FRAME, self.numb_fparam, default),
            InputDef("aparam", Level.ATOM, self.numb_aparam),
        )
        return tuple(one for one in known if one.size)

    def packings(self) -> list[Packing]:
        """Lists of the atoms of each type, when networks differ by type."""
        return [] if self.mixed_types else [Packing("centres", self.ntypes)]

    def network_input(self, descriptor: Any, atoms: Atoms) -> Any:
        """Descriptor and parameters side by side: (n_atoms, in_dim) in the precision."""
        parts = [ops.cast(descriptor, self._dtype)]
        n = ops.shape(atoms.atype)[0]
        if self.numb_fparam:
            given = atoms.frame_inputs["fparam"][:, : self.numb_fparam]
            fparam = (given - self.fparam_avg) * self.fparam_inv_std
            parts.append(ops.cast(ops.take(fparam, atoms.frame), self._dtype))
        if self.numb_aparam and not self.use_aparam_as_mask:
            aparam = (atoms.atom_inputs["aparam"] - self.aparam_avg) * self.aparam_inv_std
            parts.append(ops.cast(aparam, self._dtype))
        space = ops.xp(descriptor)
        if self.dim_case_embd:
            case = ops.cast(self.case_embd, self._dtype)[None, :]
            parts.append(space.broadcast_to(case, (n, self.dim_case_embd)))
        return parts[0] if len(parts) == 1 else space.concat(parts, axis=-1)

    @property
    def _dtype(self) -> str:
        return precision_name(self.precision)

    def per_network(
        self, x: Any, slots: Slots, atoms: Atoms, f: Callable[[int, FittingNetwork, Any], Any]
    ) -> Any:
        """Apply ``f(type, network, rows of x)`` to the atoms of every type: (n_atoms, …)."""
        if self.mixed_types:
            return f(-1, self.nets.at(), x)
        centers = slots[self.packings()[0]]
        parts = [f(t, self.nets.at(t), ops.take(x, rows)) for t, rows in enumerate(centers)]
        space = ops.xp(x)
        n = ops.shape(atoms.atype)[0]
        return ops.scatter_rows(space.concat(parts, axis=0), space.concat(centers, axis=0), n)

    def last_layer(self, output: DescriptorOutput, atoms: Atoms, slots: Slots) -> Any:
        """Output of the last hidden layer, (n_atoms, neuron[-1])."""
        x = self.network_input(output.value, atoms)
        return self.per_network(x, slots, atoms, lambda t, net, rows: net.hidden(rows))

    def atomic_values(self, output: DescriptorOutput, atoms: Atoms, slots: Slots) -> Any:
        """Output of the networks with the fitting's own bias, (n_atoms, net_out) float64."""
        x = self.network_input(output.value, atoms)
        y = self.per_network(x, slots, atoms, lambda t, net, rows: net(rows))
        return ops.cast(y, "float64") + ops.take(self.bias_atom_e, atoms.atype)

    def without_vacuum(self, y: Any, output: DescriptorOutput, atoms: Atoms, slots: Slots) -> Any:
        """Subtract the networks' output for an isolated atom where ``atom_ener`` asks for it."""
        if not any(e is not None for e in self.atom_ener or ()):
            return y
        x = self.network_input(0.0 * output.value, atoms)
        return y - ops.cast(self.per_network(x, slots, atoms, self._vacuum), "float64")

    def _vacuum(self, t: int, network: FittingNetwork, rows: Any) -> Any:
        """Output of isolated atoms of type t (-1: mixed), zero where none is subtracted."""
        y = network(rows)
        given = self.atom_ener or []
        has_number = t < 0 or (t < len(given) and given[t] is not None)
        return y if has_number else 0.0 * y

    def without_excluded(self, y: Any, atoms: Atoms) -> Any:
        """Set the rows of excluded types to zero: (n_atoms, …)."""
        if not self.exclude_types:
            return y
        return y * kept_atoms(self.exclude_types, self.ntypes, atoms.atype, y)

    def call(self, output: DescriptorOutput, atoms: Atoms, slots: Slots) -> dict[str, Any]:
        """Evaluate: {name: (n_atoms, size) float64}, without the model's bias."""
        raise TypeError(f"{type(self).__name__} cannot be evaluated")

    def with_out_bias(
        self, values: dict[str, Any], out_bias: Any, out_std: Any, atoms: Atoms
    ) -> dict[str, Any]:
        """Apply the model's statistics per type, (n_outputs, ntypes, size), to the outputs."""
        out = dict(values)
        for k, (name, definition) in enumerate(self.output_def().get_data().items()):
            out[name] = self.shifted(
                values[name],
                out_bias[k, :, : definition.size],
                out_std[k, :, : definition.size],
                atoms,
            )
        return out

    def shifted(self, value: Any, bias: Any, std: Any, atoms: Atoms) -> Any:
        """Apply bias and deviation, (ntypes, size), to an output (n_atoms, size)."""
        return value + ops.take(bias, atoms.atype)

    def sel_type(self) -> list[int]:
        """Return the types that are predicted; empty means all."""
        return []

    def kinds(self) -> list[str]:
        """Return the kinds of what is predicted; see :meth:`Model.kinds`."""
        return self.output_def().keys()

    @property
    def common_bias(self) -> bool:
        """Whether one bias and deviation serve for all types."""
        return False

    def own_bias(self) -> np.ndarray:
        """Bias that the fitting adds to the output itself, (ntypes, size): the array it holds."""
        return self.bias_atom_e

    def fixed_bias(self, name: str) -> Sequence[Any] | None:
        """Biases of an output that the section fixes, by types; None where one is to be fitted."""
        return None

    def compute_statistics(self, sample: Sample) -> None:
        """Set means and deviations of the parameters from the sampled frames, or their cache."""
        for name, size in (("fparam", self.numb_fparam), ("aparam", self.numb_aparam)):
            if size:
                sums = functools.partial(parameter_sums, sample, name)
                found = sample.fetch({name: (size, 3)}, sums)[name]
                self.set_parameter_statistics(name, found, sample.protect)

    def set_parameter_statistics(
        self, name: str, sums: np.ndarray, smallest: float = PARAM_STD_FLOOR
    ) -> None:
        """Set mean and deviation of ``fparam`` or ``aparam`` from (dim, 3) sums over samples."""
        mean = sums[:, 1] / sums[:, 0]
        std = np.sqrt(np.maximum(sums[:, 2] / sums[:, 0] - mean**2, 0.0))
        setattr(self, f"{name}_avg", mean)
        setattr(self, f"{name}_inv_std", 1.0 / np.maximum(std, smallest))


Module._classes["Fitting"] = Fitting


def parameter_sums(sample: Sample, name: str) -> dict[str, np.ndarray]:
    """Return number, sum and sum of squares of ``fparam`` or ``aparam``, (dim, 3), by its name."""
    values = np.concatenate([getattr(batch, name) for batch in sample.without_edges()])
    parts = np.ones_like(values), values, values**2
    return {name: np.stack([part.sum(axis=0) for part in parts], axis=1)}


def kept_atoms(excluded: Sequence[int], ntypes: int, atype: Any, like: Any) -> Any:
    """Return 1 for atoms that count and 0 for those of excluded types: (n_atoms, 1)."""
    kept = np.array([[float(t not in excluded)] for t in range(ntypes)])
    return ops.take(ops.like(kept, like), atype)


#: Keys that the dictionary of every fitting begins with.
LAYOUT = (
    "@class @version var_name ntypes dim_descrpt neuron resnet_dt numb_fparam numb_aparam"
    " dim_case_embd default_fparam activation_function precision mixed_types nets rcond"
    " exclude_types @variables type_map tot_ener_zero trainable layer_name use_aparam_as_mask spin"
    " type "
)
BUFFERS = (
    "bias_atom_e",
    "case_embd",
    "fparam_avg",
    "fparam_inv_std",
    "aparam_avg",
    "aparam_inv_std",
)
CONSTANTS = ("tot_ener_zero", "layer_name", "spin")


def fitting_serial(
    kind: str,
    version: int,
    keys: str,
    *,
    constants: Sequence[str] = ("var_name",),
    buffers: Sequence[str] = (),
    names_layers: bool = False,
) -> Serial:
    """Return what a fitting holds: the common part, and the keys and buffers of its own.

    ``names_layers`` says whether ``layer_name`` is a setting, and not None.
    """
    common = [key for key in CONSTANTS if key != "layer_name" or not names_layers]
    return Serial(
        layout=LAYOUT + keys,
        name="Fitting",
        type=kind,
        version=version,
        accepts=tuple(range(1, version + 1)),
        buffers=(*BUFFERS, *buffers),
        children=("nets",),
        constants=(*common, *constants),
        upgrades=dict.fromkeys(range(1, version), older_fitting),
        variants=(without_null_networks, unnamed),
    )


def without_null_networks(data: dict) -> dict:
    """Replace null networks by zero ones, of types that are excluded.

    TensorFlow has no networks for the types that a fitting does not predict. Its files say so by
    null in their places, and not in ``exclude_types``.
    """
    networks = data["nets"]["networks"]
    null = [t for t, network in enumerate(networks) if network is None]
    if not null:
        return data
    if len(null) == len(networks) or data["mixed_types"]:
        raise ModelFileError("the fitting has no networks")
    zero = zeroed(next(n for n in networks if n is not None))
    filled = {**data["nets"], "networks": [zero if n is None else n for n in networks]}
    return {**data, "nets": filled, "exclude_types": sorted({*data["exclude_types"], *null})}


def unnamed(data: dict) -> dict:
    """Fill in that layers have no names."""
    return {"layer_name": None, **data}


def zeroed(node: Any) -> Any:
    """Return a copy of a dictionary with zeros in all arrays."""
    if isinstance(node, Mapping):
        return {k: zeroed(v) for k, v in node.items()}
    if isinstance(node, list):
        return [zeroed(v) for v in node]
    return np.zeros_like(node) if isinstance(node, np.ndarray) else node


def older_fitting(data: Mapping[str, Any]) -> dict:
    """Fill in what earlier versions of the fittings did not have."""
    variables = {"case_embd": None, **data.get("@variables", {})}
    return {"dim_case_embd": 0, "default_fparam": None, **data, "@variables": variables}
