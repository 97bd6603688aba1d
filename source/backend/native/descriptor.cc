// SPDX-License-Identifier: LGPL-3.0-or-later
#include "descriptor.h"

#include "attention.h"
#include "hybrid.h"
#include "three_body.h"
#include "three_body_types.h"
#include "two_body.h"

namespace deepmd::native {

template <class T>
std::unique_ptr<Descriptor<T>> read_descriptor(const Node& node, Packings& packings,
                                               const View& view) {
  const auto type = node.text("type");
  if (type == "se_e2_a" || type == "se_a") return std::make_unique<SeA<T>>(node, packings, view);
  if (type == "se_r" || type == "se_e2_r") return std::make_unique<SeR<T>>(node, packings, view);
  if (type == "dpa1" || type == "se_atten" || type == "se_atten_v2") {
    return std::make_unique<Dpa1<T>>(node, packings, view);
  }
  if (type == "se_e3" || type == "se_at" || type == "se_a_3be" || type == "se_t") {
    return std::make_unique<SeE3<T>>(node, packings, view);
  }
  if (type == "se_e3_tebd") return std::make_unique<SeE3Types<T>>(node, packings, view);
  if (type == "hybrid") return std::make_unique<Hybrid<T>>(node, packings);
  node.unknown("the descriptor \"" + type + "\"");
}

template std::unique_ptr<Descriptor<double>> read_descriptor(const Node&, Packings&, const View&);
template std::unique_ptr<Descriptor<float>> read_descriptor(const Node&, Packings&, const View&);

}  // namespace deepmd::native
