# SPDX-License-Identifier: LGPL-3.0-or-later
"""The C interface, called through ctypes."""

import ctypes as ct
from pathlib import Path
from typing import Any

import numpy as np

#: Numbers of each dtype in C.
KINDS = {np.dtype(np.float64): ct.c_double, np.dtype(np.float32): ct.c_float}


def load(path: Path) -> Any:
    """Open libdeepmd_c."""
    library = ct.CDLL(str(path))
    for part in ("DeepPot", "DeepPotModelDevi", "DeepTensor", "DeepSpin", "DipoleChargeModifier"):
        for name in (f"DP_New{part}", f"DP_{part}CheckOK", f"DP_{part}GetTypeMap"):
            if hasattr(library, name):
                getattr(library, name).restype = ct.c_void_p
        getattr(library, f"DP_{part}GetCutoff").restype = ct.c_double
    for name in (
        "DP_NewDeepPotWithParam3",
        "DP_NewDeepSpinWithParam3",
        "DP_NewDeepTensorWithParam2",
        "DP_DeepBaseModelGetEngine",
    ):
        getattr(library, name).restype = ct.c_void_p
    library.DP_DeepSpinModelDeviCheckOK.restype = ct.c_void_p
    library.DP_NewDeepSpinModelDevi.restype = ct.c_void_p
    library.DP_DeepTensorGetSelTypes.restype = ct.POINTER(ct.c_int)
    return library


class CError(Exception):
    """A message of the C interface."""


class Handle:
    """A handle of the C interface, with methods for arrays.

    Parameters
    ----------
    library
        What `load` returned.
    part : str
        "DeepPot", "DeepSpin", "DeepPotModelDevi", "DeepSpinModelDevi" or "DeepTensor".
    files : pathlib.Path
        One model file, or those of an ensemble.
    engine : str, optional
        Of a single model: "auto", "native", "framework"; None calls the constructor without one.
        "usual" is the framework, where the kind of file has one.
    """

    def __init__(self, library: Any, part: str, *files: Path, engine: str | None = "usual") -> None:
        self.library, self.part, self.n = library, part, len(files)
        names = [str(f).encode() for f in files]
        new = getattr(library, f"DP_New{part}")
        if engine == "usual":
            engine = None if files[0].suffix == ".dp" else "framework"
        if part.endswith("Devi"):
            opened = new((ct.c_char_p * len(names))(*names), len(names))
        elif engine is not None:
            given = (None,) if part == "DeepTensor" else (None, 0)
            number = 2 if part == "DeepTensor" else 3
            new = getattr(library, f"DP_New{part}WithParam{number}")
            opened = new(names[0], 0, *given, engine.encode())
        else:
            opened = new(names[0])
        self.handle = ct.c_void_p(opened)
        self.check()

    def check(self) -> None:
        """Raise the message of the last call, if there is one."""
        message = self.text("CheckOK")
        if message:
            raise CError(message)

    def text(self, name: str) -> str:
        """Return a text that the library allocated."""
        pointer = getattr(self.library, f"DP_{self.part}{name}")(self.handle)
        text = ct.string_at(pointer).decode()
        self.library.DP_DeleteChar(ct.c_void_p(pointer))
        return text

    def get(self, name: str) -> Any:
        """Return a fact about the model: get("GetDimFParam")."""
        return getattr(self.library, f"DP_{self.part}{name}")(self.handle)

    def engine(self) -> str:
        """Return who evaluates the model."""
        pointer = self.library.DP_DeepBaseModelGetEngine(self.handle)
        text = ct.string_at(pointer).decode()
        self.library.DP_DeleteChar(ct.c_void_p(pointer))
        return text

    def close(self) -> None:
        """Delete the handle."""
        getattr(self.library, f"DP_Delete{self.part}")(self.handle)

    def _call(self, name: str, dtype: Any, *arguments: Any) -> None:
        """Call a function of the precision of `dtype`; arrays become pointers."""
        base, digit = (name[:-1], name[-1]) if name[-1].isdigit() else (name, "")
        suffix = "f" if np.dtype(dtype) == np.float32 else ""
        passed = []
        for a in arguments:
            passed.append(a.ctypes.data_as(ct.c_void_p) if isinstance(a, np.ndarray) else a)
        getattr(self.library, f"DP_{self.part}{base}{suffix}{digit}")(self.handle, *passed)
        self.check()

    def compute(
        self,
        coords: np.ndarray,
        cells: np.ndarray | None,
        atom_types: np.ndarray,
        mixed_type: bool = False,
        fparam: np.ndarray | None = None,
        aparam: np.ndarray | None = None,
        charge_spin: np.ndarray | None = None,
        spin: np.ndarray | None = None,
        dtype: Any = np.float64,
    ) -> dict[str, np.ndarray]:
        """Evaluate frames as `DeepPot.eval` does, in C; an ensemble takes one."""

        def array(x: np.ndarray | None) -> np.ndarray | None:
            return None if x is None else np.ascontiguousarray(x, dtype=dtype)

        coord, types = array(coords), np.ascontiguousarray(atom_types, dtype=np.int32)
        assert coord is not None
        n, natoms = len(coord), types.shape[-1]
        m = n * self.n
        magnetic = self.part.startswith("DeepSpin")
        out = {
            "energy": np.full((m, 1), np.nan),
            "force": np.full((m, natoms, 3), np.nan, dtype=dtype),
            **({"force_mag": np.full((m, natoms, 3), np.nan, dtype=dtype)} if magnetic else {}),
            "virial": np.full((m, 9), np.nan, dtype=dtype),
            "atom_energy": np.full((m, natoms, 1), np.nan, dtype=dtype),
            "atom_virial": np.full((m, natoms, 9), np.nan, dtype=dtype),
        }
        given = [n, natoms, coord, *([array(spin)] if magnetic else []), types, array(cells)]
        given += [array(fparam), array(aparam)]
        if mixed_type:
            self._call("ComputeMixedType", dtype, *given, *out.values())
        else:
            self._call("Compute3", dtype, *given, array(charge_spin), *out.values())
        return out

    def tensor(
        self, coord: np.ndarray, cell: np.ndarray | None, types: np.ndarray, dtype: Any = np.float64
    ) -> dict[str, np.ndarray]:
        """Evaluate the tensor of one frame, all of it and the values alone."""
        dim, natoms = self.get("GetOutputDim"), len(types)
        out = {
            "global": np.full(dim, np.nan, dtype=dtype),
            "force": np.full((dim, natoms, 3), np.nan, dtype=dtype),
            "virial": np.full((dim, 9), np.nan, dtype=dtype),
            "atom_virial": np.full((dim, natoms, 9), np.nan, dtype=dtype),
        }
        given = [natoms, np.ascontiguousarray(coord, dtype=dtype)]
        given += [np.ascontiguousarray(types, dtype=np.int32)]
        given += [None if cell is None else np.ascontiguousarray(cell, dtype=dtype)]
        values, size = ct.POINTER(KINDS[np.dtype(dtype)])(), ct.c_int()
        first = (out["global"], out["force"], out["virial"])
        self._call(
            *("Compute", dtype, *given, *first, ct.byref(values)),
            *(out["atom_virial"], ct.byref(size)),
        )
        out["atomic"] = np.ctypeslib.as_array(values, (size.value,)).reshape(-1, dim).copy()
        self._call("ComputeTensor", dtype, *given, ct.byref(values), ct.byref(size))
        out["values"] = np.ctypeslib.as_array(values, (size.value,)).reshape(-1, dim).copy()
        return out
