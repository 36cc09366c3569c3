// SPDX-License-Identifier: MIT
// The host compiler's side: the same types must have the same layouts in all three files.
#include "layouts.hpp"

#include <cstdio>

int main() {
  const layout_list here = layouts;
  if (here != layouts_in_first() || here != layouts_in_second()) {
    const layout_list there = layouts_in_first();
    for (std::size_t i = 0; i < here.size(); ++i)
      if (here[i] != there[i]) std::printf("type %zu: %zu in .cpp, %zu in .cu\n", i / 2, here[i], there[i]);
    return 1;
  }
  std::printf("%zu types have the same layout in .cpp and .cu\n", here.size() / 2);
  const int first = launch_in_first(), second = launch_in_second();
  std::puts(first < 0 ? "no device: nothing launched" : "launched from two files");
  return first > 0 || second > 0 ? 1 : 0;
}
