# SPDX-License-Identifier: LGPL-3.0-or-later
"""Outputs that dpdata reads become data sets; needs dpdata."""

import numpy as np
import pytest
from insight.alloys import alloy

from deepmd.data.dpdata import read_with_dpdata
from deepmd.data.frames import frames_of
from deepmd.data.search import open_systems
from deepmd.data.writers import write_frames
from deepmd.main import main

pytest.importorskip("dpdata", reason="dpdata is not installed")

#: The lines of an OUTCAR of VASP that dpdata looks at; energies [eV], forces [eV/Å], kB.
HEAD = """ vasp.5.4.4
 POTCAR:    PAW_PBE Cu 22Jun2005
 POTCAR:    PAW_PBE Au 04Oct2007
   TITEL  = PAW_PBE Cu 22Jun2005
   TITEL  = PAW_PBE Au 04Oct2007
   ions per type =               2   1
   NELM   =     60;   NELMIN=  2; NELMDL= -5     # of ELM steps
   number of dos      NEDOS =    301   number of ions     NIONS =      3
"""
FRAME = """--------------------------------------- Iteration {k:6d}(   8)  ---------------------------------------
  FORCE on cell =-STRESS in cart. coord.  units (eV):
  Direction    XX          YY          ZZ          XY          YZ          ZX
  --------------------------------------------------------------------------------------
  Alpha Z     3.49110     3.49110     3.49110
  Ewald    -210.07000  -210.07000  -210.07000    -0.00000    -0.00000    -0.00000
  Hartree    28.93000    28.93000    28.93000     0.00000     0.00000     0.00000
  E(xc)     -33.81000   -33.81000   -33.81000    -0.00000    -0.00000    -0.00000
  Local      41.03000    41.03000    41.03000     0.00000    -0.00000     0.00000
  n-local   -17.38000   -17.38000   -17.38000     0.00000     0.00000     0.00000
  augment     4.28000     4.28000     4.28000    -0.00000     0.00000    -0.00000
  Kinetic   183.45000   183.45000   183.45000     0.00000     0.00000     0.00000
  Fock        0.00000     0.00000     0.00000     0.00000     0.00000     0.00000
  -------------------------------------------------------------------------------------
  Total       0.00000     0.00000     0.00000     0.00000     0.00000     0.00000
  in kB  {xx:12.5f}{yy:12.5f}{zz:12.5f}{xy:12.5f}{yz:12.5f}{zx:12.5f}
  external pressure =        1.00 kB  Pullay stress =        0.00 kB

 VOLUME and BASIS-vectors are now :
 -----------------------------------------------------------------------------
  energy-cutoff  :      400.00
  volume of cell :      125.00
      direct lattice vectors                 reciprocal lattice vectors
     5.000000000  0.000000000  0.000000000     0.200000000  0.000000000  0.000000000
     0.000000000  5.000000000  0.000000000     0.000000000  0.200000000  0.000000000
     0.000000000  0.000000000  5.000000000     0.000000000  0.000000000  0.200000000

 POSITION                                       TOTAL-FORCE (eV/Angst)
 -----------------------------------------------------------------------------------
{rows}
 -----------------------------------------------------------------------------------
  FREE ENERGIE OF THE ION-ELECTRON SYSTEM (eV)
  ---------------------------------------------------
  free  energy   TOTEN  = {energy:18.8f} eV

  energy  without entropy= {energy:18.8f}  energy(sigma->0) = {energy:18.8f}
"""


def outcar(path, frames=2):
    """Write an output of VASP; return positions, forces, energies and stresses [kB]."""
    rng = np.random.default_rng(0)
    coord = rng.uniform(0, 5, (frames, 3, 3)).round(5)
    force = rng.normal(size=(frames, 3, 3)).round(6)
    energy, stress = rng.normal(size=frames).round(8), rng.normal(size=(frames, 6)).round(5)
    text = HEAD
    for k in range(frames):
        rows = "\n".join(
            "".join(f"{x:13.5f}" for x in c) + "  " + "".join(f"{x:14.6f}" for x in f)
            for c, f in zip(coord[k], force[k], strict=True)
        )
        names = ("xx", "yy", "zz", "xy", "yz", "zx")
        numbers = dict(zip(names, stress[k], strict=True))
        text += FRAME.format(k=k + 1, rows=rows, energy=energy[k], **numbers)
    path.write_text(text)
    return coord, force, energy, stress


def test_an_output_of_vasp(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    coord, force, energy, stress = outcar(tmp_path / "OUTCAR")
    assert main(["data", "convert", "OUTCAR", "out", "--dpdata", "vasp/outcar"]) == 0
    found = frames_of(open_systems(["out"]))
    assert found.names == ["Cu", "Au"]
    assert len(found.frames) == 2
    for k, frame in enumerate(found.frames):
        assert frame.types.tolist() == [0, 0, 1]
        np.testing.assert_allclose(frame.coord, coord[k], atol=1e-12)
        np.testing.assert_allclose(frame.cell, 5 * np.eye(3))
        np.testing.assert_allclose(frame.labels["force"], force[k].ravel(), atol=1e-12)
        np.testing.assert_allclose(frame.labels["energy"], energy[k], atol=1e-12)
        # 1 kB = 0.1 GPa; the virial is the volume times the pressure that VASP prints.
        xx, yy, zz, xy, yz, zx = stress[k] * 125 / 1602.1766208
        want = np.array([xx, xy, zx, xy, yy, yz, zx, yz, zz])
        np.testing.assert_allclose(frame.labels["virial"], want, rtol=1e-6)


def test_its_own_reader_of_our_data_agrees(tmp_path):
    frames = alloy(3)
    write_frames(frames, tmp_path / "a")
    [folder] = (
        (tmp_path / "a").iterdir() if not (tmp_path / "a/type.raw").exists() else [tmp_path / "a"]
    )
    found = read_with_dpdata([str(folder)], "deepmd/npy")
    assert found.names == frames.names
    for one, other in zip(found.frames, frames.frames, strict=True):
        np.testing.assert_allclose(one.coord, other.coord, rtol=1e-12)
        for name, values in other.labels.items():
            np.testing.assert_allclose(one.labels[name], values, rtol=1e-12)


def test_what_it_cannot_read_is_one_line(tmp_path, capsys):
    (tmp_path / "OUTCAR").write_text("nothing\n")
    arguments = ["data", "convert", str(tmp_path / "OUTCAR"), str(tmp_path / "out")]
    assert main([*arguments, "--dpdata", "vasp/outcar"]) == 1
    message = capsys.readouterr().err
    assert "OUTCAR" in message
    assert "Traceback" not in message
    assert not (tmp_path / "out").exists()
