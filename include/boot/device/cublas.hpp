// SPDX-License-Identifier: MIT
/// The cuBLASLt handle, and its statuses as boot::error.
#pragma once

#include <boot/core/error.hpp>
#include <boot/device/cuda.hpp>

#include <cublasLt.h>

#include <string>
#include <utility>

namespace boot::inline v0 {

/// Throws boot::error with the call, the library's text and what was asked for (`shapes`, formatted) unless `status` is
/// success.
template <class... Args>
void check_cublas(cublasStatus_t status, const char* call, fmt::format_string<Args...> shapes, Args&&... args) {
  if (status == CUBLAS_STATUS_SUCCESS) [[likely]]
    return;
  fail("boot: cuBLASLt: {} failed for {}: {} ({})", call, fmt::format(shapes, std::forward<Args>(args)...),
       cublasLtGetStatusString(status), cublasLtGetStatusName(status));
}

/// Owns a cuBLASLt handle of the current device; `per_stream<cublas_handle>(dev)` keeps one.
class cublas_handle {
 public:
  cublas_handle() {
    require(cuda_device_count() > 0,
            "boot: CUDA: no device for cublasLtCreate; nvidia-smi must list a GPU, or use boot::cpu");
    check_cublas(cublasLtCreate(&handle_), "cublasLtCreate", "this device");
  }
  cublas_handle(const cublas_handle&) = delete;
  cublas_handle& operator=(const cublas_handle&) = delete;
  ~cublas_handle() { static_cast<void>(cublasLtDestroy(handle_)); }

  /// For calls of the library.
  [[nodiscard]] cublasLtHandle_t get() const noexcept { return handle_; }

 private:
  cublasLtHandle_t handle_ = nullptr;
};

}  // namespace boot::inline v0
