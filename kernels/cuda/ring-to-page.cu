// WG-KV's admission (calls/ring-to-page.ts): a warp a row.
#include "launch.h"

namespace {

using namespace kvt;

constexpr int kWarps = 8;

struct Admission {
  uint8_t* pool;
  const uint32_t* ring;
  const uint8_t* flags;
  const uint32_t* table;
  uint32_t* counts;
  int64_t rows, page_bytes, table_stride, row_bytes;
  int slot, window, page_tokens;
  bool next_ahead;
};

__global__ void __launch_bounds__(32 * kWarps) admit(const Admission p) {
  begin_kernel(p.next_ahead);
  const int64_t row = static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / 32;
  if (row >= p.rows || p.flags[row * p.window + p.slot] != 1) return;
  const int lane = threadIdx.x & 31;
  const int ring_pages = (p.window + p.page_tokens - 1) / p.page_tokens;
  const uint32_t token = p.counts[row];
  const auto place = [&](uint32_t page, uint32_t at) { return page * p.page_bytes + at % p.page_tokens * p.row_bytes; };
  const uint8_t* source = p.pool + place(p.ring[row * ring_pages + p.slot / p.page_tokens], p.slot);
  uint8_t* target = p.pool + place(p.table[row * p.table_stride + token / p.page_tokens], token);
  for (int half = 0; half < 2; half++) {
    const int64_t from = half * p.page_tokens * p.row_bytes;
    for (int64_t at = lane * 16; at < p.row_bytes; at += 32 * 16)
      *reinterpret_cast<uint4*>(target + from + at) = *reinterpret_cast<const uint4*>(source + from + at);
  }
  __syncwarp();
  if (lane == 0) p.counts[row] = token + 1;
}

kvt_status ring_to_page(const CudaCall& call) {
  Admission p{};
  p.pool = call.at<uint8_t>(KVT_RING_TO_PAGE_REF_POOL);
  p.ring = call.at<const uint32_t>(KVT_RING_TO_PAGE_REF_RING);
  p.flags = call.at<const uint8_t>(KVT_RING_TO_PAGE_REF_FLAGS);
  p.table = call.at<const uint32_t>(KVT_RING_TO_PAGE_REF_TABLE);
  p.counts = call.at<uint32_t>(KVT_RING_TO_PAGE_REF_COUNTS);
  p.rows = call.integer(KVT_RING_TO_PAGE_INT_ROWS);
  p.slot = static_cast<int>(call.integer(KVT_RING_TO_PAGE_INT_SLOT));
  p.window = static_cast<int>(call.integer(KVT_RING_TO_PAGE_INT_WINDOW));
  p.page_tokens = static_cast<int>(call.integer(KVT_RING_TO_PAGE_INT_PAGE_TOKENS));
  p.row_bytes = 2 * call.integer(KVT_RING_TO_PAGE_INT_HEAD_DIM);
  p.page_bytes = call.integer(KVT_RING_TO_PAGE_INT_PAGE_BYTES);
  p.next_ahead = call.next_ahead;
  p.table_stride = call.integer(KVT_RING_TO_PAGE_INT_TABLE_STRIDE);
  if (p.rows < 1 || p.page_tokens < 1 || p.slot < 0 || p.slot >= p.window)
    return fail(KVT_INVALID, "ring-to-page: expected rows and pageTokens 1 or more and 0 <= slot < window");
  if (p.row_bytes < 16 || p.row_bytes % 16 != 0 || p.page_bytes % 16 != 0 || reinterpret_cast<uintptr_t>(p.pool) % 16 != 0)
    return fail(KVT_INVALID, "ring-to-page: expected headDim a multiple of 8, pageBytes and pool of 16");
  launch_kernel(call, admit, {static_cast<unsigned>((p.rows + kWarps - 1) / kWarps), 32 * kWarps}, p);
  return after_launch("ring-to-page");
}

KVT_CUDA_KERNEL_AHEAD(KVT_RING_TO_PAGE, ring_to_page);

}  // namespace
