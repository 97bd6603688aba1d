// SPDX-License-Identifier: LGPL-3.0-or-later
/** What is behind the handles of the C interface, and how exceptions become messages. */
#pragma once

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <string>
#include <vector>

#include "deepmd/DataModifier.h"
#include "deepmd/DeepPot.h"
#include "deepmd/DeepSpin.h"
#include "deepmd/DeepTensor.h"
#include "deepmd/c_api.h"

namespace deepmd::c {

/** The message of the last call. */
class Message {
 public:
  std::string get() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return text_;
  }
  void set(const std::string& text) {
    const std::lock_guard<std::mutex> lock(mutex_);
    text_ = text;
  }

 private:
  mutable std::mutex mutex_;
  std::string text_;
};

/** A text that DP_DeleteChar frees. */
inline const char* to_char(const std::string& text) {
  char* copy = static_cast<char*>(std::malloc(text.size() + 1));
  if (copy) {
    std::memcpy(copy, text.c_str(), text.size() + 1);
  }
  return copy;
}

/** The engine of a constructor; NULL means the default. */
inline std::string engine_of(const char* engine) { return engine ? engine : "auto"; }

/** Run `action`; what it throws becomes the message of the handle. */
template <typename Handle, typename Action>
void attempt(Handle* handle, const Action& action) {
  if (!handle) {
    return;
  }
  try {
    action();
    return;
  } catch (const std::exception& error) {
    handle->message.set(error.what());
  } catch (...) {
    handle->message.set("DeePMD-kit Error: an unknown exception");
  }
}

/** Open a model in a new handle. If that fails, the handle keeps the message for ever. */
template <typename Handle, typename Open>
Handle* opened(const Open& open) {
  Handle* const handle = new Handle;
  handle->usable = false;
  attempt(handle, [&] {
    open(*handle);
    handle->usable = true;
  });
  return handle;
}

/** Run `action` on an open model, and forget the message of the call before. */
template <typename Handle, typename Action>
void perform(Handle* handle, const Action& action) {
  if (handle && handle->usable) {
    attempt(handle, [&] {
      action();
      handle->message.set("");
    });
  }
}

/** A fact about an open model, or nothing. */
template <typename Value, typename Handle, typename Get>
Value fact(Handle* handle, Value nothing, const Get& get) {
  Value value = nothing;
  if (handle && handle->usable) {
    attempt(handle, [&] { value = get(); });
  }
  return value;
}

/** An array of the caller; empty for NULL. */
template <typename T>
std::vector<T> array(const T* data, size_t size) {
  return data ? std::vector<T>(data, data + size) : std::vector<T>();
}

/** Copy to an array of the caller, unless it is NULL. */
template <typename From, typename To>
void copy_out(const std::vector<From>& values, To* out) {
  if (out) {
    std::copy(values.begin(), values.end(), out);
  }
}

/** One array after the other. */
template <typename From, typename To>
void copy_out(const std::vector<std::vector<From>>& arrays, To* out) {
  if (out) {
    for (const std::vector<From>& values : arrays) {
      out = std::copy(values.begin(), values.end(), out);
    }
  }
}

/** An array that the caller frees. */
template <typename T>
T* allocated(const std::vector<T>& values, int* size) {
  T* const copy = static_cast<T*>(std::malloc(sizeof(T) * std::max<size_t>(values.size(), 1)));
  if (!copy) {
    throw deepmd_exception("no memory for " + std::to_string(values.size()) + " numbers");
  }
  std::copy(values.begin(), values.end(), copy);
  if (size) {
    *size = static_cast<int>(values.size());
  }
  return copy;
}

/** The list behind a handle; NULL is an error of the caller. */
const InputNlist& list_of(const DP_Nlist* nlist);

}  // namespace deepmd::c

struct DP_Nlist {
  deepmd::InputNlist nl;
  deepmd::c::Message message;
};

struct DP_DeepBaseModel {
  virtual ~DP_DeepBaseModel() = default;
  virtual deepmd::DeepBaseModel& base() = 0;
  bool usable = true;
  deepmd::c::Message message;
};

struct DP_DeepPot : DP_DeepBaseModel {
  deepmd::DeepBaseModel& base() override { return model; }
  deepmd::DeepPot model;
};

struct DP_DeepSpin : DP_DeepBaseModel {
  deepmd::DeepBaseModel& base() override { return model; }
  deepmd::DeepSpin model;
};

struct DP_DeepBaseModelDevi {
  virtual ~DP_DeepBaseModelDevi() = default;
  virtual deepmd::DeepBaseModelDevi& base() = 0;
  bool usable = true;
  deepmd::c::Message message;
};

struct DP_DeepPotModelDevi : DP_DeepBaseModelDevi {
  deepmd::DeepBaseModelDevi& base() override { return model; }
  deepmd::DeepPotModelDevi model;
};

struct DP_DeepSpinModelDevi : DP_DeepBaseModelDevi {
  deepmd::DeepBaseModelDevi& base() override { return model; }
  deepmd::DeepSpinModelDevi model;
};

struct DP_DeepTensor {
  bool usable = true;
  deepmd::c::Message message;
  deepmd::DeepTensor model;
};

struct DP_DipoleChargeModifier {
  bool usable = true;
  deepmd::c::Message message;
  deepmd::DipoleChargeModifier model;
};
