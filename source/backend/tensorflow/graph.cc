// SPDX-License-Identifier: LGPL-3.0-or-later
#include "graph.h"

#include <tensorflow/c/tf_tstring.h>

#include <algorithm>
#include <cstring>
#include <numeric>

#include "../protobuf.h"

namespace deepmd::tensorflow_backend {

using backend::put;

// -- tensors --------------------------------------------------------------------------------------

Tensor Tensor::of_memory(const void* data, size_t size, TF_DataType type,
                         const std::vector<int64_t>& shape) {
  static double nothing;
  const int64_t count =
      std::accumulate(shape.begin(), shape.end(), int64_t{1}, std::multiplies<int64_t>());
  void* memory = count > 0 ? const_cast<void*>(data) : &nothing;
  return Tensor(TF_NewTensor(
      type, shape.data(), static_cast<int>(shape.size()), memory, static_cast<size_t>(count) * size,
      [](void*, size_t, void*) {}, nullptr));
}

void Tensor::check_type(TF_DataType type) const {
  if (TF_TensorType(get()) == type) return;
  throw Failure("the file has numbers of type " + std::to_string(TF_TensorType(get())) +
                " where those of type " + std::to_string(type) +
                " are expected; freeze or convert the model again");
}

std::vector<int64_t> Tensor::whole_numbers() const {
  switch (TF_TensorType(get())) {
    case TF_INT32: {
      const auto short_ones = numbers<int32_t>();
      return std::vector<int64_t>(short_ones.begin(), short_ones.end());
    }
    case TF_BOOL: {
      const auto* data = static_cast<const bool*>(TF_TensorData(get()));
      return std::vector<int64_t>(data, data + size());
    }
    default:
      return numbers<int64_t>();
  }
}

std::vector<std::string> Tensor::texts() const {
  check_type(TF_STRING);
  const auto* data = static_cast<const TF_TString*>(TF_TensorData(get()));
  std::vector<std::string> found;
  for (int64_t k = 0; k < size(); ++k) {
    found.emplace_back(TF_StringGetDataPointer(data + k), TF_StringGetSize(data + k));
  }
  return found;
}

void Tensor::copy_to(const deepmd_array& target) const {
  auto* to = backend::numbers<double>(target, "a result");
  if (to == nullptr) return;
  check_type(TF_DOUBLE);
  const int64_t wanted = std::accumulate(target.shape, target.shape + target.n_dims, int64_t{1},
                                         std::multiplies<int64_t>());
  if (size() != wanted) {
    throw Failure("the program gives " + std::to_string(size()) +
                  " numbers where its description "
                  "says " +
                  std::to_string(wanted) + "; freeze or convert the model again");
  }
  std::memcpy(to, TF_TensorData(get()), static_cast<size_t>(wanted) * sizeof(double));
}

// -- graphs ---------------------------------------------------------------------------------------

Graph::Graph(std::string_view graph_def) : graph_(TF_NewGraph()) {
  const std::unique_ptr<TF_Buffer, void (*)(TF_Buffer*)> buffer(
      TF_NewBufferFromString(graph_def.data(), graph_def.size()), TF_DeleteBuffer);
  const std::unique_ptr<TF_ImportGraphDefOptions, void (*)(TF_ImportGraphDefOptions*)> options(
      TF_NewImportGraphDefOptions(), TF_DeleteImportGraphDefOptions);
  try {
    checked(TF_GraphImportGraphDef, graph_, buffer.get(), options.get());
  } catch (...) {
    TF_DeleteGraph(graph_);
    throw;
  }
}

Graph::~Graph() {
  const std::unique_ptr<TF_Status, void (*)(TF_Status*)> status(TF_NewStatus(), TF_DeleteStatus);
  for (const auto& [threads, session] : sessions_) {
    TF_CloseSession(session, status.get());
    TF_DeleteSession(session, status.get());
  }
  TF_DeleteGraph(graph_);
}

bool Graph::has(const std::string& node) const {
  return TF_GraphOperationByName(graph_, node.c_str()) != nullptr;
}

Tensor Graph::constant(const std::string& node) const {
  TF_Operation* operation = TF_GraphOperationByName(graph_, node.c_str());
  if (operation == nullptr) throw Failure("the file has no node " + node + "; freeze it again");
  TF_Tensor* value = nullptr;
  checked(TF_OperationGetAttrTensor, operation, "value", &value);
  return Tensor(value);
}

TF_Output Graph::output(const std::string& name) const {
  const size_t colon = name.rfind(':');
  const std::string node = name.substr(0, colon);
  const int index = colon == std::string::npos ? 0 : std::stoi(name.substr(colon + 1));
  TF_Operation* operation = TF_GraphOperationByName(graph_, node.c_str());
  if (operation == nullptr || index >= TF_OperationNumOutputs(operation)) {
    throw Failure("the file has no node " + name + "; freeze or convert the model again");
  }
  return {operation, index};
}

/**
 * The session of a number of threads, which TensorFlow settles when a session is made.
 *
 * Operators run one after the other in the thread that calls, see run; the threads share the work
 * of one operator.
 */
TF_Session* Graph::session(int threads) const {
  const std::lock_guard<std::mutex> lock(mutex_);
  TF_Session*& session = sessions_[threads];
  if (session != nullptr) return session;
  std::string config, gpu;
  put(gpu, 4, uint64_t{1});                                         // allow_growth
  if (threads > 0) put(config, 2, static_cast<uint64_t>(threads));  // intra_op_parallelism_threads
  put(config, 5, uint64_t{1});                                      // inter_op_parallelism_threads
  put(config, 6, gpu);                                              // gpu_options
  put(config, 7, uint64_t{1});                                      // allow_soft_placement
  put(config, 9, uint64_t{1});                                      // use_per_session_threads
  const std::unique_ptr<TF_SessionOptions, void (*)(TF_SessionOptions*)> options(
      TF_NewSessionOptions(), TF_DeleteSessionOptions);
  checked(TF_SetConfig, options.get(), config.data(), config.size());
  session = checked(TF_NewSession, graph_, options.get());
  return session;
}

std::vector<Tensor> Graph::run(const Named& inputs, const std::vector<std::string>& outputs,
                               int threads) const {
  std::vector<TF_Output> feeds, fetches;
  std::vector<TF_Tensor*> given, found(outputs.size(), nullptr);
  for (const auto& [name, tensor] : inputs) {
    feeds.push_back(output(name));
    given.push_back(tensor.get());
  }
  for (const std::string& name : outputs) fetches.push_back(output(name));
  static const TF_Buffer* const in_this_thread = [] {
    std::string run_options;
    put(run_options, 3, ~uint64_t{0});  // inter_op_thread_pool = -1
    return TF_NewBufferFromString(run_options.data(), run_options.size());
  }();
  checked(TF_SessionRun, session(threads), in_this_thread, feeds.data(), given.data(),
          static_cast<int>(feeds.size()), fetches.data(), found.data(),
          static_cast<int>(fetches.size()), static_cast<const TF_Operation* const*>(nullptr), 0,
          static_cast<TF_Buffer*>(nullptr));
  std::vector<Tensor> results;
  for (TF_Tensor* tensor : found) results.emplace_back(tensor);
  return results;
}

bool Graph::on_accelerator() const {
  const std::unique_ptr<TF_DeviceList, void (*)(TF_DeviceList*)> devices(
      checked(TF_SessionListDevices, session(1)), TF_DeleteDeviceList);
  for (int k = 0; k < TF_DeviceListCount(devices.get()); ++k) {
    if (std::strcmp(checked(TF_DeviceListType, devices.get(), k), "GPU") == 0) return true;
  }
  return false;
}

}  // namespace deepmd::tensorflow_backend
