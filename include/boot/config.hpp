// SPDX-License-Identifier: MIT
/// The only header that knows the compiler: every macro is defined here, always to 0 or 1 or to a token.
#pragma once

/// 1 while a CUDA compiler reads this translation unit (host or device pass).
#if defined(__CUDACC__)
#  define BOOT_CUDA_COMPILATION 1
#  define BOOT_HD __host__ __device__
#  define BOOT_DEVICE __device__
#else
#  define BOOT_CUDA_COMPILATION 0
#  define BOOT_HD
#  define BOOT_DEVICE
#endif

/// 1 in the pass that makes device code.
#if defined(__CUDA_ARCH__)
#  define BOOT_DEVICE_CODE 1
#else
#  define BOOT_DEVICE_CODE 0
#endif

/// 1 when loops may be spread over OpenMP threads; without it boot::cpu runs on one thread.
#if defined(_OPENMP)
#  define BOOT_HAS_OPENMP 1
#else
#  define BOOT_HAS_OPENMP 0
#endif

/// 1 under AddressSanitizer or ThreadSanitizer.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#  define BOOT_SANITIZED 1
#elif defined(__has_feature)
#  if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#    define BOOT_SANITIZED 1
#  endif
#endif
#if !defined(BOOT_SANITIZED)
#  define BOOT_SANITIZED 0
#endif

/// 1 where several flows of control may take turns on one thread (POSIX contexts).
#if defined(__linux__) && __has_include(<ucontext.h>)
#  define BOOT_HAS_CONTEXTS 1
#else
#  define BOOT_HAS_CONTEXTS 0
#endif

#define BOOT_PRAGMA(text) _Pragma(#text)

/// Asks for a vectorised loop; the iterations must be independent (or named in a reduction clause).
#if BOOT_HAS_OPENMP
#  define BOOT_SIMD BOOT_PRAGMA(omp simd)
#elif defined(__clang__)
#  define BOOT_SIMD BOOT_PRAGMA(clang loop vectorize(assume_safety))
#elif defined(__GNUC__)
#  define BOOT_SIMD BOOT_PRAGMA(GCC ivdep)
#else
#  define BOOT_SIMD
#endif

/// Before a BOOT_HD template that calls its argument: the argument may be host-only or device-only.
#if BOOT_CUDA_COMPILATION
#  define BOOT_NO_EXEC_CHECK BOOT_PRAGMA(nv_exec_check_disable)
#else
#  define BOOT_NO_EXEC_CHECK
#endif

/// Before a loop of constant length that is to be unrolled on a device.
#if BOOT_CUDA_COMPILATION
BOOT_PRAGMA(nv_diag_suppress 1675)  // nvcc does not know the host compiler's unrolling, which it hands on all the same
#  define BOOT_UNROLL BOOT_PRAGMA(unroll)
#  define BOOT_NO_UNROLL BOOT_PRAGMA(unroll 1)
#else
#  define BOOT_UNROLL
#  define BOOT_NO_UNROLL
#endif

/// Bytes of the widest vector register the target has: the tile sizes of the CPU matrix product follow it.
#if defined(__AVX512F__)
#  define BOOT_VECTOR_BYTES 64
#elif defined(__AVX__)
#  define BOOT_VECTOR_BYTES 32
#else
#  define BOOT_VECTOR_BYTES 16
#endif

/// 1 on x86 processors with SSE2, where <immintrin.h> has streaming stores and the control word of denormals.
#if defined(__SSE2__) && !BOOT_CUDA_COMPILATION
#  define BOOT_HAS_X86 1
#else
#  define BOOT_HAS_X86 0
#endif

/// 1 when GCC's vector extensions (also in clang) are there; otherwise the matrix product uses plain loops.
#if defined(__GNUC__) && !BOOT_CUDA_COMPILATION
#  define BOOT_HAS_VECTOR_EXTENSIONS 1
#else
#  define BOOT_HAS_VECTOR_EXTENSIONS 0
#endif

#if defined(__GNUC__) || defined(_MSC_VER)
#  define BOOT_RESTRICT __restrict
#else
#  define BOOT_RESTRICT
#endif

/// For the few functions whose inlining a benchmark showed to matter (vectorised loops call them per element).
#if defined(__GNUC__)
#  define BOOT_FORCE_INLINE inline __attribute__((always_inline))
#else
#  define BOOT_FORCE_INLINE inline
#endif

/// 1: fresh tensors are filled with NaN patterns, so that a read before a write shows. The tests switch it on.
#if !defined(BOOT_POISON)
#  define BOOT_POISON 0
#endif

/// 1 on systems with mmap, fsync and POSIX signals.
#if defined(__unix__) || defined(__APPLE__)
#  define BOOT_HAS_POSIX 1
#else
#  define BOOT_HAS_POSIX 0
#endif

/// 1 where madvise() can ask for huge pages.
#if defined(__linux__)
#  define BOOT_HAS_HUGE_PAGES 1
#else
#  define BOOT_HAS_HUGE_PAGES 0
#endif

/// 1 when the compiler optimises: benchmarks warn when it does not.
#if defined(__OPTIMIZE__) || (defined(_MSC_VER) && !defined(_DEBUG))
#  define BOOT_OPTIMIZED 1
#else
#  define BOOT_OPTIMIZED 0
#endif

/// The host compiler's name and version as text, written into results.
#if defined(__clang__)
#  define BOOT_COMPILER_NAME "clang " __clang_version__
#elif defined(__GNUC__)
#  define BOOT_COMPILER_NAME "g++ " __VERSION__
#elif defined(_MSC_VER)
#  define BOOT_COMPILER_NAME "msvc"
#else
#  define BOOT_COMPILER_NAME "unknown"
#endif
