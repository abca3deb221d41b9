// Channel-wise maxima and minima of pages of keys (calls/page-bounds.ts).
#include <algorithm>
#include <vector>

#include "halves.h"
#include "kernel.h"

namespace {

using namespace kvt;

kvt_status page_bounds(const CpuCall& call) {
  const int64_t rows = call.integer(KVT_PAGE_BOUNDS_INT_ROWS);
  const int64_t from = call.integer(KVT_PAGE_BOUNDS_INT_FROM);
  const int64_t to = call.integer(KVT_PAGE_BOUNDS_INT_TO);
  const int64_t page_tokens = call.integer(KVT_PAGE_BOUNDS_INT_PAGE_TOKENS);
  const int64_t dim = call.integer(KVT_PAGE_BOUNDS_INT_HEAD_DIM);
  const int64_t page_stride = call.integer(KVT_PAGE_BOUNDS_INT_PAGE_STRIDE);
  const int64_t page_bytes = call.integer(KVT_PAGE_BOUNDS_INT_PAGE_BYTES);
  const int64_t bound_stride = call.integer(KVT_PAGE_BOUNDS_INT_BOUND_STRIDE);
  if (rows < 1 || from < 0 || to <= from || page_tokens < 1 || dim < 1)
    return fail(KVT_INVALID, "page-bounds: expected rows, pageTokens and headDim 1 or more and 0 <= from < to");
  const char* keys = call.at<const char>(KVT_PAGE_BOUNDS_REF_KEYS);
  const uint32_t* pages = call.at<const uint32_t>(KVT_PAGE_BOUNDS_REF_PAGES);
  uint16_t* bounds = call.at<uint16_t>(KVT_PAGE_BOUNDS_REF_BOUNDS);
  const int64_t first = from / page_tokens;
  const int64_t count = (to + page_tokens - 1) / page_tokens - first;
  call.threads.run(rows * count, [&](int64_t begin, int64_t end) {
    std::vector<float> most(dim), least(dim);
    for (int64_t at = begin; at < end; at++) {
      const int64_t row = at / count;
      const int64_t page = first + at % count;
      const int64_t entry = row * page_stride + page;
      const auto* key = reinterpret_cast<const uint16_t*>(keys + (pages == nullptr ? entry : pages[entry]) * page_bytes);
      uint16_t* out = bounds + (row * bound_stride + page) * 2 * dim;
      int64_t token = std::max<int64_t>(from - page * page_tokens, 0);
      const int64_t last = std::min(to - page * page_tokens, page_tokens);
      widen(token > 0 ? out : key, dim, most.data());
      widen(token > 0 ? out + dim : key, dim, least.data());
      for (; token < last; token++)
        for (int64_t c = 0; c < dim; c++) {
          const float value = of_bf16(key[token * dim + c]);
          most[c] = std::max(most[c], value);
          least[c] = std::min(least[c], value);
        }
      for (int64_t c = 0; c < dim; c++) {
        out[c] = bf16_of(most[c]);
        out[dim + c] = bf16_of(least[c]);
      }
    }
  });
  return KVT_OK;
}

KVT_CPU_KERNEL(KVT_PAGE_BOUNDS, page_bounds);

}  // namespace
