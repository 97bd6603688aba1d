// SPDX-License-Identifier: LGPL-3.0-or-later
// The C interface and its C++ face agree with the C++ interface; messages instead of exceptions.
#include <cstring>

#include "api_frames.h"
#include "deepmd/DeepPot.h"
#include "deepmd/DeepSpin.h"
#include "deepmd/deepmd.hpp"

namespace {

using namespace frames;
using deepmd::hpp::detail::take;

struct All {
  std::vector<double> energy, force, virial, atom_energy, atom_virial;
};

/** The same by the C++ interface. */
All exact(const std::string& path, const Frames<double>& in, const std::vector<double>& fparam = {},
          const std::vector<double>& aparam = {}) {
  deepmd::DeepPot dp(path);
  All out;
  dp.compute(out.energy, out.force, out.virial, out.atom_energy, out.atom_virial, in.coord,
             in.atype, in.box, fparam, aparam);
  return out;
}

std::string message(DP_DeepPot* dp) { return take(DP_DeepPotCheckOK(dp)); }

TEST(ApiC, Compute) {
  const ModelFile file("rcut 4\n");
  const Frames<double> in(2);
  const All want = exact(file.path(), in);
  DP_DeepPot* const dp = DP_NewDeepPot(file.path().c_str());
  ASSERT_EQ(message(dp), "");
  EXPECT_EQ(take(DP_DeepPotGetTypeMap(dp)), "T0 T1");
  EXPECT_EQ(DP_DeepPotGetCutoff(dp), 4.0);
  EXPECT_EQ(DP_DeepBaseModelGetNumbTypes(reinterpret_cast<DP_DeepBaseModel*>(dp)), 2);
  std::vector<double> e(2), f(2 * 36), v(18), ae(24), av(24 * 9);
  DP_DeepPotCompute2(dp, 2, in.natoms, in.coord.data(), in.atype.data(), in.box.data(), nullptr,
                     nullptr, e.data(), f.data(), v.data(), ae.data(), av.data());
  ASSERT_EQ(message(dp), "");
  EXPECT_EQ(e, want.energy);
  EXPECT_EQ(f, want.force);
  EXPECT_EQ(v, want.virial);
  EXPECT_EQ(ae, want.atom_energy);
  EXPECT_EQ(av, want.atom_virial);

  double one = 0.0;  // only what is wanted, of one frame
  DP_DeepPotCompute(dp, in.natoms, in.coord.data(), in.atype.data(), in.box.data(), &one, nullptr,
                    nullptr, nullptr, nullptr);
  EXPECT_EQ(message(dp), "");
  EXPECT_EQ(one, want.energy[0]);

  const Frames<float> single(2);
  std::vector<float> sf(36), sv(9);
  DP_DeepPotComputef(dp, in.natoms, single.coord.data(), in.atype.data(), single.box.data(), &one,
                     sf.data(), sv.data(), nullptr, nullptr);
  EXPECT_NEAR(one, want.energy[0], 1e-12);
  expect_near(sf, std::vector<double>(want.force.begin(), want.force.begin() + 36), 1e-6);
  DP_DeleteDeepPot(dp);
}

TEST(ApiC, Messages) {
  const ModelFile file("rcut 4\nfparam 1\n");
  DP_DeepPot* dp = DP_NewDeepPot("nowhere.pb");
  ASSERT_NE(dp, nullptr);
  EXPECT_NE(message(dp).find("nowhere.pb"), std::string::npos);
  EXPECT_EQ(DP_DeepPotGetCutoff(dp), 0.0);
  double energy = 7.0;
  const double coord[3] = {0, 0, 0};
  const int atype[1] = {0};
  DP_DeepPotCompute(dp, 1, coord, atype, nullptr, &energy, nullptr, nullptr, nullptr, nullptr);
  EXPECT_NE(message(dp).find("nowhere.pb"), std::string::npos) << "it keeps saying why";
  EXPECT_EQ(energy, 7.0);
  DP_DeleteDeepPot(dp);

  dp = DP_NewDeepPot(file.path().c_str());
  DP_DeepPotCompute(dp, 1, coord, atype, nullptr, &energy, nullptr, nullptr, nullptr, nullptr);
  EXPECT_NE(message(dp).find("fparam"), std::string::npos) << message(dp);
  EXPECT_NE(message(dp), "") << "reading does not forget";
  const double fparam[1] = {0.5};
  DP_DeepPotCompute2(dp, 1, 1, coord, atype, nullptr, fparam, nullptr, &energy, nullptr, nullptr,
                     nullptr, nullptr);
  EXPECT_EQ(message(dp), "");
  EXPECT_EQ(energy, 0.5);
  DP_DeepPotComputeNList(dp, 1, coord, atype, nullptr, 0, nullptr, 0, &energy, nullptr, nullptr,
                         nullptr, nullptr);
  EXPECT_NE(message(dp).find("NULL"), std::string::npos);
  DP_DeepPotCompute(dp, -1, coord, atype, nullptr, &energy, nullptr, nullptr, nullptr, nullptr);
  EXPECT_NE(message(dp).find("-1 atoms"), std::string::npos);
  DP_DeepPotComputeEdgesGPU(dp, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, 0, 0,
                            nullptr, 0, nullptr, 0, 0, nullptr);
  EXPECT_NE(message(dp).find("GPU"), std::string::npos);
  EXPECT_FALSE(DP_DeepPotSupportsDeviceEdgeInference(dp));
  DP_DeleteDeepBaseModel(reinterpret_cast<DP_DeepBaseModel*>(dp));

  DP_DeepSpin* const spin = DP_NewDeepSpin(file.path().c_str());
  EXPECT_NE(take(DP_DeepSpinCheckOK(spin)).find("spins"), std::string::npos);
  DP_DeepSpinCompute2(spin, 1, 1, coord, coord, atype, nullptr, nullptr, nullptr, &energy, nullptr,
                      nullptr, nullptr, nullptr, nullptr);
  EXPECT_NE(take(DP_DeepSpinCheckOK(spin)).find("spins"), std::string::npos);
  DP_DeleteDeepSpin(spin);
}

TEST(ApiC, Content) {
  const ModelFile file("rcut 4\n");
  int size = 0;
  const char* const content = DP_ReadFileToChar2(file.path().c_str(), &size);
  ASSERT_EQ(size, 7);
  DP_DeepPot* const dp = DP_NewDeepPotWithParam2("anything.pb", 0, content, size);
  EXPECT_EQ(message(dp), "");
  EXPECT_EQ(DP_DeepPotGetCutoff(dp), 4.0);
  DP_DeleteDeepPot(dp);
  DP_DeleteChar(content);
  const char* const error = DP_ReadFileToChar2("nowhere", &size);
  EXPECT_EQ(-size, static_cast<int>(std::strlen(error)));
  EXPECT_NE(std::string(error).find("nowhere"), std::string::npos);
  DP_DeleteChar(error);
}

TEST(ApiC, CheckProbes) {
  const ModelFile file("rcut 4\nprobe 123\n");  // a model whose results have changed
  DP_DeepPot* dp = DP_NewDeepPot(file.path().c_str());
  EXPECT_NE(message(dp), "");
  DP_DeleteDeepPot(dp);
  EXPECT_EQ(DP_CheckProbes(0), 1);
  dp = DP_NewDeepPot(file.path().c_str());
  EXPECT_EQ(message(dp), "");
  DP_DeleteDeepPot(dp);
  EXPECT_EQ(DP_CheckProbes(1), 0);
}

TEST(ApiC, ManyNeighbors) {
  const ModelFile file("rcut 4\nsel 1\n");
  const Frames<double> in(2);
  const char* models[2] = {file.path().c_str(), file.path().c_str()};
  DP_DeepPotModelDevi* const devi = DP_NewDeepPotModelDevi(models, 2);
  auto* const base = reinterpret_cast<DP_DeepBaseModelDevi*>(devi);
  std::vector<double> e(2), f(2 * 36);
  DP_DeepPotModelDeviCompute(devi, in.natoms, in.coord.data(), in.atype.data(), in.box.data(),
                             e.data(), f.data(), nullptr, nullptr, nullptr);
  ASSERT_EQ(take(DP_DeepPotModelDeviCheckOK(devi)), "");
  EXPECT_EQ(e[0], e[1]);
  EXPECT_EQ(f[0], f[36]);
  const long long both = DP_DeepBaseModelDeviGetSelOverflow(base);
  EXPECT_GT(both, 0);
  EXPECT_EQ(both % 2, 0);
  EXPECT_GT(DP_DeepBaseModelDeviGetMostNeighbors(base), 1);
  DP_DeepPotModelDeviCompute2(devi, 2, in.natoms, in.coord.data(), in.atype.data(), in.box.data(),
                              nullptr, nullptr, e.data(), f.data(), nullptr, nullptr, nullptr);
  EXPECT_NE(take(DP_DeepPotModelDeviCheckOK(devi)), "") << "one frame at a time";
  DP_DeleteDeepPotModelDevi(devi);
}

TEST(ApiC, Select) {
  const int types[] = {0, 1, -1, 1}, wanted[] = {1};
  int forward[4], backward[4], nreal, nghost, out[2];
  DP_SelectByType(4, types, 1, 1, wanted, forward, &nreal, backward, &nghost);
  EXPECT_EQ(nreal, 2);
  EXPECT_EQ(nghost, 1);
  EXPECT_EQ(forward[3], 1);
  DP_SelectMapInt(types, forward, 1, 4, 2, out);
  EXPECT_EQ(out[1], 1);
}

TEST(ApiHpp, FramesAndParameters) {
  const ModelFile file("rcut 4\nfparam 1\naparam 1\n");
  const Frames<double> in(2);
  const All want = exact(file.path(), in, {0.5}, {0.25});
  deepmd::hpp::DeepPot dp(file.path());
  EXPECT_FALSE(dp.has_message_passing());
  All out;
  dp.compute(out.energy, out.force, out.virial, out.atom_energy, out.atom_virial, in.coord,
             in.atype, in.box, {0.5}, {0.25});
  EXPECT_EQ(out.energy, want.energy);
  EXPECT_EQ(out.force, want.force);
  EXPECT_EQ(out.atom_virial, want.atom_virial);
  const Frames<float> single(2);
  std::vector<double> energy;
  std::vector<float> force, virial;
  dp.compute<float>(energy, force, virial, single.coord, single.atype, single.box, {0.5f},
                    std::vector<float>(2 * in.natoms, 0.25f));
  expect_near(force, want.force, 1e-6);
  std::vector<int> types = in.atype;
  types.insert(types.end(), in.atype.begin(), in.atype.end());
  dp.compute_mixed_type(out.energy, out.force, out.virial, 2, in.coord, types, in.box, {0.5},
                        {0.25});
  EXPECT_EQ(out.energy, want.energy);
}

TEST(ApiHpp, NeighborList) {
  const ModelFile file("rcut 4\n");
  const Frames<double> in;
  const All want = exact(file.path(), in);
  Extended ext(in);
  deepmd::hpp::InputNlist list(ext.nloc, ext.ilist.data(), ext.numneigh.data(),
                               ext.firstneigh.data());
  deepmd::hpp::convert_nlist(list, ext.neighbors);
  deepmd::hpp::DeepPot dp(file.path());
  double energy;
  std::vector<double> force, virial;
  dp.compute(energy, force, virial, ext.coord, ext.atype, std::vector<double>(), ext.nghost, list,
             0);
  EXPECT_NEAR(energy, want.energy[0], 1e-12);
  expect_near(virial, want.virial, 1e-11);
}

TEST(ApiHpp, Deviation) {
  const ModelFile one("rcut 4\n", "one"), two("rcut 3.5\n", "two");
  const Frames<double> in;
  deepmd::hpp::DeepPotModelDevi devi({one.path(), two.path()});
  std::vector<double> energy, avg, deviation;
  std::vector<std::vector<double>> force, virial;
  devi.compute(energy, force, virial, in.coord, in.atype, in.box);
  EXPECT_EQ(force[1], exact(two.path(), in).force);
  EXPECT_EQ(virial[0], exact(one.path(), in).virial);
  devi.compute_avg(avg, force);
  devi.compute_std_f(deviation, avg, force);
  EXPECT_NEAR(deviation[0],
              0.5 * std::hypot(force[0][0] - force[1][0], force[0][1] - force[1][1],
                               force[0][2] - force[1][2]),
              1e-12);
}

TEST(ApiHpp, Spins) {
  const ModelFile file("rcut 4\nspin 0.25\n");
  const Frames<double> in(2);
  std::vector<double> spin(in.coord.size());
  for (size_t k = 0; k < spin.size(); ++k) spin[k] = std::cos(double(k));
  deepmd::DeepSpin exact(file.path());
  All want, got;
  std::vector<double> want_mag, got_mag;
  exact.compute(want.energy, want.force, want_mag, want.virial, want.atom_energy, want.atom_virial,
                in.coord, spin, in.atype, in.box);
  deepmd::hpp::DeepSpin dp(file.path());
  EXPECT_EQ(dp.numb_types_spin(), 1);
  dp.compute(got.energy, got.force, got_mag, got.virial, got.atom_energy, got.atom_virial, in.coord,
             spin, in.atype, in.box);
  EXPECT_EQ(got.energy, want.energy);
  EXPECT_EQ(got.force, want.force);
  EXPECT_EQ(got_mag, want_mag);
  EXPECT_EQ(got.atom_virial, want.atom_virial);

  const Frames<float> single(2);
  const std::vector<float> rounded(spin.begin(), spin.end());
  std::vector<float> force, force_mag, virial;
  dp.compute(got.energy, force, force_mag, virial, single.coord, rounded, single.atype, single.box);
  expect_near(force_mag, want_mag, 1e-5);

  deepmd::hpp::DeepSpinModelDevi both({file.path(), file.path()});
  std::vector<std::vector<double>> f, fm, v;
  both.compute(got.energy, f, fm, v, in.coord_of(0), std::vector<double>(36, 0.5), in.atype,
               in.box_of(0));
  EXPECT_EQ(fm[0], fm[1]);

  DP_DeepSpin* const c = DP_NewDeepSpin(file.path().c_str());
  EXPECT_EQ(DP_DeepSpinGetReach(c, 2.0), 4.5);
  double energy = 7.0;
  DP_DeepSpinCompute2(c, 1, in.natoms, in.coord.data(), nullptr, in.atype.data(), in.box.data(),
                      nullptr, nullptr, &energy, nullptr, nullptr, nullptr, nullptr, nullptr);
  EXPECT_NE(take(DP_DeepSpinCheckOK(c)).find("spin is NULL"), std::string::npos);
  EXPECT_EQ(energy, 7.0);
  DP_DeleteDeepSpin(c);
}

TEST(ApiHpp, Errors) {
  using deepmd::hpp::deepmd_exception;
  const ModelFile file("rcut 4\n");
  deepmd::hpp::DeepPot dp;
  expect_error<deepmd_exception>([&] { dp.cutoff(); }, {"no model is open"});
  expect_error<deepmd_exception>([&] { dp.init("nowhere.pb"); }, {"nowhere.pb"});
  dp.init(file.path());
  double energy;
  std::vector<double> force, virial;
  const std::vector<double> bad = {0.0, 1.0};
  const std::vector<int> atype = {0};
  expect_error<deepmd_exception>(
      [&] { dp.compute(energy, force, virial, bad, atype, std::vector<double>()); },
      {"coord has 2 numbers", "3 are needed"});
  expect_error<deepmd_exception>([&] { deepmd::hpp::DeepTensor dt(file.path()); }, {"DeepPot"});
  expect_error<deepmd_exception>([&] { deepmd::hpp::DeepSpin spin(file.path()); }, {"spins"});
  expect_error<deepmd_exception>([&] { deepmd::hpp::DipoleChargeModifier m(file.path()); },
                                 {"energies"});
  std::string text;
  expect_error<deepmd_exception>([&] { deepmd::hpp::read_file_to_string("nowhere", text); },
                                 {"nowhere"});
}

}  // namespace
