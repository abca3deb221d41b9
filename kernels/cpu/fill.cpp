// Fills of buffers with seeded random numbers. Value i depends on (seed, i) alone (SplitMix64 as a counter-based
// generator: Steele, Lea, Flood, OOPSLA 2014), so threads may fill any part.
#include <cmath>
#include <cstring>

#include "halves.h"
#include "machine.h"

namespace kvt {
namespace {

uint64_t mix(uint64_t seed, uint64_t i) {
  uint64_t z = seed + (i + 1) * 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

constexpr int kCells = 4096;

// Quantiles of the standard normal at (i + 1/2) / (kCells + 1), by bisection of erfc; in between the fill interpolates.
struct Quantiles {
  float at[kCells + 1];
  Quantiles() {
    for (int i = 0; i <= kCells; i++) {
      const double p = (i + 0.5) / (kCells + 1);
      double low = -8, high = 8;
      for (int step = 0; step < 50; step++) {
        const double middle = 0.5 * (low + high);
        (0.5 * std::erfc(-middle * M_SQRT1_2) < p ? low : high) = middle;
      }
      at[i] = static_cast<float>(low);
    }
  }
};

const Quantiles& quantiles() {
  static const Quantiles table;
  return table;
}

float normal(const Quantiles& table, uint64_t seed, uint64_t i) {
  const uint64_t word = mix(seed, i >> 1);
  const uint32_t bits = static_cast<uint32_t>(i & 1 ? word >> 32 : word);
  const float* cell = table.at + (bits >> 20);
  return cell[0] + (cell[1] - cell[0]) * (static_cast<float>(bits & 0xfffff) * 0x1p-20f);
}

template <typename T, typename Value>
void fill_elements(void* to, uint64_t bytes, uint64_t first, Threads& threads, const Value& value) {
  T* out = static_cast<T*>(to);
  const uint64_t from_element = first / sizeof(T);
  threads.run(static_cast<int64_t>(bytes / sizeof(T)), [&](int64_t from, int64_t end) {
    for (int64_t i = from; i < end; i++) out[i] = value(from_element + static_cast<uint64_t>(i));
  });
}

}  // namespace

void fill_memory(void* to, uint64_t bytes, int32_t kind, uint64_t seed, uint64_t first, Threads& threads) {
  const Quantiles& table = quantiles();
  const auto draw = [&](uint64_t i) { return normal(table, seed, i); };
  switch (kind) {
    case KVT_NORMAL_F32: return fill_elements<float>(to, bytes, first, threads, draw);
    case KVT_NORMAL_BF16:
      return fill_elements<uint16_t>(to, bytes, first, threads, [&](uint64_t i) { return bf16_of(draw(i)); });
    case KVT_NORMAL_F16:
      return fill_elements<uint16_t>(to, bytes, first, threads, [&](uint64_t i) { return f16_of(draw(i)); });
    case KVT_BYTES:
      return fill_elements<uint8_t>(to, bytes, first, threads, [&](uint64_t i) {
        return static_cast<uint8_t>(mix(seed, i >> 3) >> (8 * (i & 7)));
      });
    default: {
      const uint8_t value = kind == KVT_POISON ? 0xff : 0;
      threads.run(static_cast<int64_t>(bytes), [&](int64_t from, int64_t end) {
        std::memset(static_cast<char*>(to) + from, value, static_cast<size_t>(end - from));
      });
    }
  }
}

}  // namespace kvt
