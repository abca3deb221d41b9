// How many blocks share a row where each row has its own.
#ifndef KVTIER_CUDA_ROW_SPLIT_H
#define KVTIER_CUDA_ROW_SPLIT_H

#include <algorithm>

#include "kernel.h"

namespace kvt {

// Blocks for a row, at most `wanted`: as many as find their place at once, `resident` on a multiprocessor. Where that would
// leave many places empty, blocks for several rounds, the last of which is a small part of all.
inline unsigned blocks_for_row(const CudaCall& call, int64_t rows, int64_t wanted, int resident) {
  constexpr int kRounds = 4;
  const int64_t places = static_cast<int64_t>(resident) * call.multiprocessors;
  const int64_t whole = places / rows;
  const int64_t most = whole * rows * 10 >= places * 8 ? whole : (kRounds * places + rows - 1) / rows;
  return static_cast<unsigned>(std::clamp<int64_t>(wanted, 1, most));
}

}  // namespace kvt
#endif
