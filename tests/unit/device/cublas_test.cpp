// SPDX-License-Identifier: MIT
// cuBLASLt: a failed call becomes an error that names it and the shapes.
#include "support/catch.hpp"

#include <boot/core/error.hpp>
#include <boot/device/cublas.hpp>

TEST_CASE("a cuBLASLt status becomes an error with call, shapes and text", "[device][cuda]") {
  boot::check_cublas(CUBLAS_STATUS_SUCCESS, "cublasLtMatmul", "{}", 1);
  CHECK_THROWS_WITH(
      boot::check_cublas(CUBLAS_STATUS_NOT_SUPPORTED, "cublasLtMatmul", "[{}, {}] x [{}, {}]", 2, 3, 3, 5),
      Catch::Matchers::ContainsSubstring("cublasLtMatmul failed for [2, 3] x [3, 5]") &&
          Catch::Matchers::ContainsSubstring("CUBLAS_STATUS_NOT_SUPPORTED"));
}

TEST_CASE("a cuBLASLt handle needs a device", "[device][cuda]") {
  if (boot::cuda_device_count() == 0) {
    CHECK_THROWS_WITH(boot::cublas_handle(), Catch::Matchers::ContainsSubstring("no device"));
  } else {
    const boot::cublas_handle handle;
    CHECK(handle.get() != nullptr);
  }
}
