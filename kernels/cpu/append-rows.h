// New K and V rows into the pages of a pool, by `append` and by `attend` before it reads them.
#ifndef KVTIER_CPU_APPEND_ROWS_H
#define KVTIER_CPU_APPEND_ROWS_H

#include <cstring>

#include "kernel.h"

namespace kvt {
// Compiled once a level: internal linkage, so that the linker can't mix levels.
namespace {

struct NewRows {
  const uint8_t* k;
  const uint8_t* v;
  const uint32_t* slots;
};

struct NewRowsShape {
  int64_t rows, row_bytes, page_tokens, page_stride;
};

kvt_status append_rows(const CpuCall& call, const char* name, const NewRows& from, uint8_t* pool, uint64_t pool_bytes,
                       const NewRowsShape& shape) {
  const int64_t rows = shape.rows, row_bytes = shape.row_bytes, tokens = shape.page_tokens, stride = shape.page_stride;
  for (int64_t row = 0; row < rows; row++)
    if (from.slots[row] != ~0u && (from.slots[row] / tokens + 1) * stride > static_cast<int64_t>(pool_bytes))
      return fail(KVT_INVALID, "%s: slot %u of row %lld is past the pool", name, from.slots[row],
                  static_cast<long long>(row));
  call.threads.run(rows, [&](int64_t first, int64_t last) {
    for (int64_t row = first; row < last; row++) {
      if (from.slots[row] == ~0u) continue;
      uint8_t* const at = pool + from.slots[row] / tokens * stride + from.slots[row] % tokens * row_bytes;
      std::memcpy(at, from.k + row * row_bytes, row_bytes);
      std::memcpy(at + tokens * row_bytes, from.v + row * row_bytes, row_bytes);
    }
  });
  return KVT_OK;
}

}  // namespace
}  // namespace kvt

#endif
