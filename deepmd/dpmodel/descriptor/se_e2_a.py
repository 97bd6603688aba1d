# SPDX-License-Identifier: LGPL-3.0-or-later
"""Smooth-edition descriptor with full (radial and angular) information, two-body embedding.

Zhang et al., "End-to-end symmetry preserving inter-atomic potential energy model for finite and
extended systems", NeurIPS 2018, eq. 7-13.
"""

from collections.abc import Sequence
from typing import Any

from deepmd.dpmodel import ops
from deepmd.dpmodel.descriptor.base import Atoms, Descriptor, DescriptorOutput, Slots
from deepmd.dpmodel.descriptor.environment import protected
from deepmd.dpmodel.descriptor.typed import TypedDescriptor, pair_networks
from deepmd.dpmodel.module import Serial
from deepmd.dpmodel.nn.random import Seed
from deepmd.schema.descriptor import se_e2_a_arguments
from deepmd.schema.registry import descriptor_args


@Descriptor.register("se_e2_a", "se_a")
class DescrptSeA(TypedDescriptor):
    r"""``D_i = T T_<ᵀ`` with ``T = (1/N) Σ_j G(s_ij) ⊗ R_ij``.

    R is the normalised environment matrix, G the embedding of its radial component, ``T_<`` the
    first ``axis_neuron`` rows of T.

    Parameters
    ----------
    rcut, rcut_smth : float
        Cutoff and start of the switch [Å].
    sel : list of int
        Slots per neighbour type; N is their sum.
    neuron : list of int
        Widths of the embedding networks.
    axis_neuron : int
        Rows of T in the second factor.
    resnet_dt : bool
        Whether residual layers have a trained factor per channel.
    type_one_side : bool
        One network per neighbour type instead of one per pair of types.
    exclude_types : list of (int, int)
        Pairs of types that do not see each other.
    env_protection : float
        Added to distances in denominators [Å].
    set_davg_zero : bool
        Keep the mean of the environment matrix at zero.
    activation_function, precision, trainable, seed
        Of the networks.
    type_map : list of str, optional
        Names of the types.
    """

    serial = Serial(
        layout="@class type @version rcut rcut_smth sel neuron axis_neuron resnet_dt set_davg_zero"
        " activation_function precision embeddings env_mat exclude_types env_protection @variables"
        " type_map trainable type_one_side spin",
        name="Descriptor",
        type="se_e2_a",
        version=2,
        accepts=(1, 2),
        buffers=("davg", "dstd"),
        children=("embeddings",),
        constants=("env_mat", "spin"),
        upgrades={1: protected},
    )
    spin = None

    def __init__(
        self,
        rcut: float,
        rcut_smth: float,
        sel: Sequence[int],
        *,
        neuron: Sequence[int] = (10, 20, 40),
        axis_neuron: int = 4,
        resnet_dt: bool = False,
        type_one_side: bool = False,
        exclude_types: Sequence[Sequence[int]] = (),
        env_protection: float = 0.0,
        set_davg_zero: bool = False,
        activation_function: str = "tanh",
        precision: str = "default",
        trainable: bool = True,
        type_map: Sequence[str] | None = None,
        seed: Seed = None,
    ) -> None:
        self.type_one_side = self.one_sided = type_one_side
        self._init_environment(
            rcut=rcut,
            rcut_smth=rcut_smth,
            sel=sel,
            exclude_types=exclude_types,
            env_protection=env_protection,
            set_davg_zero=set_davg_zero,
            precision=precision,
            type_map=type_map,
            trainable=trainable,
        )
        self.neuron, self.axis_neuron, self.resnet_dt = list(neuron), axis_neuron, resnet_dt
        self.activation_function = activation_function
        self.embeddings = pair_networks(self, 1 if type_one_side else 2, seed)

    @property
    def dim_out(self) -> int:
        """Width of the descriptor."""
        return self.neuron[-1] * self.axis_neuron

    @property
    def dim_embed(self) -> int:
        """Width of the rotation matrix."""
        return self.neuron[-1]

    def call(self, atoms: Atoms, slots: Slots) -> DescriptorOutput:
        """Evaluate the descriptor of every atom.

        Returns
        -------
        DescriptorOutput
            value (n_atoms, ng * axis_neuron), rotation (n_atoms, ng, 3).
        """
        parts = [
            (rows, self.group(a, atoms, tables)) for a, rows, tables in self.groups(atoms, slots)
        ]
        return self.assemble(atoms, parts)

    def group(self, a: int | None, atoms: Atoms, tables: Sequence[Any]) -> DescriptorOutput:
        """Descriptor of the centres of type ``a``, or of all; tables[b] (n, K_b) has type b."""
        t = sum(self.pair(a, b, atoms, table) for b, table in enumerate(tables))
        t = t * (1.0 / self.nnei)  # (n, ng, 4)
        d = ops.xp(t).matmul(t, ops.matrix_transpose(t[:, : self.axis_neuron, :]))
        n = ops.shape(d)[0]
        return DescriptorOutput(ops.xp(d).reshape(d, (n, self.dim_out)), t[:, :, 1:])

    def pair(self, a: int | None, b: int, atoms: Atoms, table: Any) -> Any:
        """Sum over the neighbours of type b of G ⊗ R, empty slots included: (n, ng, 4)."""
        network = self.network(a, b)
        r = self.rows(a, atoms, table, b)
        t = ops.embed_contract(r, network)
        empty = self.padding_row(a, atoms)
        missing = self.sel[b] - ops.shape(table)[1]
        return t + missing * ops.contract(network(empty[..., :1]), empty)


descriptor_args.register("se_e2_a", alias=["se_a"])(se_e2_a_arguments)
