// SPDX-License-Identifier: MIT
/// boot::cuda: device memory and a stream. Includable by the host compiler: kernels are elsewhere.
#pragma once

#include <boot/config.hpp>
#include <boot/core/error.hpp>
#include <boot/device/device.hpp>
#include <boot/device/memory.hpp>
#include <boot/device/recording.hpp>
#include <boot/device/staging.hpp>

#include <cuda_runtime_api.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <tuple>
#include <typeindex>
#include <utility>
#include <vector>

namespace boot::inline v0 {

/// Throws boot::error with the name of the call and the runtime's text unless `status` is success.
inline void check_cuda(cudaError_t status, const char* call) {
  if (status == cudaSuccess) [[likely]]
    return;
  static_cast<void>(cudaGetLastError());  // or the next launch would report this error as its own
  require(status != cudaErrorNoDevice && status != cudaErrorInsufficientDriver,
          "boot: CUDA: no device for {}: {} ({}). Needs an NVIDIA GPU and its driver: nvidia-smi must list the GPU, "
          "CUDA_VISIBLE_DEVICES must not hide it; or use boot::cpu",
          call, cudaGetErrorString(status), cudaGetErrorName(status));
  fail("boot: CUDA: {} failed: {} ({})", call, cudaGetErrorString(status), cudaGetErrorName(status));
}

/// CUDA devices that this process sees; 0 without a driver. Never throws.
[[nodiscard]] inline int cuda_device_count() noexcept {
  int count = 0;
  if (cudaGetDeviceCount(&count) == cudaSuccess) return count;
  static_cast<void>(cudaGetLastError());
  return 0;
}

/// The name of the current CUDA device, as its driver tells it; throws boot::error when there is none.
[[nodiscard]] inline std::string cuda_device_name() {
  int device = 0;
  check_cuda(cudaGetDevice(&device), "cudaGetDevice");
  cudaDeviceProp properties{};
  check_cuda(cudaGetDeviceProperties(&properties, device), "cudaGetDeviceProperties");
  return properties.name;
}

namespace detail {

[[nodiscard]] inline cudaMemPool_t cuda_pool() {
  int device = 0;
  check_cuda(cudaGetDevice(&device), "cudaGetDevice");
  cudaMemPool_t pool = nullptr;
  check_cuda(cudaDeviceGetDefaultMemPool(&pool, device), "cudaDeviceGetDefaultMemPool");
  return pool;
}

/// Tells the device's pool once to keep what is freed: it would go back to the system at every synchronization.
inline void keep_cuda_pool() {
  static std::atomic<std::uint64_t> kept{0};
  int device = 0;
  check_cuda(cudaGetDevice(&device), "cudaGetDevice");
  const std::uint64_t bit = std::uint64_t{1} << (device % 64);
  if ((kept.load(std::memory_order_relaxed) & bit) != 0) return;
  std::uint64_t threshold = UINT64_MAX;
  check_cuda(cudaMemPoolSetAttribute(cuda_pool(), cudaMemPoolAttrReleaseThreshold, &threshold),
             "cudaMemPoolSetAttribute");
  kept.fetch_or(bit);
}

[[nodiscard]] inline bool is_captured(cudaStream_t stream) {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  check_cuda(cudaStreamIsCapturing(stream, &status), "cudaStreamIsCapturing");
  return status != cudaStreamCaptureStatusNone;
}

/// Throws while `stream` is captured: what follows cannot be part of a graph.
inline void require_no_capture(cudaStream_t stream, const char* what) {
  require(!is_captured(stream),
          "boot: CUDA: {} while the stream is captured; do it before: run the step once uncaptured", what);
}

}  // namespace detail

/// Runs on the current CUDA device, in the order of `stream`. A value: it does not own the stream, see cuda_stream.
struct cuda {
  using device_category = cuda;                ///< names itself, see boot::Device
  static constexpr bool computes_bf16 = true;  ///< the operations of a graph take views of bf16 here
  cudaStream_t stream = nullptr;               ///< the caller's; null: the default stream, which cannot be captured
  bool tf32 = false;  ///< products and convolutions of float may round their inputs to TF32: 10 bits of 23
  int autotune = 0;   ///< ways to compute a product or convolution that are timed when its shape is new, 10 is usual;
                      ///< 0: the vendor's first choice. Another process may choose another way, with other last bits

  /// Device memory in stream order, from the device's pool; throws boot::error when there is none.
  [[nodiscard]] void* allocate(std::size_t bytes) const {
    detail::keep_cuda_pool();
    detail::require_no_capture(stream, "memory is allocated");
    void* p = nullptr;
    const cudaError_t status = cudaMallocAsync(&p, bytes, stream);
    if (status == cudaErrorMemoryAllocation) {
      static_cast<void>(cudaGetLastError());
      std::size_t free = 0, total = 0;
      static_cast<void>(cudaMemGetInfo(&free, &total));
      fail("boot: CUDA: no room for {} bytes; {} of the device's {} bytes are free. Use a smaller batch or recompute",
           bytes, free, total);
    }
    check_cuda(status, "cudaMallocAsync");
    return p;
  }
  /// Gives memory back in stream order. The stream must still be there.
  void deallocate(void* p, std::size_t) const noexcept { static_cast<void>(cudaFreeAsync(p, stream)); }
};

static_assert(Device<cuda>);

/// What the driver says of the current device's memory pool, which all of boot::cuda's device memory comes from.
struct cuda_pool_statistics {
  std::int64_t used_bytes = 0;      ///< given out now
  std::int64_t peak_bytes = 0;      ///< most ever given out at once, since reset_cuda_pool_peak()
  std::int64_t reserved_bytes = 0;  ///< taken from the system now: what is given back stays reserved
};
/// The driver's counters; throws boot::error without a device.
[[nodiscard]] inline cuda_pool_statistics cuda_pool_use() {
  const auto get = [pool = detail::cuda_pool()](cudaMemPoolAttr name) {
    std::uint64_t value = 0;
    check_cuda(cudaMemPoolGetAttribute(pool, name, &value), "cudaMemPoolGetAttribute");
    return static_cast<std::int64_t>(value);
  };
  return {get(cudaMemPoolAttrUsedMemCurrent), get(cudaMemPoolAttrUsedMemHigh), get(cudaMemPoolAttrReservedMemCurrent)};
}
/// Lets the driver's peak begin anew at what is given out now.
inline void reset_cuda_pool_peak() {
  std::uint64_t zero = 0;
  check_cuda(cudaMemPoolSetAttribute(detail::cuda_pool(), cudaMemPoolAttrUsedMemHigh, &zero),
             "cudaMemPoolSetAttribute");
}

namespace detail {

/// What per_stream() made, by device, stream and type.
struct cuda_stream_objects {
  std::recursive_mutex mutex;  // an object's constructor may ask for another one
  std::map<std::tuple<int, cudaStream_t, std::type_index>, std::shared_ptr<void>> all;

  /// Never destroyed: at the end of the process the driver may be gone before the objects.
  static cuda_stream_objects& instance() {
    static auto& only = *new cuda_stream_objects;
    return only;
  }
  void release(int device, cudaStream_t stream) {
    const std::lock_guard lock(mutex);
    std::erase_if(
        all, [&](const auto& one) { return std::get<0>(one.first) == device && std::get<1>(one.first) == stream; });
  }
};

}  // namespace detail

/// The one T of this device and stream, default-constructed at first use: handles, plans, scratch memory. It lives until
/// its cuda_stream ends; that of a stream made otherwise, or of the default stream, until the process ends.
template <class T>
[[nodiscard]] T& per_stream(const cuda& dev) {
  int device = 0;
  check_cuda(cudaGetDevice(&device), "cudaGetDevice");
  auto& objects = detail::cuda_stream_objects::instance();
  const std::lock_guard lock(objects.mutex);
  auto& place = objects.all[{device, dev.stream, std::type_index(typeid(T))}];
  if (place == nullptr) place = std::make_shared<T>();
  return *static_cast<T*>(place.get());
}

/// Owns a stream of the current device that does not wait for the default stream. Must outlive what is allocated on
/// device(): memory is given back in the order of the stream.
class cuda_stream {
 public:
  cuda_stream() {
    check_cuda(cudaGetDevice(&device_), "cudaGetDevice");
    check_cuda(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
  }
  cuda_stream(cuda_stream&& other) noexcept : device_(other.device_), stream_(std::exchange(other.stream_, nullptr)) {}
  cuda_stream& operator=(cuda_stream&& other) noexcept {
    std::swap(device_, other.device_);
    std::swap(stream_, other.stream_);
    return *this;
  }
  /// Waits for the stream, then releases its per_stream() objects and the stream.
  ~cuda_stream() {
    if (stream_ == nullptr) return;
    static_cast<void>(cudaStreamSynchronize(stream_));
    detail::cuda_stream_objects::instance().release(device_, stream_);
    static_cast<void>(cudaStreamDestroy(stream_));
  }

  /// The device policy that runs on this stream.
  [[nodiscard]] cuda device() const noexcept { return {stream_}; }

 private:
  int device_ = 0;
  cudaStream_t stream_ = nullptr;
};

namespace detail {

struct cuda_scratch {
  static constexpr int slots = 4;
  std::vector<buffer<cuda>> memory[slots];  // the last one is in use; a captured graph may still hold earlier ones
};

/// An event without timing. A thread that waits for it sleeps.
class cuda_event {
 public:
  cuda_event() {
    check_cuda(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming | cudaEventBlockingSync),
               "cudaEventCreateWithFlags");
  }
  cuda_event(cuda_event&& other) noexcept : event_(std::exchange(other.event_, nullptr)) {}
  cuda_event& operator=(cuda_event&& other) noexcept {
    std::swap(event_, other.event_);
    return *this;
  }
  ~cuda_event() {
    if (event_ != nullptr) static_cast<void>(cudaEventDestroy(event_));
  }
  void record(cudaStream_t stream) { check_cuda(cudaEventRecord(event_, stream), "cudaEventRecord"); }
  [[nodiscard]] bool done() {
    const cudaError_t status = cudaEventQuery(event_);
    if (status != cudaErrorNotReady) check_cuda(status, "cudaEventQuery");
    if (status == cudaErrorNotReady) static_cast<void>(cudaGetLastError());
    return status == cudaSuccess;
  }
  void wait() { check_cuda(cudaEventSynchronize(event_), "cudaEventSynchronize"); }

 private:
  cudaEvent_t event_ = nullptr;
};

/// Pinned host memory that copies to the device go through.
struct cuda_staging {
  static constexpr std::size_t capacity = std::size_t{16} << 20, piece = capacity / 4, parts = 256;
  struct unpin {
    void operator()(void* p) const noexcept { static_cast<void>(cudaFreeHost(p)); }
  };
  std::mutex mutex;
  std::unique_ptr<void, unpin> memory{pinned(capacity)};
  staging_ring<cuda_event> ring{capacity, parts};

  static void* pinned(std::size_t bytes) {
    void* p = nullptr;
    check_cuda(cudaMallocHost(&p, bytes), "cudaMallocHost");
    return p;
  }
};

}  // namespace detail

/// Device memory for partial results of one call: valid until the next call with the same slot, 0 to 3. Memory given out
/// once stays until the stream ends, so that a captured graph that uses it can be replayed.
[[nodiscard]] inline void* device_scratch(const cuda& dev, std::size_t bytes, int slot = 0) {
  std::vector<buffer<cuda>>& memory = per_stream<detail::cuda_scratch>(dev).memory[slot];
  if (bytes == 0) return nullptr;
  if (memory.empty() || memory.back().bytes() < bytes) {
    detail::require_no_capture(dev.stream, "scratch memory grows");
    const std::size_t twice =
        memory.empty() ? 0 : 2 * memory.back().bytes();  // what is kept is then at most as much again
    memory.emplace_back(dev, bytes > twice ? bytes : twice);
  }
  return memory.back().data();
}

namespace detail {
inline void enqueue_copy(const cuda& dev, const void* from, void* to, std::size_t bytes) {
  check_cuda(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, dev.stream), "cudaMemcpyAsync");
}
}  // namespace detail

/// Sets `bytes` bytes at `p` to zero.
inline void fill_zero(const cuda& dev, void* p, std::size_t bytes) {
  if (bytes > 0 && detail::enqueues(3, bytes)) check_cuda(cudaMemsetAsync(p, 0, bytes, dev.stream), "cudaMemsetAsync");
}
/// Copies between device addresses that do not overlap.
inline void copy_bytes(const cuda& dev, const void* from, void* to, std::size_t bytes) {
  if (bytes > 0 && detail::enqueues_copy(from, to, bytes)) detail::enqueue_copy(dev, from, to, bytes);
}
/// Host to device; `from` may be reused at return. The host waits for the device only while the 16 MiB of pinned memory
/// between them are full. In a captured step the bytes come from the step's table. In a capture of the caller's own it
/// throws boot::error: a replay would read memory that has other contents by then.
inline void copy_from_host(const cuda& dev, const void* from, void* to, std::size_t bytes) {
  if (bytes == 0) return;
  if (const void* const place = detail::sent_in_place(from, bytes); detail::current_recording != nullptr) {
    if (detail::enqueues(4, bytes)) detail::enqueue_copy(dev, place, to, bytes);
    return;
  }
  detail::require_no_capture(dev.stream, "a copy from the host");
  auto& staging = per_stream<detail::cuda_staging>(dev);
  const std::lock_guard lock(staging.mutex);
  for (std::size_t at = 0; at < bytes; at += staging.piece) {
    const std::size_t size = bytes - at < staging.piece ? bytes - at : staging.piece;
    const auto part = staging.ring.take(size);
    std::byte* const pinned = static_cast<std::byte*>(staging.memory.get()) + part.offset;
    std::memcpy(pinned, static_cast<const std::byte*>(from) + at, size);
    check_cuda(cudaMemcpyAsync(static_cast<std::byte*>(to) + at, pinned, size, cudaMemcpyHostToDevice, dev.stream),
               "cudaMemcpyAsync");
    part.event.record(dev.stream);
  }
}
/// Device to host, waiting for the device. In a captured step it writes zeros: what a replay leaves is known later.
inline void copy_to_host(const cuda& dev, const void* from, void* to, std::size_t bytes) {
  if (detail::current_recording != nullptr) {
    if (bytes == 0) return;
    void* const place = detail::current_recording->receive(to, bytes);
    if (detail::enqueues(4, bytes)) detail::enqueue_copy(dev, from, place, bytes);
    return;
  }
  if (bytes > 0) check_cuda(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, dev.stream), "cudaMemcpyAsync");
  check_cuda(cudaStreamSynchronize(dev.stream), "cudaStreamSynchronize");
}
/// Fills memory with bytes that read as NaN in float, double and bf16.
inline void poison(const cuda& dev, void* p, std::size_t bytes) {
  if (bytes > 0 && detail::enqueues(5, bytes))
    check_cuda(cudaMemsetAsync(p, 0xff, bytes, dev.stream), "cudaMemsetAsync");
}
/// Waits until everything enqueued on `dev` is done; throws boot::error when something failed. A captured step has
/// nothing to wait for.
inline void synchronize(const cuda& dev) {
  if (detail::current_recording == nullptr) check_cuda(cudaStreamSynchronize(dev.stream), "cudaStreamSynchronize");
}

/// What a stream captured, ready to be launched again: one CUDA graph.
class cuda_graph {
 public:
  /// Takes a captured graph over and makes it executable; throws boot::error when it cannot be.
  explicit cuda_graph(cudaGraph_t captured) {
    const cudaError_t status = cudaGraphInstantiate(&executable_, captured, 0);
    static_cast<void>(cudaGraphDestroy(captured));
    check_cuda(status, "cudaGraphInstantiate");
  }
  cuda_graph(cuda_graph&& other) noexcept : executable_(std::exchange(other.executable_, nullptr)) {}
  cuda_graph& operator=(cuda_graph&& other) noexcept {
    std::swap(executable_, other.executable_);
    return *this;
  }
  ~cuda_graph() {
    if (executable_ != nullptr) static_cast<void>(cudaGraphExecDestroy(executable_));
  }
  /// Enqueues everything captured, as one launch.
  void replay(const cuda& dev) const { check_cuda(cudaGraphLaunch(executable_, dev.stream), "cudaGraphLaunch"); }

 private:
  cudaGraphExec_t executable_ = nullptr;
};

/// Capture on boot::cuda; the default stream cannot be captured, see cuda_stream.
template <>
struct capture_support<cuda> {
  static constexpr bool available = true;  ///< yes
  using graph = cuda_graph;                ///< what is replayed

  /// An event of a stream.
  class event {
   public:
    /// Behind what was enqueued so far.
    void record(const cuda& dev) { event_.record(dev.stream); }
    /// Whether the device is past it.
    [[nodiscard]] bool done() { return event_.done(); }
    /// Until then.
    void wait() { event_.wait(); }

   private:
    detail::cuda_event event_;
  };
  /// Pinned memory, which kernels write to by the same address.
  class host_memory {
   public:
    explicit host_memory(std::size_t bytes) : memory_(detail::cuda_staging::pinned(bytes)) {}
    /// First byte.
    [[nodiscard]] void* data() const noexcept { return memory_.get(); }

   private:
    std::unique_ptr<void, detail::cuda_staging::unpin> memory_;
  };

  /// Whether the stream can be captured.
  [[nodiscard]] static bool possible(const cuda& dev) noexcept { return dev.stream != nullptr; }
  /// From here on calls of this thread are kept instead of run.
  static void begin(const cuda& dev) {
    check_cuda(cudaStreamBeginCapture(dev.stream, cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture");
  }
  /// What was captured.
  [[nodiscard]] static graph end(const cuda& dev) {
    cudaGraph_t captured = nullptr;
    check_cuda(cudaStreamEndCapture(dev.stream, &captured), "cudaStreamEndCapture");
    return graph(captured);
  }
  /// Ends a capture that failed.
  static void abandon(const cuda& dev) noexcept {
    cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
    if (cudaStreamIsCapturing(dev.stream, &status) == cudaSuccess && status == cudaStreamCaptureStatusNone) return;
    cudaGraph_t captured = nullptr;
    static_cast<void>(cudaStreamEndCapture(dev.stream, &captured));
    if (captured != nullptr) static_cast<void>(cudaGraphDestroy(captured));
    static_cast<void>(cudaGetLastError());
  }
};

}  // namespace boot::inline v0
