// Rows of bf16 that lie in pieces of a pool, as the calls that read keys say where they are (calls/dot-score.ts).
#ifndef KVTIER_CPU_PIECES_H
#define KVTIER_CPU_PIECES_H

#include <cstdint>

namespace kvt {

struct Pieces {
  const char* base;
  const uint32_t* places;  // null: piece p of a row is row * stride + p
  int64_t vectors, stride, bytes;

  // Vector i of a row, of `dim` channels.
  const uint16_t* at(int64_t row, int64_t i, int64_t dim) const {
    const int64_t piece = row * stride + i / vectors;
    const int64_t place = places == nullptr ? piece : places[piece];
    return reinterpret_cast<const uint16_t*>(base + place * bytes) + i % vectors * dim;
  }
};

}  // namespace kvt

#endif
