// Rows of bf16 that lie in pieces of a pool, as the calls that read keys say where they are (calls/dot-score.ts).
#ifndef KVTIER_CUDA_PIECES_H
#define KVTIER_CUDA_PIECES_H

#include <cuda_bf16.h>

#include "kernel.h"

namespace kvt {

struct Pieces {
  const uint8_t* base;
  const uint32_t* places;  // null: piece p of a row is row * stride + p
  int64_t vectors, stride, bytes;

  // Vector i of a row, of `dim` channels.
  __device__ __forceinline__ const __nv_bfloat16* at(int64_t row, int64_t i, int dim) const {
    // One piece a row is common, and 64-bit divisions are slow.
    const int64_t within = i < vectors ? 0 : i / vectors;
    const int64_t piece = row * stride + within;
    const int64_t place = places == nullptr ? piece : places[piece];
    return reinterpret_cast<const __nv_bfloat16*>(base + place * bytes) + (i - within * vectors) * dim;
  }
};

}  // namespace kvt
#endif
