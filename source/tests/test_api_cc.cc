// SPDX-License-Identifier: LGPL-3.0-or-later
// The C++ interface, with models of fake_backend: frames, lists, parameters, precision, errors.
#include <thread>

#include "api_frames.h"
#include "deepmd/DataModifier.h"
#include "deepmd/DeepPot.h"
#include "deepmd/DeepSpin.h"
#include "deepmd/DeepTensor.h"

namespace {

using namespace frames;
using deepmd::deepmd_exception;
using deepmd::DeepPot;

struct All {
  std::vector<double> energy, force, virial, atom_energy, atom_virial;
};

All compute(DeepPot& dp, const Frames<double>& in, const std::vector<double>& fparam = {},
            const std::vector<double>& aparam = {}) {
  All out;
  dp.compute(out.energy, out.force, out.virial, out.atom_energy, out.atom_virial, in.coord,
             in.atype, in.box, fparam, aparam);
  return out;
}

TEST(ApiCc, Facts) {
  const ModelFile file("rcut 4\nfparam 1\ndefault_fparam 0.5\n");
  DeepPot dp(file.path());
  std::string names;
  dp.get_type_map(names);
  EXPECT_EQ(names, "T0 T1");
  EXPECT_EQ(dp.cutoff(), 4.0);
  EXPECT_EQ(dp.numb_types(), 2);
  EXPECT_EQ(dp.dim_fparam(), 1);
  EXPECT_EQ(dp.dim_aparam(), 0);
  EXPECT_TRUE(dp.has_default_fparam());
  EXPECT_FALSE(dp.is_aparam_nall());
}

TEST(ApiCc, FramesAreIndependent) {
  const ModelFile file("rcut 4\n");
  DeepPot dp(file.path());
  const Frames<double> in(3);
  const All all = compute(dp, in);
  ASSERT_EQ(all.energy.size(), 3u);
  for (int k = 0; k < 3; ++k) {
    double energy;
    std::vector<double> force, virial;
    dp.compute(energy, force, virial, in.coord_of(k), in.atype, in.box_of(k));
    EXPECT_EQ(energy, all.energy[k]);
    for (size_t i = 0; i < force.size(); ++i) {
      ASSERT_EQ(force[i], all.force[k * force.size() + i]);
    }
    double sum = 0.0;
    for (int i = 0; i < in.natoms; ++i) sum += all.atom_energy[k * in.natoms + i];
    EXPECT_NEAR(sum, energy, 1e-12);
    EXPECT_EQ(force[3 * 5], 0.0) << "the virtual atom";
    for (int v = 0; v < 9; ++v) {
      double w = 0.0;
      for (int i = 0; i < in.natoms; ++i) w += all.atom_virial[(k * in.natoms + i) * 9 + v];
      EXPECT_NEAR(w, all.virial[9 * k + v], 1e-10);
    }
  }
}

TEST(ApiCc, FloatIsRoundedDouble) {
  const ModelFile file("rcut 4\nfparam 1\naparam 1\n");
  DeepPot dp(file.path());
  const Frames<double> in(2);
  const All exact = compute(dp, in, {0.25}, {0.5});
  const Frames<float> single(2);
  std::vector<double> energy;
  std::vector<float> force, virial, atom_energy, atom_virial;
  dp.compute<float>(energy, force, virial, atom_energy, atom_virial, single.coord, single.atype,
                    single.box, {0.25f}, {0.5f});
  expect_near(energy, exact.energy, 1e-12);
  expect_near(force, exact.force, 1e-6);
  expect_near(virial, exact.virial, 1e-6);
  expect_near(atom_energy, exact.atom_energy, 1e-6);
  expect_near(atom_virial, exact.atom_virial, 1e-6);
}

TEST(ApiCc, NeighborList) {
  const ModelFile file("rcut 4\n");
  DeepPot dp(file.path());
  const Frames<double> in;
  const All exact = compute(dp, in);
  Extended ext(in);
  deepmd::InputNlist list(ext.nloc, ext.ilist.data(), ext.numneigh.data(), ext.firstneigh.data());
  double energy;
  std::vector<double> force, virial, atom_energy, atom_virial;
  dp.compute(energy, force, virial, atom_energy, atom_virial, ext.coord, ext.atype, {}, ext.nghost,
             list, 0);
  EXPECT_NEAR(energy, exact.energy[0], 1e-12);
  EXPECT_EQ(atom_energy.size(), ext.atype.size());
  std::vector<double> folded;
  deepmd::fold_back(folded, force, ext.mapping, ext.nloc, ext.nloc + ext.nghost, 3);
  expect_near(folded, exact.force, 1e-12);
  expect_near(virial, exact.virial, 1e-11);

  // Bits beyond the mask are no part of an index, and a list may be used again.
  for (auto& row : ext.neighbors) {
    for (int& j : row) j |= 1 << 29;
  }
  list.set_mask((1 << 29) - 1);
  double again;
  dp.compute(again, force, virial, ext.coord, ext.atype, {}, ext.nghost, list, 7);
  EXPECT_EQ(again, energy);
}

TEST(ApiCc, ConvertNlist) {
  std::vector<std::vector<int>> rows = {{1, 2, 3}, {}, {0}};
  std::vector<int> ilist(3), numneigh(3);
  std::vector<int*> firstneigh(3);
  deepmd::InputNlist list(3, ilist.data(), numneigh.data(), firstneigh.data());
  deepmd::convert_nlist(list, rows);
  EXPECT_EQ(numneigh, (std::vector<int>{3, 0, 1}));
  EXPECT_EQ(list.firstneigh[0][2], 3);
  EXPECT_EQ(deepmd::max_numneigh(list), 3);
  EXPECT_EQ(list.mask, -1);
  EXPECT_EQ(list.nprocs, 1);
}

TEST(ApiCc, ParametersAreRepeated) {
  const ModelFile file("rcut 4\nfparam 1\naparam 1\n");
  DeepPot dp(file.path());
  const Frames<double> in(2);
  const All zero = compute(dp, in, {0.0}, {0.0});
  const All once = compute(dp, in, {0.5}, {0.25});
  EXPECT_NEAR(once.energy[1] - zero.energy[1], 11 * 0.75, 1e-12) << "eleven real atoms";
  const All frames = compute(dp, in, {0.5, 0.5}, std::vector<double>(in.natoms, 0.25));
  const All full = compute(dp, in, {0.5, 0.5}, std::vector<double>(2 * in.natoms, 0.25));
  EXPECT_EQ(once.energy, frames.energy);
  EXPECT_EQ(once.energy, full.energy);
  const All differ = compute(dp, in, {0.5, 1.5}, {0.25});
  EXPECT_EQ(differ.energy[0], once.energy[0]);
  EXPECT_NEAR(differ.energy[1] - once.energy[1], 11.0, 1e-12);
}

TEST(ApiCc, DefaultFparam) {
  const ModelFile file("rcut 4\nfparam 1\ndefault_fparam 0.5\n");
  DeepPot dp(file.path());
  const Frames<double> in;
  EXPECT_EQ(compute(dp, in).energy, compute(dp, in, {0.5}).energy);
  EXPECT_NE(compute(dp, in).energy, compute(dp, in, {0.6}).energy);
}

TEST(ApiCc, MixedTypes) {
  const ModelFile file("rcut 4\n");
  DeepPot dp(file.path());
  const Frames<double> in(2);
  std::vector<int> types = in.atype, other = in.atype;
  for (int& t : other) t = t < 0 ? 0 : 1 - t;
  types.insert(types.end(), other.begin(), other.end());
  std::vector<double> energy, force, virial;
  dp.compute_mixed_type(energy, force, virial, 2, in.coord, types, in.box);
  double first, second;
  dp.compute(first, force, virial, in.coord_of(0), in.atype, in.box_of(0));
  dp.compute(second, force, virial, in.coord_of(1), other, in.box_of(1));
  EXPECT_EQ(energy, (std::vector<double>{first, second}));
  expect_error<deepmd_exception>(
      [&] { dp.compute_mixed_type(energy, force, virial, 5, in.coord, types, in.box); },
      {"atype has 24 numbers", "5 frames"});
}

TEST(ApiCc, NoAtoms) {
  const ModelFile file("rcut 4\n");
  DeepPot dp(file.path());
  double energy = 1.0;
  std::vector<double> force = {1.0}, virial;
  dp.compute<double>(energy, force, virial, {}, {}, {});
  EXPECT_EQ(energy, 0.0);
  EXPECT_TRUE(force.empty());
  EXPECT_EQ(virial, std::vector<double>(9, 0.0));
}

TEST(ApiCc, WrongSizes) {
  const ModelFile file("rcut 4\nfparam 1\naparam 1\n");
  DeepPot dp(file.path());
  const Frames<double> in(2);
  All out;
  const auto run = [&](const std::vector<double>& coord, const std::vector<double>& box,
                       const std::vector<double>& fparam, const std::vector<double>& aparam) {
    return [&, coord, box, fparam, aparam] {
      dp.compute(out.energy, out.force, out.virial, coord, in.atype, box, fparam, aparam);
    };
  };
  const std::vector<double> f = {0.0}, a = {0.0};
  using E = deepmd_exception;
  expect_error<E>(run({1, 2, 3, 4}, in.box, f, a), {file.path(), "coord has 4", "12 atoms", "36"});
  expect_error<E>(run(in.coord, {1, 2}, f, a), {"box has 2 numbers", "2 frames of 9 need 18"});
  expect_error<E>(run(in.coord, in.box, {1, 2, 3}, a), {"fparam has 3 numbers", "needs 1"});
  expect_error<E>(run(in.coord, in.box, f, {1, 2, 3}), {"aparam has 3 numbers", "needs 12"});
  expect_error<E>(run(in.coord, in.box, {}, a), {"fparam"});
  expect_error<E>(run(in.coord, in.box, f, {}), {"aparam"});
  auto bad = in.coord;
  bad[4] = std::nan("");
  expect_error<E>(run(bad, in.box, f, a), {"coord"});
  double one;
  expect_error<E>([&] { dp.compute(one, out.force, out.virial, in.coord, in.atype, in.box, f, a); },
                  {"2 frames", "std::vector<double>"});
  expect_error<E>([&] { dp.set_charge_spin({1, 2}); }, {"charge_spin has 2", "takes 0"});
  expect_error<E>(
      [&] {
        const deepmd::InputNlist list;
        dp.compute(one, out.force, out.virial, in.coord_of(0), in.atype, {}, 13, list, 0, f, a);
      },
      {"13 of 12 atoms"});
}

TEST(ApiCc, NoModel) {
  const ModelFile file("rcut 4\n");  // for the folder of the backend
  DeepPot dp;
  expect_error<deepmd_exception>([&] { dp.cutoff(); }, {"no model is open", "init"});
  deepmd::DeepTensor dt;
  expect_error<deepmd_exception>([&] { dt.output_dim(); }, {"no model is open", "init"});
  deepmd::DeepPotModelDevi devi;
  expect_error<deepmd_exception>([&] { devi.numb_types(); }, {"no model is open"});
  expect_error<deepmd_exception>([&] { devi.init({}); }, {"no models"});
  expect_error<deepmd_exception>([] { DeepPot("nowhere.pb"); }, {"nowhere.pb"});
  expect_error<deepmd_exception>([] { DeepPot("model.dp"); }, {"model.dp", "no such model file"});
}

TEST(ApiCc, WrongKind) {
  const ModelFile file("rcut 4\n");
  expect_error<deepmd_exception>([&] { deepmd::DeepTensor dt(file.path()); },
                                 {file.path(), "energies", "DeepPot"});
  expect_error<deepmd_exception>([&] { deepmd::DeepSpin dp(file.path()); },
                                 {"no spins", "DeepPot"});
  expect_error<deepmd_exception>([&] { deepmd::DeepSpinModelDevi dp({file.path()}); }, {"spins"});
  expect_error<deepmd_exception>([&] { deepmd::DipoleChargeModifier m(file.path()); },
                                 {file.path(), "energies"});
  const ModelFile spins("spin 0.25\n", "spins");
  expect_error<deepmd_exception>([&] { DeepPot dp(spins.path()); }, {"spins", "DeepSpin"});
  expect_error<deepmd_exception>([&] { deepmd::DeepPotModelDevi dp({spins.path()}); },
                                 {"DeepSpin"});
}

TEST(ApiCc, Spins) {
  const ModelFile file("rcut 4\nspin 0.25\naparam 1\n");
  deepmd::DeepSpin dp(file.path());
  EXPECT_EQ(dp.numb_types_spin(), 1);
  EXPECT_EQ(dp.get_use_spin(), (std::vector<bool>{true, false}));
  EXPECT_EQ(dp.cutoff(), 4.0);
  EXPECT_EQ(dp.reach(2.0), 4.5);
  const Frames<double> in(2);
  const std::vector<double> aparam(in.natoms, 0.5);
  std::vector<double> spin(in.coord.size()), energy, force, force_mag, virial, ae, av;
  for (size_t k = 0; k < spin.size(); ++k) spin[k] = std::sin(double(k));
  dp.compute(energy, force, force_mag, virial, ae, av, in.coord, spin, in.atype, in.box, {},
             aparam);
  ASSERT_EQ(energy.size(), 2u);
  ASSERT_EQ(force_mag.size(), in.coord.size());
  EXPECT_NE(force_mag[0], 0.0);
  EXPECT_EQ(force_mag[3], 0.0) << "an atom of a type without spin";
  EXPECT_EQ(ae.size(), 2u * in.natoms);

  const deepmd::DeepSpinModelDevi both({file.path(), file.path()});
  auto devi = both;
  std::vector<std::vector<double>> f, fm, v;
  std::vector<double> e;
  const Frames<double> one(1);
  const std::vector<double> spin_of_one(spin.begin(), spin.begin() + 3 * in.natoms);
  devi.compute(e, f, fm, v, one.coord, spin_of_one, one.atype, one.box, {}, aparam);
  EXPECT_EQ(e, (std::vector<double>{energy[0], energy[0]}));
  ASSERT_EQ(fm.size(), 2u);
  expect_near(fm[1], std::vector<double>(force_mag.begin(), force_mag.begin() + 36), 1e-12);

  const Extended list(one, 5.0);  // the list of a molecular dynamics program, ghosts included
  deepmd::InputNlist nlist(list.nloc, const_cast<int*>(list.ilist.data()),
                           const_cast<int*>(list.numneigh.data()),
                           const_cast<int**>(list.firstneigh.data()));
  std::vector<double> all_spins;
  for (const int owner : list.mapping) {
    for (int c = 0; c < 3; ++c) all_spins.push_back(spin[3 * owner + c]);
  }
  double energy_of_list;
  dp.compute(energy_of_list, force, force_mag, virial, list.coord, all_spins, list.atype, {},
             list.nghost, nlist, 0, {}, aparam);
  EXPECT_NEAR(energy_of_list, energy[0], 1e-11);
  std::vector<double> folded(36, 0.0);
  for (size_t k = 0; k < force_mag.size(); ++k) {
    folded[3 * list.mapping[k / 3] + k % 3] += force_mag[k];
  }
  expect_near(folded, fm[0], 1e-11);

  expect_error<deepmd_exception>(
      [&] {
        dp.compute(energy, force, force_mag, virial, in.coord, spin_of_one, in.atype, in.box, {},
                   aparam);
      },
      {file.path(), "spin has 36 numbers", "72"});
}

TEST(ApiCc, Deviation) {
  const ModelFile one("rcut 4\n", "one"), two("rcut 3.5\n", "two");
  deepmd::DeepPotModelDevi devi({one.path(), two.path()});
  EXPECT_EQ(devi.cutoff(), 4.0);
  const Frames<double> in;
  std::vector<double> energy, avg, deviation;
  std::vector<std::vector<double>> force, virial, atom_energy, atom_virial;
  devi.compute(energy, force, virial, atom_energy, atom_virial, in.coord, in.atype, in.box);
  DeepPot first(one.path()), second(two.path());
  const All a = compute(first, in), b = compute(second, in);
  EXPECT_EQ(force[0], a.force);
  EXPECT_EQ(force[1], b.force);
  EXPECT_EQ(atom_virial[1], b.atom_virial);
  double mean;
  devi.compute_avg(mean, energy);
  EXPECT_NEAR(mean, 0.5 * (a.energy[0] + b.energy[0]), 1e-12);
  devi.compute_avg(avg, force);
  devi.compute_std_f(deviation, avg, force);
  ASSERT_EQ(deviation.size(), static_cast<size_t>(in.natoms));
  for (int i = 0; i < in.natoms; ++i) {  // of two models: half the norm of their difference
    const double norm =
        std::hypot(a.force[3 * i] - b.force[3 * i], a.force[3 * i + 1] - b.force[3 * i + 1],
                   a.force[3 * i + 2] - b.force[3 * i + 2]);
    EXPECT_NEAR(deviation[i], 0.5 * norm, 1e-12);
  }
  std::vector<double> relative = deviation;
  devi.compute_relative_std_f(relative, avg, 0.5);
  const double length = std::hypot(avg[0], avg[1], avg[2]);
  EXPECT_NEAR(relative[0], deviation[0] / (length + 0.5), 1e-12);
  std::vector<double> spread;
  devi.compute_avg(avg, atom_energy);
  devi.compute_std_e(spread, avg, atom_energy);
  EXPECT_NEAR(spread[0], 0.5 * std::abs(a.atom_energy[0] - b.atom_energy[0]), 1e-12);
}

TEST(ApiCc, EnsembleOfStrangers) {
  const ModelFile one("rcut 4\n", "one"), two("rcut 4\nntypes 3\n", "two");
  expect_error<deepmd_exception>([&] { deepmd::DeepPotModelDevi devi({one.path(), two.path()}); },
                                 {two.path(), "types", one.path()});
}

TEST(ApiCc, Overflow) {
  const ModelFile file("rcut 4\nsel 1\n");
  DeepPot dp(file.path());
  EXPECT_EQ(dp.sel_overflow(), 0);
  compute(dp, Frames<double>());
  EXPECT_GT(dp.sel_overflow(), 0);
  EXPECT_GT(dp.most_neighbors(), 1);
}

TEST(ApiCc, MessagePassing) {
  for (const bool passing : {false, true}) {
    const ModelFile file("rcut 4\nmessage_passing " + std::to_string(passing) + "\n");
    EXPECT_EQ(DeepPot(file.path()).has_message_passing(), passing);
  }
}

TEST(ApiCc, Threads) {
  const ModelFile file("rcut 4\n");
  DeepPot dp(file.path());
  const Frames<double> in;
  const All exact = compute(dp, in);
  std::vector<All> all(4);
  std::vector<std::thread> threads;
  for (All& out : all) {
    threads.emplace_back([&] {
      for (int k = 0; k < 20; ++k) out = compute(dp, in);
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const All& out : all) EXPECT_EQ(out.force, exact.force);
}

TEST(ApiCc, SelectAtoms) {
  const std::vector<int> types = {0, 1, -1, 1, 0, 7, 1};
  std::vector<int> forward, backward;
  int ghosts;
  deepmd::select_by_type(forward, backward, ghosts, std::vector<double>(), types, 3, {1});
  EXPECT_EQ(forward, (std::vector<int>{-1, 0, -1, 1, -1, -1, 2}));
  EXPECT_EQ(backward, (std::vector<int>{1, 3, 6}));
  EXPECT_EQ(ghosts, 1);

  std::vector<double> coord(2 * 21), aparam(2 * 4), real_coord, real_aparam;
  for (size_t k = 0; k < coord.size(); ++k) coord[k] = static_cast<double>(k);
  for (size_t k = 0; k < aparam.size(); ++k) aparam[k] = 100.0 + static_cast<double>(k);
  std::vector<int> real_types;
  int nall, nloc;
  deepmd::select_real_atoms_coord(real_coord, real_types, real_aparam, ghosts, forward, backward,
                                  nall, nloc, coord, types, aparam, 3, 2, 2, 1, 7);
  EXPECT_EQ(real_types, (std::vector<int>{0, 1, 1, 0, 1}));
  EXPECT_EQ(nall, 5);
  EXPECT_EQ(nloc, 3);
  EXPECT_EQ(real_aparam, (std::vector<double>{100, 101, 103, 104, 105, 107}));
  EXPECT_EQ(real_coord[3 * 4], 18.0);
  EXPECT_EQ(real_coord[15], 21.0) << "the second frame";

  std::vector<double> back(21, -1.0);
  deepmd::select_map_inv(back, real_coord, forward, 3);
  EXPECT_EQ(back[3 * 3 + 1], 10.0);
  EXPECT_EQ(back[3 * 2], -1.0);
  std::vector<int> mapped(5);
  deepmd::select_map(mapped, types, forward, 1);
  EXPECT_EQ(mapped, real_types);
}

TEST(ApiCc, Backends) {
  EXPECT_EQ(deepmd::get_backend("a.pb"), deepmd::TensorFlow);
  EXPECT_EQ(deepmd::get_backend("a.pth"), deepmd::PyTorch);
  EXPECT_EQ(deepmd::get_backend("a.savedmodel"), deepmd::JAX);
  expect_error<deepmd_exception>([] { deepmd::get_backend("a.dp"); },
                                 {"a.dp", "Unsupported model file format"});
  std::string text;
  expect_error<deepmd_exception>([&] { deepmd::read_file_to_string("nowhere", text); },
                                 {"nowhere", "cannot be opened"});
  testing::internal::CaptureStdout();
  deepmd::print_summary("> ");
  const std::string summary = testing::internal::GetCapturedStdout();
  EXPECT_EQ(summary.find("> DeePMD-kit "), 0u) << summary;
}

}  // namespace
