// ParisKV's rotation and code on the processor; paris.ts has the formulas.
#ifndef KVTIER_CPU_PARIS_H
#define KVTIER_CPU_PARIS_H

#include <cmath>
#include <utility>
#include <vector>

#include "halves.h"
#include "kernel.h"

namespace kvt {
namespace {

constexpr int64_t kSubspace = 8;
constexpr int64_t kPatterns = 256;
constexpr float kCentres[8] = {0.042f, 0.1266f, 0.213f, 0.3025f, 0.3973f, 0.5001f, 0.6169f, 0.7633f};

inline int64_t padded_dim(int64_t head_dim) {
  int64_t dim = kSubspace;
  while (dim < head_dim) dim *= 2;
  return dim;
}

// Multiplies by the signs and transforms, scaled by 1 / sqrt(dim).
inline void rotate(std::vector<float>& x, const float* signs) {
  const int64_t dim = static_cast<int64_t>(x.size());
  for (int64_t c = 0; c < dim; c++) x[c] *= signs[c];
  for (int64_t half = 1; half < dim; half *= 2)
    for (int64_t i = 0; i < dim; i += 2 * half)
      for (int64_t j = i; j < i + half; j++) {
        const float a = x[j], b = x[j + half];
        x[j] = a + b;
        x[j + half] = a - b;
      }
  const float scale = 1 / std::sqrt(static_cast<float>(dim));
  for (float& value : x) value *= scale;
}

// The mean of a row's queries [group, head_dim], rotated.
[[maybe_unused]] inline std::vector<float> rotated_query(const uint16_t* queries, int64_t group, int64_t head_dim,
                                                         const float* signs) {
  std::vector<float> x(padded_dim(head_dim));
  for (int64_t g = 0; g < group; g++)
    for (int64_t c = 0; c < head_dim; c++) x[c] += of_bf16(queries[g * head_dim + c]) / static_cast<float>(group);
  rotate(x, signs);
  return x;
}

}  // namespace
}  // namespace kvt

#endif
