// WG-KV's admission (calls/ring-to-page.ts).
#include <cstring>

#include "kernel.h"

namespace {

using namespace kvt;

kvt_status ring_to_page(const CpuCall& call) {
  const int64_t rows = call.integer(KVT_RING_TO_PAGE_INT_ROWS);
  const int64_t slot = call.integer(KVT_RING_TO_PAGE_INT_SLOT);
  const int64_t window = call.integer(KVT_RING_TO_PAGE_INT_WINDOW);
  const int64_t page_tokens = call.integer(KVT_RING_TO_PAGE_INT_PAGE_TOKENS);
  const int64_t row_bytes = 2 * call.integer(KVT_RING_TO_PAGE_INT_HEAD_DIM);
  const int64_t page_bytes = call.integer(KVT_RING_TO_PAGE_INT_PAGE_BYTES);
  const int64_t table_stride = call.integer(KVT_RING_TO_PAGE_INT_TABLE_STRIDE);
  if (rows < 1 || page_tokens < 1 || slot < 0 || slot >= window)
    return fail(KVT_INVALID, "ring-to-page: expected rows and pageTokens 1 or more and 0 <= slot < window");
  char* pool = call.at<char>(KVT_RING_TO_PAGE_REF_POOL);
  const uint32_t* ring = call.at<const uint32_t>(KVT_RING_TO_PAGE_REF_RING);
  const uint8_t* flags = call.at<const uint8_t>(KVT_RING_TO_PAGE_REF_FLAGS);
  const uint32_t* table = call.at<const uint32_t>(KVT_RING_TO_PAGE_REF_TABLE);
  uint32_t* counts = call.at<uint32_t>(KVT_RING_TO_PAGE_REF_COUNTS);
  const int64_t ring_pages = (window + page_tokens - 1) / page_tokens;
  const auto place = [=](uint32_t page, int64_t token) {
    return pool + page * page_bytes + token % page_tokens * row_bytes;
  };
  for (int64_t row = 0; row < rows; row++) {
    if (flags[row * window + slot] != 1) continue;
    const int64_t token = counts[row]++;
    const char* source = place(ring[row * ring_pages + slot / page_tokens], slot);
    char* target = place(table[row * table_stride + token / page_tokens], token);
    for (const int64_t half : {int64_t{0}, page_tokens * row_bytes}) std::memcpy(target + half, source + half, row_bytes);
  }
  return KVT_OK;
}

KVT_CPU_KERNEL(KVT_RING_TO_PAGE, ring_to_page);

}  // namespace
