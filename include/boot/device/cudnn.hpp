// SPDX-License-Identifier: MIT
/// A thin layer over cuDNN 9's graph interface: owning descriptors, statuses as boot::error, and plans of one graph.
#pragma once

#include <boot/core/error.hpp>
#include <boot/device/cuda.hpp>

#include <cudnn.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace boot::inline v0 {

/// What cuDNN says about its last failed call in this thread.
[[nodiscard]] inline std::string cudnn_reason() {
  std::array<char, 1024> text{};
  cudnnGetLastErrorString(text.data(), text.size());
  return text.data();
}

/// Throws boot::error with the call, the library's text and what was asked for (`shapes`, formatted) unless `status` is
/// success.
template <class... Args>
void check_cudnn(cudnnStatus_t status, const char* call, fmt::format_string<Args...> shapes, Args&&... args) {
  if (status == CUDNN_STATUS_SUCCESS) [[likely]]
    return;
  fail("boot: cuDNN: {} failed for {}: {}: {}", call, fmt::format(shapes, std::forward<Args>(args)...),
       cudnnGetErrorString(status), cudnn_reason());
}

/// Owns a cuDNN handle of the current device; `per_stream<cudnn_handle>(dev)` keeps one.
class cudnn_handle {
 public:
  cudnn_handle() {
    require(cuda_device_count() > 0,
            "boot: CUDA: no device for cudnnCreate; nvidia-smi must list a GPU, or use boot::cpu");
    check_cudnn(cudnnCreate(&handle_), "cudnnCreate", "this device");
  }
  cudnn_handle(const cudnn_handle&) = delete;
  cudnn_handle& operator=(const cudnn_handle&) = delete;
  ~cudnn_handle() { static_cast<void>(cudnnDestroy(handle_)); }

  /// For calls of the library.
  [[nodiscard]] cudnnHandle_t get() const noexcept { return handle_; }

 private:
  cudnnHandle_t handle_ = nullptr;
};

/// Owns a descriptor of the graph interface: attributes are set, then finalize() makes it usable.
class cudnn_descriptor {
 public:
  explicit cudnn_descriptor(cudnnBackendDescriptorType_t type) {
    check_cudnn(cudnnBackendCreateDescriptor(type, &descriptor_), "cudnnBackendCreateDescriptor", "type {}",
                static_cast<int>(type));
  }
  cudnn_descriptor(cudnn_descriptor&& other) noexcept : descriptor_(std::exchange(other.descriptor_, nullptr)) {}
  cudnn_descriptor& operator=(cudnn_descriptor&& other) noexcept {
    std::swap(descriptor_, other.descriptor_);
    return *this;
  }
  ~cudnn_descriptor() {
    if (descriptor_ != nullptr) static_cast<void>(cudnnBackendDestroyDescriptor(descriptor_));
  }

  /// For calls of the library.
  [[nodiscard]] cudnnBackendDescriptor_t get() const noexcept { return descriptor_; }
  /// Sets an attribute to `values`. The type is named by the caller: descriptors and data pointers are both void*.
  template <class T>
  cudnn_descriptor& set(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, std::span<const T> values) {
    check_cudnn(
        cudnnBackendSetAttribute(descriptor_, name, type, static_cast<std::int64_t>(values.size()), values.data()),
        "cudnnBackendSetAttribute", "attribute {}", static_cast<int>(name));
    return *this;
  }
  /// Sets an attribute that is one value.
  template <class T>
  cudnn_descriptor& set(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, const T& value) {
    return set(name, type, std::span<const T>(&value, 1));
  }
  /// Sets an attribute that is another descriptor.
  cudnn_descriptor& set(cudnnBackendAttributeName_t name, const cudnn_descriptor& value) {
    return set(name, CUDNN_TYPE_BACKEND_DESCRIPTOR, value.descriptor_);
  }
  /// Makes it usable; `what` is named where that fails.
  cudnn_descriptor& finalize(std::string_view what) {
    check_cudnn(cudnnBackendFinalize(descriptor_), "cudnnBackendFinalize", "{}", what);
    return *this;
  }
  /// Makes it usable; false where the library refuses.
  [[nodiscard]] bool try_finalize() noexcept { return cudnnBackendFinalize(descriptor_) == CUDNN_STATUS_SUCCESS; }
  /// An attribute that is one number.
  [[nodiscard]] std::int64_t number(cudnnBackendAttributeName_t name) const {
    std::int64_t value = 0, count = 0;
    check_cudnn(cudnnBackendGetAttribute(descriptor_, name, CUDNN_TYPE_INT64, 1, &count, &value),
                "cudnnBackendGetAttribute", "attribute {}", static_cast<int>(name));
    return value;
  }

 private:
  cudnnBackendDescriptor_t descriptor_ = nullptr;
};

/// What a graph is planned for: a handle's device, or a device that is only described (see cudnn_device_from_json()).
struct cudnn_target {
  cudnnHandle_t handle = nullptr;            ///< null: `device`
  const cudnn_descriptor* device = nullptr;  ///< read when there is no handle
};

/// A device described by the JSON text that cuDNN writes of one: plans can be asked for without it.
[[nodiscard]] inline cudnn_descriptor cudnn_device_from_json(std::string_view json) {
  cudnn_descriptor d(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR);
  d.set(CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, CUDNN_TYPE_CHAR, std::span<const char>(json.data(), json.size()));
  d.finalize("a description of a device");
  return d;
}

/// The current device in such a text, for cudnn_device_from_json() on another machine.
[[nodiscard]] inline std::string cudnn_device_json() {
  int device = 0;
  check_cuda(cudaGetDevice(&device), "cudaGetDevice");
  cudnn_descriptor d(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR);
  d.set(CUDNN_ATTR_DEVICEPROP_DEVICE_ID, CUDNN_TYPE_INT32, std::int32_t{device});
  d.finalize("the properties of this device");
  const auto get = [&](std::int64_t room, std::int64_t& count, char* to) {
    check_cudnn(
        cudnnBackendGetAttribute(d.get(), CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, CUDNN_TYPE_CHAR, room, &count, to),
        "cudnnBackendGetAttribute", "the description of this device");
  };
  std::int64_t count = 0;
  get(0, count, nullptr);
  std::string text(static_cast<std::size_t>(count), '\0');
  get(count, count, text.data());
  while (!text.empty() && text.back() == '\0') text.pop_back();
  return text;
}

/// Which engines may compute a graph.
struct cudnn_engine_rules {
  bool full_precision = false;  ///< no matrix units and no narrowed inputs: float stays float
};

/// One way to compute a graph.
class cudnn_plan {
 public:
  /// Takes a finalized plan over.
  explicit cudnn_plan(cudnn_descriptor plan)
      : plan_(std::move(plan)), workspace_(plan_.number(CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE)) {}

  /// Bytes of device memory that run() needs.
  [[nodiscard]] std::size_t workspace() const noexcept { return static_cast<std::size_t>(workspace_); }

  /// Enqueues the graph on the handle's stream. `ids` are the tensors' numbers and `memory` their addresses, in the same
  /// order.
  void run(cudnnHandle_t handle, std::span<const std::int64_t> ids, std::span<void* const> memory,
           void* workspace) const {
    cudnn_descriptor pack(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
    pack.set(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, ids);
    pack.set(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, memory);
    pack.set(CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, workspace);
    pack.finalize("the tensors of a plan");
    check_cudnn(cudnnBackendExecute(handle, plan_.get(), pack.get()), "cudnnBackendExecute", "{} tensors", ids.size());
  }

 private:
  cudnn_descriptor plan_;
  std::int64_t workspace_;
};

namespace detail {

/// Descriptors that an attribute holds.
[[nodiscard]] inline std::vector<cudnn_descriptor> cudnn_children(const cudnn_descriptor& of,
                                                                  cudnnBackendAttributeName_t name,
                                                                  cudnnBackendDescriptorType_t type) {
  std::int64_t count = 0;
  check_cudnn(cudnnBackendGetAttribute(of.get(), name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 0, &count, nullptr),
              "cudnnBackendGetAttribute", "attribute {}", static_cast<int>(name));
  std::vector<cudnn_descriptor> children;
  std::vector<cudnnBackendDescriptor_t> raw;
  for (std::int64_t i = 0; i < count; ++i) raw.push_back(children.emplace_back(type).get());
  if (count > 0)
    check_cudnn(cudnnBackendGetAttribute(of.get(), name, CUDNN_TYPE_BACKEND_DESCRIPTOR, count, &count, raw.data()),
                "cudnnBackendGetAttribute", "attribute {}", static_cast<int>(name));
  children.erase(children.begin() + std::clamp<std::ptrdiff_t>(count, 0, std::ssize(children)), children.end());
  return children;
}

/// Whether the rules allow the engine of a configuration. Never one whose sums depend on the order of threads.
[[nodiscard]] inline bool cudnn_allows(const cudnn_engine_rules& rules, const cudnn_descriptor& configuration) {
  const auto engines = cudnn_children(configuration, CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_BACKEND_ENGINE_DESCRIPTOR);
  if (engines.empty()) return false;
  std::array<cudnnBackendNumericalNote_t, CUDNN_NUMERICAL_NOTE_TYPE_COUNT> notes{};
  std::int64_t count = 0;
  check_cudnn(cudnnBackendGetAttribute(engines[0].get(), CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE,
                                       std::ssize(notes), &count, notes.data()),
              "cudnnBackendGetAttribute", "the notes of an engine");
  for (std::int64_t i = 0; i < std::min(count, std::int64_t{std::ssize(notes)}); ++i) {
    const auto note = notes[static_cast<std::size_t>(i)];
    if (note == CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC || note == CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION)
      return false;
    if (rules.full_precision &&
        (note == CUDNN_NUMERICAL_NOTE_TENSOR_CORE || note == CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS))
      return false;
  }
  return true;
}

}  // namespace detail

/// Up to `most` ways to compute the graph of `operations`, the one that cuDNN expects to be fastest first. Throws
/// boot::error that names `what` when there is none.
[[nodiscard]] inline std::vector<cudnn_plan> cudnn_plans(const cudnn_target& target,
                                                         std::span<const cudnn_descriptor* const> operations,
                                                         const cudnn_engine_rules& rules, std::size_t most,
                                                         std::string_view what) {
  cudnn_descriptor graph(CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
  std::vector<cudnnBackendDescriptor_t> raw;
  for (const auto* operation : operations) raw.push_back(operation->get());
  graph.set(CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR,
            std::span<const cudnnBackendDescriptor_t>(raw));
  if (target.handle != nullptr) graph.set(CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, target.handle);
  graph.finalize(what);
  std::vector<cudnn_plan> plans;
  std::size_t offered = 0, refused = 0;
  std::string reason = "no engine was offered";
  for (const auto mode : {CUDNN_HEUR_MODE_A, CUDNN_HEUR_MODE_FALLBACK}) {
    cudnn_descriptor heuristics(CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
    heuristics.set(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, graph);
    heuristics.set(CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, mode);
    if (target.handle == nullptr) heuristics.set(CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, *target.device);
    if (!heuristics.try_finalize()) {
      reason = cudnn_reason();
      continue;
    }
    for (const auto& configuration :
         detail::cudnn_children(heuristics, CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_BACKEND_ENGINECFG_DESCRIPTOR)) {
      if (plans.size() == most) return plans;
      ++offered;
      if (!detail::cudnn_allows(rules, configuration)) {
        ++refused;
        continue;
      }
      cudnn_descriptor plan(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
      plan.set(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, configuration);
      if (target.handle != nullptr) {
        plan.set(CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, target.handle);
      } else {
        plan.set(CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP, *target.device);
      }
      if (plan.try_finalize()) {
        plans.emplace_back(std::move(plan));
      } else {
        reason = cudnn_reason();
      }
    }
    if (!plans.empty()) break;
  }
  require(
      !plans.empty(),
      "boot: cuDNN: no engine computes {}: {} were offered, {} of them are not deterministic or not precise enough, "
      "the last one says: {}",
      what, offered, refused, reason);
  return plans;
}

}  // namespace boot::inline v0
