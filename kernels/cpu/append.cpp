// New K and V rows into pages on the CPU; arguments in calls/append.ts.
#include <cstring>

#include "kernel.h"

namespace {

using namespace kvt;

kvt_status append(const CpuCall& call) {
  const int64_t rows = call.integer(KVT_APPEND_INT_ROWS);
  const int64_t row_bytes = 2 * call.integer(KVT_APPEND_INT_HEAD_DIM);
  const int64_t tokens = call.integer(KVT_APPEND_INT_PAGE_TOKENS);
  const int64_t stride = call.integer(KVT_APPEND_INT_PAGE_STRIDE);
  if (rows < 1 || row_bytes < 2 || tokens < 1 || stride < 2 * tokens * row_bytes)
    return fail(KVT_INVALID, "append: rows, headDim and pageTokens must be 1 or more, pageStride at least a page");
  const uint8_t* k = call.at<const uint8_t>(KVT_APPEND_REF_K);
  const uint8_t* v = call.at<const uint8_t>(KVT_APPEND_REF_V);
  const uint32_t* slots = call.at<const uint32_t>(KVT_APPEND_REF_SLOTS);
  uint8_t* pool = call.at<uint8_t>(KVT_APPEND_REF_POOL);
  for (int64_t row = 0; row < rows; row++)
    if (slots[row] != ~0u &&
        (slots[row] / tokens + 1) * stride > static_cast<int64_t>(call.bytes[KVT_APPEND_REF_POOL]))
      return fail(KVT_INVALID, "append: slot %u of row %lld is past the pool", slots[row], static_cast<long long>(row));
  call.threads.run(rows, [&](int64_t from, int64_t to) {
    for (int64_t row = from; row < to; row++) {
      if (slots[row] == ~0u) continue;
      uint8_t* at = pool + slots[row] / tokens * stride + slots[row] % tokens * row_bytes;
      std::memcpy(at, k + row * row_bytes, row_bytes);
      std::memcpy(at + tokens * row_bytes, v + row * row_bytes, row_bytes);
    }
  });
  return KVT_OK;
}

KVT_CPU_KERNEL(KVT_APPEND, append);

}  // namespace
