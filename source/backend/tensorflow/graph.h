// SPDX-License-Identifier: LGPL-3.0-or-later
/** Graphs and tensors of TensorFlow's C API, with exceptions and without leaks. */
#pragma once

#include <tensorflow/c/c_api.h>

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "model.h"

namespace deepmd::tensorflow_backend {

/** Calls a function of the C API with a status as its last argument; throws Failure. */
template <class Function, class... Arguments>
auto checked(Function function, Arguments... arguments) {
  const std::unique_ptr<TF_Status, void (*)(TF_Status*)> status(TF_NewStatus(), TF_DeleteStatus);
  const auto check = [&] {
    if (TF_GetCode(status.get()) == TF_OK) return;
    throw Failure("TensorFlow: " + first_words(TF_Message(status.get())));
  };
  if constexpr (std::is_void_v<decltype(function(arguments..., status.get()))>) {
    function(arguments..., status.get());
    check();
  } else {
    auto result = function(arguments..., status.get());
    check();
    return result;
  }
}

template <class T>
constexpr TF_DataType type_of() {
  if constexpr (std::is_same_v<T, double>) return TF_DOUBLE;
  if constexpr (std::is_same_v<T, int64_t>) return TF_INT64;
  if constexpr (std::is_same_v<T, int32_t>) return TF_INT32;
  if constexpr (std::is_same_v<T, bool>) return TF_BOOL;
}

/** A tensor that this program holds. */
class Tensor {
 public:
  Tensor() = default;
  explicit Tensor(TF_Tensor* tensor) : tensor_(tensor, TF_DeleteTensor) {}

  /** A view of memory that must live as long. */
  template <class T>
  static Tensor view(const T* data, const std::vector<int64_t>& shape) {
    return of_memory(data, sizeof(T), type_of<T>(), shape);
  }
  /** A view of an array; throws std::invalid_argument for what is not taken here. */
  template <class T>
  static Tensor view(const deepmd_array& array, const char* name) {
    const T* data = backend::numbers<T>(array, name);
    return view(data, std::vector<int64_t>(array.shape, array.shape + array.n_dims));
  }

  TF_Tensor* get() const { return tensor_.get(); }
  int64_t size() const { return TF_TensorElementCount(get()); }
  /** Numbers, which must be of this type; throws Failure. */
  template <class T>
  std::vector<T> numbers() const {
    check_type(type_of<T>());
    const auto* data = static_cast<const T*>(TF_TensorData(get()));
    return std::vector<T>(data, data + size());
  }
  /** Whole numbers of any type. */
  std::vector<int64_t> whole_numbers() const;
  std::vector<std::string> texts() const;
  /** Write the numbers where they are wanted. */
  void copy_to(const deepmd_array& target) const;

 private:
  static Tensor of_memory(const void* data, size_t size, TF_DataType type,
                          const std::vector<int64_t>& shape);
  void check_type(TF_DataType type) const;

  std::shared_ptr<TF_Tensor> tensor_;
};

using Named = std::vector<std::pair<std::string, Tensor>>;

/** A graph with its weights inside, and sessions that run it. */
class Graph {
 public:
  /** @param graph_def serialized; its operators are checked already */
  explicit Graph(std::string_view graph_def);
  ~Graph();
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;

  bool has(const std::string& node) const;
  /** Constant of a node, of any shape. */
  Tensor constant(const std::string& node) const;

  /** An output of a node: "name" or "name:1". */
  std::vector<Tensor> run(const Named& inputs, const std::vector<std::string>& outputs,
                          int threads) const;
  /** Whether there is an accelerator that it runs on. */
  bool on_accelerator() const;

 private:
  TF_Output output(const std::string& name) const;
  TF_Session* session(int threads) const;

  TF_Graph* graph_;
  mutable std::mutex mutex_;
  mutable std::map<int, TF_Session*> sessions_;  ///< by number of threads
};

}  // namespace deepmd::tensorflow_backend
