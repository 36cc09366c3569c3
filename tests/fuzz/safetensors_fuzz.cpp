// SPDX-License-Identifier: MIT
/// Fuzz target of the safetensors reader. Whatever the bytes are, the reader either throws boot::error or hands out
/// tensors that lie in the file; what it accepts is written again and must read back equal.
///
/// With libFuzzer: clang++ -fsanitize=fuzzer,address -DBOOT_LIBFUZZER=1. Without: a plain program over files given as
/// arguments, over the built-in seeds when there are none; `--write-seeds FOLDER` makes a first corpus.
#include "safetensors_seeds.hpp"

#include <boot/io/safetensors.hpp>

#include <cstdio>
#include <cstdlib>
#include <optional>

namespace {

void demand(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "safetensors_fuzz: %s\n", what);
  std::abort();
}

void one_input(std::span<const std::byte> input) {
  std::optional<boot::safetensors_file> opened;
  try {
    opened = boot::safetensors_file::from_bytes(input, "input");
  } catch (const boot::error&) {  // the only exception there may be
    return;
  }
  const boot::safetensors_file& file = *opened;
  std::vector<boot::safetensors_entry> entries;
  std::uint64_t total = 0;
  for (const auto& t : file.tensors()) {
    demand(file.find(t.name) == &t, "find() does not find a tensor that is there");
    demand(t.bytes.empty() ||
               (t.bytes.data() >= input.data() && t.bytes.data() + t.bytes.size() <= input.data() + input.size()),
           "a tensor lies outside the file");
    for (const std::byte b : t.bytes) total += static_cast<unsigned>(b);  // touches every byte
    try {
      static_cast<void>(file.read_floats(t.name));
    } catch (const boot::error&) {  // integers, and doubles beyond float
    }
    if (t.dtype == boot::file_dtype::u8) static_cast<void>(file.read<std::uint8_t>(t.name));
    entries.push_back({t.name, t.dtype, t.shape, t.bytes, false});
  }
  demand(total <= 255 * input.size(), "bytes are counted twice");
  const std::string again = boot::safetensors_bytes(entries, file.metadata());
  const auto second = boot::safetensors_file::from_bytes(std::as_bytes(std::span(again)), "written again");
  demand(second.metadata() == file.metadata(), "metadata changed on the way");
  demand(second.tensors().size() == file.tensors().size(), "tensors were lost");
  for (const auto& t : file.tensors()) {
    const auto* u = second.find(t.name);
    demand(u != nullptr && u->dtype == t.dtype && u->shape == t.shape && u->bytes.size() == t.bytes.size() &&
               (t.bytes.empty() || std::memcmp(u->bytes.data(), t.bytes.data(), t.bytes.size()) == 0),
           "a tensor changed on the way");
  }
}

}  // namespace

#if defined(BOOT_LIBFUZZER)

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  one_input(std::as_bytes(std::span(data, size)));
  return 0;
}

#else

int main(int count, char** arguments) {
  if (count == 3 && std::string_view(arguments[1]) == "--write-seeds") {
    for (const auto& s : boot_fuzz::seeds())
      boot::atomic_write_file(std::string(arguments[2]) + "/" + s.name + ".safetensors", std::string_view(s.bytes));
    return 0;
  }
  for (int i = 1; i < count; ++i) {
    const std::string bytes = boot::read_file(arguments[i]);
    one_input(std::as_bytes(std::span(bytes)));
  }
  if (count == 1)
    for (const auto& s : boot_fuzz::seeds()) one_input(std::as_bytes(std::span(s.bytes)));
  std::printf("safetensors_fuzz: %d files read\n",
              count == 1 ? static_cast<int>(boot_fuzz::seeds().size()) : count - 1);
  return 0;
}

#endif
