# SPDX-License-Identifier: LGPL-3.0-or-later
"""Three-body embedding of angles, types through an embedding.

The three-body part of DPA-2: Zhang et al., "DPA-2: a large atomic model as a multi-task learner",
npj Comput. Mater. 10, 293 (2024).
"""

from typing import Any

import numpy as np

from deepmd.base.errors import ModelFileError
from deepmd.dpmodel import ops
from deepmd.dpmodel.descriptor.base import Atoms, Descriptor, DescriptorOutput, Slots
from deepmd.dpmodel.descriptor.environment import with_tables
from deepmd.dpmodel.descriptor.mixed import EmbeddedTypes, MixedDescriptor, Neighborhood
from deepmd.dpmodel.descriptor.pair_networks import type_pairs
from deepmd.dpmodel.module import Serial
from deepmd.schema.settings import setting


class ThreeBodyBlock(MixedDescriptor):
    r"""``D_i = 1/N² Σ_jk θ_jk G(θ_jk, types)``, ``θ_jk = R_j · R_k``.

    R_j are the angular components of the normalized environment. With ``concat`` the network sees
    the angle and both type embeddings; with ``strip`` a network of the types gates that of the
    angle, ``G = N_s(θ) (1 + N_t)``. The angular mean is zero, so that empty slots have the angle 0
    and count nothing.
    """

    empty_slots_contribute = False
    angular = True
    type_one_side = False

    smooth: bool = setting(True, "In strip mode, let the gate vanish at the cutoff.")

    @property
    def dim_out(self) -> int:
        """Width of the descriptor."""
        return self.neuron[-1]

    def block(self, atoms: Atoms, slots: Slots, types: Any) -> Any:
        """Evaluate every atom, given the embeddings of all types (nt + 1, dim): (n_atoms, ng)."""
        near = self.neighborhood(atoms, slots)
        space = ops.xp(near.rows)
        angular = near.rows[..., 1:]
        theta = space.matmul(angular, ops.matrix_transpose(angular))
        n, k = ops.shape(near.types)
        theta = space.reshape(theta, (n, k * k, 1))
        g = self.features(theta, near, types, n, k)
        return ops.contract(g, theta)[:, :, 0] * (1.0 / self.nnei**2)

    def features(self, theta: Any, near: Neighborhood, types: Any, n: Any, k: Any) -> Any:
        """Embed angles (n, K², 1) between neighbors: (n, K², ng)."""
        space, network = ops.xp(theta), self.geometry
        if self.tebd_input_mode == "concat":
            a, shape = ops.take(types, near.types), (n, k, k, self.tebd_dim)
            first = space.broadcast_to(a[:, :, None, :], shape)
            second = space.broadcast_to(a[:, None, :, :], shape)
            both = space.reshape(
                space.concat([first, second], axis=-1), (n, k * k, 2 * self.tebd_dim)
            )
            return network(space.concat([theta, both], axis=-1))
        index = near.types[:, :, None] * (self.ntypes + 1) + near.types[:, None, :]
        gate = ops.take(self.type_gate(types), space.reshape(index, (n, k * k)))
        if self.smooth:
            pair = near.switch[:, :, None] * near.switch[:, None, :]
            gate = gate * space.reshape(pair, (n, k * k, 1))
        g = network(theta)
        return g * gate + g

    def embedded_types(self, types: Any) -> Any:
        """Output of the types' network for every pair of neighbor types: ((nt + 1)², ng)."""
        pairs = ops.xp(types).concat(list(type_pairs(types)), axis=-1)
        return self.embeddings_strip.networks[0](pairs)

    def restore_array(self, name: str, value: Any) -> Any:
        value = super().restore_array(name, value)
        if name == "davg" and np.any(value[:, 1:]):
            raise ModelFileError("the angular mean of a three-body descriptor is not zero")
        return value


@Descriptor.register("se_e3_tebd")
class DescrptSeTTebd(EmbeddedTypes, ThreeBodyBlock):
    """Three-body embedding of angles and types, see :class:`ThreeBodyBlock`."""

    serial = with_tables(
        Serial(
            layout="@class type @version rcut rcut_smth sel ntypes neuron tebd_dim tebd_input_mode"
            " set_davg_zero activation_function resnet_dt concat_output_tebd use_econf_tebd type_map"
            " precision embeddings env_mat type_embedding exclude_types env_protection smooth"
            " @variables trainable embeddings_strip",
            name="Descriptor",
            type="se_e3_tebd",
            buffers=("davg", "dstd"),
            children=("embeddings", "type_embedding", "embeddings_strip"),
            constants=("env_mat",),
            optional=("embeddings_strip",),
        )
    )
    torch_prefix = "se_ttebd."

    set_davg_zero: bool = setting(True)
    use_tebd_bias: bool = setting(True)

    def build(self) -> None:
        super().build()
        self.type_embedding = self.make_type_embedding(self.tebd_dim)

    @property
    def dim_out(self) -> int:
        """Width of the descriptor."""
        return super().dim_out + self.tebd_dim * self.concat_output_tebd

    def call(self, atoms: Atoms, slots: Slots) -> DescriptorOutput:
        """Evaluate the descriptor of every atom: value (n_atoms, ng [+ tebd_dim])."""
        types = self.type_embedding()
        own = ops.take(types, atoms.atype)
        return DescriptorOutput(self.with_types(self.block(atoms, slots, types), own))

    @classmethod
    def construct(cls, config: dict, data: dict) -> Any:
        """The bias of the type embedding is told by its own dictionary only."""
        config["use_tebd_bias"] = data["type_embedding"].get("use_tebd_bias", True)
        return super().construct(config, data)
