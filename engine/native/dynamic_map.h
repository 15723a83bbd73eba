// The 256 numbers between -1 (or 0) and 1 that eight-bit values stand for (Dettmers et al. 2021, arXiv:2110.02861), as
// bitsandbytes' create_dynamic_map has them: seven decades, each twice as fine as the one below it.
#pragma once
#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>

namespace ft {

using DynamicMap = std::array<float, 256>;

inline DynamicMap dynamic_map(bool is_signed) {
  DynamicMap map{};
  size_t count = 0;
  for (int decade = 0; decade < 7; decade++) {
    const int items = (is_signed ? 1 : 2) << decade;
    const float size = float(std::pow(10.0, decade - 6));
    // Bounds as torch.linspace counts them: from both ends, with one rounding.
    const double step = (1.0f - 0.1f) / float(items);
    const auto bound = [&](int i) { return float(i < (items + 1) / 2 ? 0.1f + step * i : 1.0 - step * (items - i)); };
    for (int i = 0; i < items; i++) {
      const float mean = (bound(i) + bound(i + 1)) / 2.0f;
      map[count++] = size * mean;
      if (is_signed) map[count++] = -size * mean;
    }
  }
  map[count++] = 0.0f;
  map[count++] = 1.0f;
  std::sort(map.begin(), map.end());
  return map;
}

}  // namespace ft
