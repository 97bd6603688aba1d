# SPDX-License-Identifier: LGPL-3.0-or-later
"""The i-PI driver against ASE's server, i-PI itself, and a server that speaks byte by byte."""

import contextlib
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from deepmd.infer import DeepPot

from .conftest import BOHR, CELL, HARTREE, NAMES, TYPES

ase = pytest.importorskip("ase")

from ase import Atoms, units  # noqa: E402
from ase.calculators.socketio import SocketIOCalculator  # noqa: E402


def expected(model_file, coord, cell=None):
    """Energy, forces and virial of the model."""
    cells = None if cell is None else cell.reshape(1, 9)
    energy, force, virial = DeepPot(model_file).eval(coord.reshape(1, -1), cells, TYPES)
    return energy[0, 0], force[0], virial.reshape(3, 3)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def ase_server(driver, port=None):
    """ASE's side; it sees when the driver ends."""
    return SocketIOCalculator(
        log=None,
        timeout=300,
        port=port,
        unixsocket=driver.host if port is None else None,
        launch_client=lambda *_, **__: driver,
    )


# ---- ASE ------------------------------------------------------------------------------------
@pytest.mark.parametrize("periodic", [True, False])
@pytest.mark.parametrize("use_unix", [True, False])
def test_ase_gets_the_models_forces(start, model_file, coord, use_unix, periodic):
    atoms = Atoms(NAMES, coord, cell=CELL if periodic else None, pbc=periodic)
    where = {} if use_unix else {"host": "localhost", "port": free_port()}
    driver = start(use_unix=use_unix, verbose=True, **where)  # waits for the server
    # ASE's units are those of another year.
    length, energy_unit = BOHR / units.Bohr, units.Ha / HARTREE
    with ase_server(driver, where.get("port")) as calculator:
        atoms.calc = calculator
        for _ in range(2):
            e, f, v = expected(model_file, coord * length, CELL * length if periodic else None)
            assert atoms.get_potential_energy() == pytest.approx(e * energy_unit, abs=1e-10)
            np.testing.assert_allclose(
                atoms.get_forces(), f * energy_unit * length, rtol=0, atol=1e-10
            )
            if periodic:
                stress = -v * energy_unit / atoms.get_volume()
                stress = (stress + stress.T) / 2
                found = atoms.get_stress(voigt=False)
                np.testing.assert_allclose(found, stress, rtol=0, atol=1e-10)
            coord = coord + 0.05 * np.sin(np.arange(coord.size)).reshape(coord.shape)
            atoms.positions = coord
    out, err = driver.communicate(timeout=300)
    assert driver.returncode == 0 and err == ""
    assert "evaluation 2: energy" in out


# ---- i-PI -----------------------------------------------------------------------------------
INPUT = """<simulation verbosity='low'>
  <output prefix='run'>
    <properties stride='1' filename='out'> [ step, conserved{{electronvolt}} ] </properties>
    <trajectory filename='x' stride='1' format='xyz' cell_units='angstrom'> positions{{angstrom}} </trajectory>
    <trajectory filename='f' stride='1' format='xyz'> forces{{ev/ang}} </trajectory>
  </output>
  <total_steps>4</total_steps>
  <prng><seed>3</seed></prng>
  <ffsocket name='dp' mode='unix' pbc='false'> <address>{host}</address> </ffsocket>
  <system>
    <initialize nbeads='2'>
      <file mode='xyz' units='angstrom'> start_ipi.xyz </file>
      <cell mode='manual' units='angstrom'> {cell} </cell>
      <velocities mode='thermal' units='kelvin'> 100 </velocities>
    </initialize>
    <forces> <force forcefield='dp'/> </forces>
    <ensemble> <temperature units='kelvin'> 100 </temperature> </ensemble>
    <motion mode='dynamics'>
      <dynamics mode='nve'> <timestep units='femtosecond'> 0.2 </timestep> </dynamics>
    </motion>
  </system>
</simulation>
"""


def test_ipi_moves_the_beads_by_the_models_forces(start, model_file, coord, tmp_path):
    program = Path(sys.executable).with_name("i-pi")
    if not program.is_file():
        pytest.skip("i-PI is not installed (pip install ipi)")
    driver = start()
    # i-PI wants the first vector along x and the second in the plane of x and y.
    columns = "[" + ", ".join(str(x) for x in CELL.T.ravel()) + "]"
    (tmp_path / "input.xml").write_text(INPUT.format(host=driver.host, cell=columns))
    Atoms(NAMES, coord).write(tmp_path / "start_ipi.xyz", format="xyz")
    done = subprocess.run(
        [program, "input.xml"], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    driver.communicate(timeout=300)
    assert driver.returncode == 0

    for bead in ("0", "1"):
        x, f = (ase.io.read(tmp_path / f"run.{k}_{bead}.xyz", ":", format="xyz") for k in "xf")
        assert len(x) == 5
        for frame, force in zip(x, f, strict=True):
            _, want, _ = expected(model_file, frame.positions, CELL)
            np.testing.assert_allclose(force.positions, want, rtol=1e-4, atol=1e-4)
    conserved = np.loadtxt(tmp_path / "run.out")[:, 1]
    assert np.ptp(conserved) < 1e-3


# ---- Messages -------------------------------------------------------------------------------
class Server:
    """One connection, bytes in and out."""

    def __init__(self, host):
        self.path = Path(f"/tmp/ipi_{host}")
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(self.path))
        self.listener.listen()
        self.listener.settimeout(60)

    def accept(self):
        self.socket, _ = self.listener.accept()
        self.socket.settimeout(60)

    def close(self):
        for s in (self.listener, getattr(self, "socket", None)):
            if s is not None:
                s.close()
        self.path.unlink()

    def send(self, *parts):
        for part in parts:
            self.socket.sendall(
                part.ljust(12).encode() if isinstance(part, str) else np.asarray(part).tobytes()
            )

    def receive(self, dtype, count=1):
        data = self.socket.recv(np.dtype(dtype).itemsize * count, socket.MSG_WAITALL)
        return np.frombuffer(data, dtype)

    def ask(self, header):
        self.send(header)
        return self.socket.recv(12, socket.MSG_WAITALL).decode()


@pytest.fixture
def server(start):
    """A server with a driver that is connected."""
    driver = start()
    made = Server(driver.host)
    made.driver = driver
    try:
        made.accept()
        yield made
    finally:
        made.close()


def positions(coord, cell=CELL):
    return (
        "POSDATA",
        cell.T / BOHR,
        np.linalg.inv(cell).T * BOHR,
        np.int32(len(coord)),
        coord / BOHR,
    )


def test_states_and_numbers(server, model_file, coord):
    assert server.ask("STATUS") == "NEEDINIT    "
    server.send("INIT", np.int32(0), np.int32(3), np.frombuffer(b"abc", np.uint8))
    assert server.ask("STATUS") == "READY       "
    server.send(*positions(coord))
    assert server.ask("STATUS") == "HAVEDATA    "
    assert server.ask("GETFORCE") == "FORCEREADY  "
    e, f, v = expected(model_file, coord, CELL)
    assert server.receive(np.float64)[0] == pytest.approx(e / HARTREE, abs=1e-12)
    assert server.receive(np.int32)[0] == len(NAMES)
    found = server.receive(np.float64, coord.size).reshape(-1, 3)
    np.testing.assert_allclose(found, f * BOHR / HARTREE, rtol=0, atol=1e-12)
    # Columns are vectors here; the model's virial is symmetric up to rounding.
    virial = server.receive(np.float64, 9).reshape(3, 3)
    np.testing.assert_allclose(virial.T, v / HARTREE, rtol=0, atol=1e-12)
    assert server.receive(np.int32)[0] == 0
    assert server.ask("STATUS") == "READY       "
    server.send("EXIT")
    out, err = server.driver.communicate(timeout=300)
    assert server.driver.returncode == 0
    assert err == "" and "1 evaluations" in out


@pytest.mark.parametrize(
    ("message", "says"),
    [
        (("HELLO",), '"HELLO", which is no message'),
        (("GETFORCE",), "forces before it sent positions"),
        (positions(np.zeros((5, 3))), "the server has 5 atoms, but coord_file names 6"),
        (positions(np.full((6, 3), np.nan)), "finite"),
    ],
)
def test_a_wrong_message_is_named(server, message, says):
    # The driver may be gone before the end of the message.
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        server.send(*message)
    _, err = server.driver.communicate(timeout=300)
    assert server.driver.returncode == 1
    assert err.startswith("dp_ipi: ") and says in err
    assert len(err.splitlines()) == 1


def test_half_a_message_is_an_error(server):
    server.socket.sendall(b"POSDA")
    server.socket.close()
    _, err = server.driver.communicate(timeout=300)
    assert server.driver.returncode == 1
    assert "in the middle of a message" in err


# ---- Input ----------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"graph_file": None}, "input.json: graph_file: is missing"),
        ({"graph_file": "no.pth"}, "no.pth"),
        ({"coord_file": "no.xyz"}, "no.xyz: cannot be read"),
        ({"coord_file": "input.json"}, "input.json: the first line of an XYZ file is the number"),
        ({"atom_type": {"O": 0}}, 'start.xyz: atom "H" has no type'),
        ({"atom_type": {"O": 0, "H": 2}}, "atom_type/H: 2, but"),
        ({"atom_type": {"O": -1}}, "atom_type/O: expected a number from 0, got -1"),
        ({"port": 70000}, "port: expected a number from 1 to 65535, got 70000"),
        ({"verbose": "yes"}, 'verbose: expected true or false, got "yes"'),
        ({"grph_file": "x"}, "grph_file: unknown key"),
    ],
)
def test_wrong_input_is_named(start, keys, says):
    driver = start(**keys)
    _, err = driver.communicate(timeout=300)
    assert driver.returncode == 1
    assert err.startswith("dp_ipi: ") and says in err


def test_types_come_from_the_model_by_default(start, model_file, coord):
    driver = start(atom_type=None, _comment="keys that begin so are not read")
    with ase_server(driver) as calculator:
        energy = Atoms(NAMES, coord, calculator=calculator).get_potential_energy()
    assert energy == pytest.approx(expected(model_file, coord)[0], abs=1e-6)


def test_the_command_of_the_package_starts_the_driver(program):
    command = Path(sys.executable).with_name("dp_ipi")
    done = subprocess.run([command, "--help"], capture_output=True, text=True)
    assert done.returncode == 0
    assert "usage: dp_ipi INPUT.json" in done.stdout
