# SPDX-License-Identifier: LGPL-3.0-or-later
"""What users can do wrong, and what LAMMPS tells them."""

import shutil

BOX = ["units metal", "atom_style atomic", "read_data water.data"]
STYLE = "pair_style deepmd {} {}"


def test_errors(messages, model, tmp_path, reference):
    """Every mistake has a line that names it and what would be right."""
    path = tmp_path / "water.pth"
    shutil.copy(model("water_se_e2_a"), path)
    params = tmp_path / "params.pth"
    shutil.copy(model("water_fparam_aparam"), params)
    (tmp_path / "broken.pth").write_bytes(path.read_bytes()[:1000])
    good = STYLE.format(path, "")
    lj = ["units lj", *BOX[1:], good]
    pairs = [good, "pair_coeff * * O H"]
    spins = (reference / "lammps/nio_spin.pth").name
    shutil.copy(reference / "lammps" / spins, tmp_path / spins)
    cases = {
        "pair_style deepmd": "a model file is wanted",
        "pair_style deepmd nowhere.pth": "nowhere.pth: there is no such model file",
        "pair_style deepmd broken.pth": "broken.pth",
        "pair_style deepmd model.xyz": "model.xyz",
        STYLE.format(path, "out_freqq 1"): "did you mean out_freq?",
        STYLE.format(path, "atomic 1"): 'unknown keyword "1"',
        STYLE.format(path, "out_freq often"): 'out_freq: "often" is no integer',
        STYLE.format(path, "out_freq -1"): "out_freq: -1 is less than 0",
        STYLE.format(path, "out_freq"): "out_freq wants an integer",
        STYLE.format(path, "relative x"): 'relative: "x" is no number',
        STYLE.format(path, "fparam 1.0"): "fparam: 1 value given, but",
        STYLE.format(path, "fparam_from_compute c"): "takes no fparam",
        STYLE.format(path, "ttm t"): "one temperature must be one of them",
        STYLE.format(path, "check_probes maybe"): "neither yes nor no",
        STYLE.format(params, "aparam 0.2"): "needs fparam (2 values)",
        STYLE.format(params, "fparam 1 2"): "needs aparam (1 value per atom)",
        STYLE.format(params, "fparam 1 aparam 1"): "fparam: 1 value given",
        STYLE.format(params, "fparam 1 2 fparam_from_fix a aparam 1"): "exclude each other",
        f"pair_style deepmd {path} {params}": "takes other numbers of fparam",
        f"pair_style deepmd {path} {path} out_file no/where.out": "cannot open no/where.out",
        f"pair_style deepmd {spins}": "pair_style deepmd: DeePMD-kit Error: nio_spin.pth: its atoms",
        f"pair_style deepspin {path}": "its atoms carry no spins; open it with DeepPot",
    }
    lists = {(*BOX, command): text for command, text in cases.items()}
    lists |= {
        tuple(lj): "units lj have no",
        (*BOX, good, "pair_coeff 1 2 O H"): "must start with * *",
        (*BOX, good, "pair_coeff * * O C"): "does not know C; it has O H",
        (*BOX, good, "pair_coeff * * O H H"): "3 names for 2 types",
        (
            *BOX,
            f"pair_style deepspin {spins}",
            "pair_coeff * * Ni O",
            "run 0",
        ): "use atom_style spin",
        (*BOX, good, "run 0"): "pair coeffs are not set",
        (
            *BOX,
            *pairs,
            "compute s all stress/atom NULL",
            "dump 1 all custom 1 x.dump c_s[1]",
            "run 0",
        ): ("centroid/stress/atom"),
        (*BOX, STYLE.format(params, "fparam_from_compute no aparam 1"), pairs[1], "run 0"): (
            "there is no compute no"
        ),
        (
            *BOX,
            STYLE.format(params, "fparam_from_compute thermo_temp aparam 1"),
            pairs[1],
            "run 0",
        ): ("does not give the 2 values"),
        (*BOX, STYLE.format(params, "fparam_from_fix no aparam 1"), pairs[1], "run 0"): (
            "there is no fix no"
        ),
        (*BOX, *pairs, "compute d all deepmd/fparam/dedn x"): "wanted: v_name",
        (*BOX, *pairs, "variable v equal 1", "compute d all deepmd/fparam/dedn v_v", "run 0"): (
            "one frame parameter"
        ),
        (*BOX, *pairs, "compute d all deeptensor/atom nowhere.pth"): "nowhere.pth",
        (*BOX, *pairs, "compute d all deeptensor/atom"): "compute ID group deeptensor/atom FILE",
    }
    bonded = [
        "units metal",
        "atom_style bond",
        "region b block 0 12 0 12 0 12",
        "create_box 2 b bond/types 1 extra/bond/per/atom 1 extra/special/per/atom 2",
        "create_atoms 1 single 1 1 1",
        "create_atoms 2 single 2 1 1",
        "mass * 1.0",
        "create_bonds single/bond 1 1 2",
        "bond_style zero",
        "bond_coeff *",
        *pairs,
    ]
    lists[(*bonded, "run 0")] = "special_bonds lj/coul 1 1 1"
    lists[(*bonded, "special_bonds lj/coul 1 1 1", "run 0")] = ""
    found = messages([list(commands) for commands in lists])
    wrong = [
        (c[-1], want, got)
        for (c, want), got in zip(lists.items(), found)
        if want not in got or (got and not want)
    ]
    assert not wrong
