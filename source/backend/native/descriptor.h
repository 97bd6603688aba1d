// SPDX-License-Identifier: LGPL-3.0-or-later
/** Descriptors: rows of numbers for every center, and the gradient by edge vectors. */
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "chunk.h"

namespace deepmd::native {

/** Work arrays of a descriptor for one block; what forward leaves is read by backward. */
struct DescriptorState {
  virtual ~DescriptorState() = default;
};

/** How a hybrid descriptor lets its members see its neighbors; zero: as they like. */
struct View {
  double rcut = 0.0;    ///< of members that read beyond their own cutoff [Å]
  int64_t nearest = 0;  ///< of which typed neighbors are chosen
};

/** Facts of a descriptor's neighbors. */
struct Reach {
  double rcut = 0.0;         ///< [Å]
  std::vector<int64_t> sel;  ///< per type, or one number
  bool mixed_types = false;
};

/** A descriptor that writes rows of a precision T. */
template <class T>
class Descriptor {
 public:
  virtual ~Descriptor() = default;

  virtual Reach reach() const = 0;
  virtual int64_t width() const = 0;
  /** Rows of the equivariant part; 0: there is none. */
  virtual int64_t rotation_width() const { return 0; }
  /** Write equal numbers once from now on, and say which they are; empty: there are none. */
  virtual Folded fold() { return {}; }
  /** Centers per block that suit the caches. */
  virtual int64_t block() const { return 128; }
  virtual std::unique_ptr<DescriptorState> state() const = 0;

  /** Write d (n, ldd), and the equivariant part (n, rotation_width, 3) unless it is null. */
  virtual void forward(const Block& block, T* d, int64_t ldd, T* rotation,
                       DescriptorState& state) const = 0;
  /** Add to gradient[stride * edge] the product of the derivatives with d_bar and rotation_bar. */
  virtual void backward(const Block& block, const T* d_bar, int64_t ldd, const T* rotation_bar,
                        double* gradient, int64_t stride, DescriptorState& state) const = 0;
};

/** Read a descriptor of any type; throws Failure naming what is not known. */
template <class T>
std::unique_ptr<Descriptor<T>> read_descriptor(const Node& node, Packings& packings,
                                               const View& view = {});

extern template std::unique_ptr<Descriptor<double>> read_descriptor(const Node&, Packings&,
                                                                    const View&);
extern template std::unique_ptr<Descriptor<float>> read_descriptor(const Node&, Packings&,
                                                                   const View&);

}  // namespace deepmd::native
