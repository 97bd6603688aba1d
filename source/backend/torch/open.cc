// SPDX-License-Identifier: LGPL-3.0-or-later
/** Opening files, and saying what is wrong with them. */
#include <ATen/Context.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <caffe2/serialize/inline_container.h>
#include <torch/csrc/jit/serialization/import.h>
#include <torch/library.h>
#include <torch/version.h>

#if defined(__GLIBC__)
#include <malloc.h>
#endif

#include <array>
#include <cstring>
#include <fstream>
#include <istream>
#include <map>
#include <mutex>
#include <set>

#include "archive.h"
#include "program.h"

namespace deepmd::torch_backend {
namespace {

/** Reads the caller's memory without a copy. */
class MemoryBuffer : public std::streambuf {
 public:
  MemoryBuffer(const void* data, size_t size) {
    char* begin = const_cast<char*>(static_cast<const char*>(data));
    setg(begin, begin, begin + size);
  }

 protected:
  pos_type seekoff(off_type offset, std::ios_base::seekdir from, std::ios_base::openmode) override {
    const off_type base = from == std::ios_base::beg   ? 0
                          : from == std::ios_base::cur ? gptr() - eback()
                                                       : egptr() - eback();
    const off_type target = base + offset;
    if (target < 0 || target > egptr() - eback()) return pos_type(off_type(-1));
    setg(eback(), eback() + target, egptr());
    return pos_type(target);
  }
  pos_type seekpos(pos_type position, std::ios_base::openmode mode) override {
    return seekoff(off_type(position), std::ios_base::beg, mode);
  }
};

[[noreturn]] void fail(const std::string& path, const std::string& what, const std::string& fix) {
  throw Failure(path + ": " + what + "; " + fix);
}

/** Refuse what is no TorchScript file, or is damaged, before torch reads it; the records. */
std::vector<Record> check_kind(std::istream& stream, const std::string& path) {
  std::array<char, 4> head{};
  stream.read(head.data(), head.size());
  const auto count = stream.gcount();
  stream.clear();
  stream.seekg(0);
  const auto starts = [&](const char* text, size_t n) {
    return count >= static_cast<std::streamsize>(n) && std::memcmp(head.data(), text, n) == 0;
  };
  if (count == 0) fail(path, "the file is empty", "copy or freeze it again");
  if (starts("\x80", 1)) {
    fail(path, "this is a Python pickle, perhaps a checkpoint of training, not a frozen model",
         "write a model with dp freeze");
  }
  if (starts("\x89HDF", 4)) {
    fail(path, "this is an HDF5 file, not TorchScript", "convert it: dp convert-backend");
  }
  if (!starts("PK\x03\x04", 4)) {
    fail(path, "this is no TorchScript file", "freeze or convert the model to .pth");
  }
  std::string problem, fix = "copy or freeze it again";
  std::vector<Record> records;
  try {
    caffe2::serialize::PyTorchStreamReader archive(&stream);
    records = read_records(stream, path, [&](const std::string& name, uint64_t size) {
      std::string content(size, '\0');
      const size_t found = archive.getRecordSize(name);
      if (found == size) archive.getRecord(name, content.data(), size);
      return content;
    });
    if (!archive.hasRecord("constants.pkl")) {
      problem = archive.hasRecord("data.pkl")
                    ? "this is a checkpoint of training, not a frozen model"
                    : "this is an archive, but not one of TorchScript";
      fix = "write a model with dp freeze";
    }
  } catch (const Failure&) {
    throw;
  } catch (const std::exception&) {
    problem = "the file is incomplete, damaged, or no archive of PyTorch";
  }
  stream.clear();
  stream.seekg(0);
  if (!problem.empty()) fail(path, problem, fix);
  return records;
}

void add_tensors(const torch::jit::IValue& value, std::vector<at::Tensor>& tensors) {
  value.visit([&](const torch::jit::IValue& inner) {
    if (inner.isTensor()) tensors.push_back(inner.toTensor());
    return false;
  });
}

/** Whether elements of a tensor lie outside of its memory. */
bool reaches_beyond(const at::Tensor& tensor) {
  if (tensor.numel() == 0) return false;
  if (tensor.storage().data() == nullptr) return true;
  // Bytes as floating-point numbers, since products of what a file claims may be of any size.
  double last = static_cast<double>(tensor.storage_offset());
  if (last < 0) return true;
  for (int64_t k = 0; k < tensor.dim(); ++k) {
    if (tensor.stride(k) < 0) return true;
    last += static_cast<double>(tensor.size(k) - 1) * static_cast<double>(tensor.stride(k));
  }
  const auto bytes = static_cast<double>(tensor.element_size());
  return (last + 1) * bytes > static_cast<double>(tensor.storage().nbytes());
}

/**
 * Refuse tensors that are larger or smaller than their records, or do not lie in them.
 *
 * torch takes the number of elements as it stands in the file, and would read what is behind the
 * record in memory.
 */
void check_tensors(const torch::jit::Module& module, const std::vector<Record>& records) {
  std::map<uint64_t, int64_t> left;  // records of a size that no memory was found for yet
  for (const Record& record : records) ++left[record.size];
  std::vector<at::Tensor> tensors;
  const auto add = [&](const torch::jit::IValue& value) { add_tensors(value, tensors); };
  add(module._ivalue());
  visit_constants(module, add);
  std::set<const void*> seen;
  for (const at::Tensor& tensor : tensors) {
    if (!tensor.defined() || !tensor.has_storage()) continue;
    const uint64_t size = tensor.storage().nbytes();
    const bool fresh = size > 0 && seen.insert(tensor.storage().data()).second;
    if ((fresh && --left[size] < 0) || reaches_beyond(tensor)) {
      throw Failure(
          "the file is damaged: a tensor has another size than its record; copy or freeze "
          "it again");
    }
  }
}

/** Called in place of an operator that is not part of this program. */
void refuse_operator(const c10::OperatorHandle& op, torch::jit::Stack*) {
  throw Failure("the file calls " + op.operator_name().name +
                ", an operator of DeePMD-kit that is not part of this program: compressed models "
                "and several processes need it; convert the model's .dp file, or use one process");
}

/**
 * Declare the operators that files of DeePMD-kit mention, even where they never call them.
 *
 * TorchScript refuses a file with an unknown operator. Most mention those of compressed models, or
 * of message passing between processes, in branches that are not taken.
 */
void declare_foreign_operators() {
  static const std::array<const char*, 6> schemas = {
      "border_op(Tensor _0, Tensor _1, Tensor _2, Tensor _3, Tensor _4, Tensor _5, Tensor _6, "
      "Tensor _7, Tensor _8) -> Tensor[] _0",
      "tabulate_fusion_se_a(Tensor _0, Tensor _1, Tensor _2, Tensor _3, int _4) -> Tensor[] _0",
      "tabulate_fusion_se_atten(Tensor _0, Tensor _1, Tensor _2, Tensor _3, Tensor _4, int _5, "
      "bool _6) -> Tensor[] _0",
      "tabulate_fusion_se_t(Tensor _0, Tensor _1, Tensor _2, Tensor _3, int _4) -> Tensor[] _0",
      "tabulate_fusion_se_t_tebd(Tensor _0, Tensor _1, Tensor _2, Tensor _3, int _4) "
      "-> Tensor[] _0",
      "tabulate_fusion_se_r(Tensor _0, Tensor _1, Tensor _2, int _3) -> Tensor[] _0",
  };
  static std::once_flag once;
  std::call_once(once, [] {
    // Lives as long as the process: programs refer to its operators.
    static torch::Library library(torch::Library::FRAGMENT, "deepmd", std::nullopt, __FILE__,
                                  __LINE__);
    for (const char* schema : schemas) {
      const std::string name(schema, std::strchr(schema, '('));
      // The operators may be here already, from a library of DeePMD-kit.
      if (c10::Dispatcher::singleton().findSchema({"deepmd::" + name, ""})) continue;
      library.def(schema);
      library.impl(name.c_str(), torch::CppFunction::makeFromBoxedFunction<&refuse_operator>());
    }
  });
}

/** Settings of the process, made once before the first file is opened. */
void prepare_process() {
  static std::once_flag once;
  std::call_once(once, [] {
    use_own_blas();
#if defined(__GLIBC__)
    // Arrays of a few megabytes are asked for in every call. Given back to the system each time,
    // they would cost a page fault per 4 kB again, a fifth of the time of an evaluation.
    mallopt(M_MMAP_THRESHOLD, 32 << 20);
    mallopt(M_TRIM_THRESHOLD, 512 << 20);
#endif
  });
}

at::Device choose_device(int gpu_rank) {
  if (!at::hasCUDA()) return at::kCPU;
  const auto count = at::detail::getCUDAHooks().deviceCount();
  if (count <= 0) return at::kCPU;
  const int index = (gpu_rank % count + count) % count;
  return at::Device(at::kCUDA, static_cast<c10::DeviceIndex>(index));
}

/** Read the program, and the record of the archive that describes it; throws Failure. */
torch::jit::Module load(std::istream& stream, const std::string& path, at::Device device,
                        std::string& metadata) {
  try {
    torch::jit::ExtraFilesMap extra = {{"metadata.json", ""}};
    auto module = torch::jit::load(stream, device, extra, /*load_debug_files=*/false);
    metadata = extra["metadata.json"];
    module.eval();
    return module;
  } catch (const std::exception& error) {
    const std::string text = first_words(error.what());
    if (text.find("Unknown builtin op") != std::string::npos) {
      fail(path, "the file needs operators that are not part of this program (" + text + ")",
           "convert the model's .dp file to .pth with this program, or, if they are those of a "
           "plugin, name its library in DP_PLUGIN_PATH");
    }
    fail(path, "PyTorch " TORCH_VERSION " cannot read the file (" + text + ")",
         "copy or freeze it again, with this release");
  }
}

}  // namespace

std::string first_words(const std::string& message) {
  // Errors of a program end with the line that says what is wrong; others begin with it.
  std::string text = message;
  const auto interpreter = text.find("RuntimeError: ");
  if (interpreter != std::string::npos) text = text.substr(interpreter + 14);
  const auto exception = text.find("builtins.ValueError: ");
  if (exception != std::string::npos) text = text.substr(exception + 21);
  const auto start = text.find_first_not_of(" \n");
  if (start == std::string::npos) return "an error without a message";
  text = text.substr(start);
  return text.substr(0, text.find('\n'));
}

const std::string& framework_name() {
  static const std::string name =
      std::string("PyTorch ") + TORCH_VERSION + (choose_device(0).is_cpu() ? " (CPU)" : " (CUDA)");
  return name;
}

const deepmd_info& info_of(const Program& program) { return program.info; }

std::shared_ptr<Program> open_program(const deepmd_source& source) {
  auto program = std::make_shared<Program>();
  program->path = source.path == nullptr ? "the given content" : source.path;
  program->device = choose_device(source.gpu_rank);
  std::unique_ptr<std::streambuf> memory;
  std::ifstream file;
  std::istream stream(nullptr);
  if (source.content != nullptr) {
    memory = std::make_unique<MemoryBuffer>(source.content, source.content_size);
    stream.rdbuf(memory.get());
  } else {
    file.open(program->path, std::ios::binary);
    if (!file || file.peek() == std::ifstream::traits_type::eof()) {
      if (!file.is_open()) fail(program->path, "cannot be opened", "check the path");
      fail(program->path, "is empty or a folder", "give a .pth file");
    }
    stream.rdbuf(file.rdbuf());
  }
  stream.clear();
  const std::vector<Record> records = check_kind(stream, program->path);
  prepare_process();
  load_plugins();
  declare_foreign_operators();
  std::string metadata;
  program->module = load(stream, program->path, program->device, metadata);
  try {
    check_operators(program->module);
    check_tensors(program->module, records);
    program->differentiates = differentiates(program->module);
    if (program->module.find_method("forward_edges")) {
      describe_own(*program, metadata);
    } else {
      describe_foreign(*program);
    }
  } catch (const Failure& failure) {
    throw Failure(program->path + ": " + failure.what());
  } catch (const std::exception& error) {
    fail(program->path,
         "the file is not a model of this release (" + first_words(error.what()) + ")",
         "convert its .dp file, or freeze it again");
  }
  return program;
}

}  // namespace deepmd::torch_backend
