// Channel-wise maxima and minima of pages of keys (calls/page-bounds.ts). One warp a page and 256 channels: a lane keeps
// 8 channels of every n-th key, and lanes with the same channels join at the end.
#include <cuda_bf16.h>

#include "launch.h"

namespace {

using namespace kvt;

constexpr int kWarps = 8;
constexpr int kLaneChannels = 8;

struct PageBounds {
  const uint8_t* keys;
  const uint32_t* pages;
  uint8_t* bounds;
  int64_t from, to, page_stride, page_bytes, bound_stride, first_page, page_count;
  int page_tokens, dim;
};

// Eight channels of a key.
using Channels = uint4;

template <bool highest>
__device__ __forceinline__ uint32_t extreme(uint32_t a, uint32_t b) {
  const __nv_bfloat162 x = reinterpret_cast<const __nv_bfloat162&>(a);
  const __nv_bfloat162 y = reinterpret_cast<const __nv_bfloat162&>(b);
  const __nv_bfloat162 z = highest ? __hmax2(x, y) : __hmin2(x, y);
  return reinterpret_cast<const uint32_t&>(z);
}

template <bool highest>
__device__ __forceinline__ Channels extreme(const Channels& a, const Channels& b) {
  return make_uint4(extreme<highest>(a.x, b.x), extreme<highest>(a.y, b.y), extreme<highest>(a.z, b.z),
                    extreme<highest>(a.w, b.w));
}

__device__ __forceinline__ Channels from_lane(const Channels& mine, int lane) {
  return make_uint4(__shfl_sync(~0u, mine.x, lane), __shfl_sync(~0u, mine.y, lane), __shfl_sync(~0u, mine.z, lane),
                    __shfl_sync(~0u, mine.w, lane));
}

__global__ void __launch_bounds__(32 * kWarps) bound_pages(const PageBounds p) {
  begin_kernel();
  const int64_t at = static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / 32;
  if (at >= p.page_count) return;
  const int64_t row = blockIdx.y;
  const int64_t page = p.first_page + at;
  const int64_t start = page * p.page_tokens;
  const int begin = p.from > start ? static_cast<int>(p.from - start) : 0;
  const int end = p.to - start < p.page_tokens ? static_cast<int>(p.to - start) : p.page_tokens;
  const int64_t entry = row * p.page_stride + page;
  const uint8_t* keys = p.keys + (p.pages == nullptr ? entry : p.pages[entry]) * p.page_bytes;
  uint8_t* bounds = p.bounds + (row * p.bound_stride + page) * 4 * p.dim;
  const int lane = threadIdx.x & 31;
  for (int slab = 0; slab < p.dim; slab += 32 * kLaneChannels) {
    const int lanes = min(32, (p.dim - slab) / kLaneChannels);  // that hold one key
    const int together = 32 / lanes;
    const int mine = lane / lanes;
    const int64_t channel = slab + lane % lanes * kLaneChannels;
    const int key = begin + (mine < together ? mine : 0);
    const auto load = [=](int token) {
      return *reinterpret_cast<const Channels*>(keys + (static_cast<int64_t>(token) * p.dim + channel) * 2);
    };
    Channels most = load(min(key, end - 1));
    Channels least = most;
#pragma unroll 8
    for (int token = key + together; token < end; token += together) {
      const Channels next = load(token);
      most = extreme<true>(most, next);
      least = extreme<false>(least, next);
    }
    for (int other = 1; other < together; other++) {
      const int source = (lane % lanes + other * lanes) & 31;
      const Channels high = from_lane(most, source);
      const Channels low = from_lane(least, source);
      if (mine != 0) continue;
      most = extreme<true>(most, high);
      least = extreme<false>(least, low);
    }
    if (mine != 0) continue;
    Channels* high = reinterpret_cast<Channels*>(bounds + channel * 2);
    Channels* low = reinterpret_cast<Channels*>(bounds + (channel + p.dim) * 2);
    *high = begin > 0 ? extreme<true>(most, *high) : most;
    *low = begin > 0 ? extreme<false>(least, *low) : least;
  }
}

kvt_status page_bounds(const CudaCall& call) {
  PageBounds p{};
  const int64_t rows = call.integer(KVT_PAGE_BOUNDS_INT_ROWS);
  p.keys = call.at<const uint8_t>(KVT_PAGE_BOUNDS_REF_KEYS);
  p.pages = call.at<const uint32_t>(KVT_PAGE_BOUNDS_REF_PAGES);
  p.bounds = call.at<uint8_t>(KVT_PAGE_BOUNDS_REF_BOUNDS);
  p.from = call.integer(KVT_PAGE_BOUNDS_INT_FROM);
  p.to = call.integer(KVT_PAGE_BOUNDS_INT_TO);
  p.page_tokens = static_cast<int>(call.integer(KVT_PAGE_BOUNDS_INT_PAGE_TOKENS));
  p.dim = static_cast<int>(call.integer(KVT_PAGE_BOUNDS_INT_HEAD_DIM));
  p.page_stride = call.integer(KVT_PAGE_BOUNDS_INT_PAGE_STRIDE);
  p.page_bytes = call.integer(KVT_PAGE_BOUNDS_INT_PAGE_BYTES);
  p.bound_stride = call.integer(KVT_PAGE_BOUNDS_INT_BOUND_STRIDE);
  if (rows < 1 || rows > 65535 || p.from < 0 || p.to <= p.from || p.page_tokens < 1)
    return fail(KVT_INVALID, "page-bounds: expected rows 1 to 65535, 0 <= from < to and pageTokens 1 or more");
  if (p.dim < 8 || p.dim % 8 != 0 || p.page_bytes % 16 != 0)
    return fail(KVT_INVALID, "page-bounds: expected headDim a multiple of 8 and pageBytes of 16");
  p.first_page = p.from / p.page_tokens;
  p.page_count = (p.to + p.page_tokens - 1) / p.page_tokens - p.first_page;
  const dim3 grid(static_cast<unsigned>((p.page_count + kWarps - 1) / kWarps), static_cast<unsigned>(rows));
  launch_kernel(call, bound_pages, {grid, 32 * kWarps}, p);
  return after_launch("page-bounds");
}

KVT_CUDA_KERNEL(KVT_PAGE_BOUNDS, page_bounds);

}  // namespace
