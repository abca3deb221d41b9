// Coding into pages of non-uniform codes (calls/nuq-encode.ts): a warp a token, which lays out codes in shared memory.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "../nuq.h"
#include "launch.h"

namespace {

using namespace kvt;

constexpr int kWarps = 4;
constexpr int kMostChannels = 8;  // of a lane
constexpr int kMostPlaces = 4;
constexpr unsigned kAllLanes = ~0u;

struct NuqEncode {
  const __nv_bfloat16* source;
  const __half* books;
  const uint32_t* slots;
  uint8_t* target;
  int64_t tokens, count, stride;
  NuqPage page;
};

__device__ __forceinline__ float sum_of(float x) {
  for (int by = 16; by > 0; by /= 2) x += __shfl_xor_sync(kAllLanes, x, by);
  return x;
}
__device__ __forceinline__ float most_of(float x) {
  for (int by = 16; by > 0; by /= 2) x = fmaxf(x, __shfl_xor_sync(kAllLanes, x, by));
  return x;
}

__device__ __forceinline__ uint32_t nearest(const __half* levels, int count, float x) {
  int best = 0;
  for (int level = 1; level < count; level++)
    if (fabsf(__half2float(levels[level]) - x) < fabsf(__half2float(levels[best]) - x)) best = level;
  return best;
}

// One row of a token, channel c in lane c % 32: numbers, what is left of them by their codes, and which are outliers.
struct Row {
  float x[kMostChannels], rest[kMostChannels], far[kMostChannels];
  int own;  // channels of a lane

  // The furthest channel that is left, by the order of channels where some are as far; -1 where none is above `bound`.
  __device__ int take(float bound) {
    float most = -INFINITY;
    for (int i = 0; i < kMostChannels; i++)
      if (i < own) most = fmaxf(most, far[i]);
    most = most_of(most);
    if (!(most > bound)) return -1;
    int channel = 1 << 20;
    for (int i = 0; i < kMostChannels; i++)
      if (i < own && far[i] == most) channel = min(channel, static_cast<int>(threadIdx.x % 32) + 32 * i);
    channel = __reduce_min_sync(kAllLanes, channel);
    if (threadIdx.x % 32 == channel % 32)
      for (int i = 0; i < kMostChannels; i++)
        if (i == channel / 32) far[i] = -INFINITY;
    return channel;
  }
  __device__ float rest_of(int channel) const {
    float own_rest = 0;
    for (int i = 0; i < kMostChannels; i++)
      if (i == channel / 32) own_rest = rest[i];
    return __shfl_sync(kAllLanes, own_rest, channel % 32);
  }
};

__device__ void put_outlier(uint8_t* at, int place, int channel, float rest) {
  if (threadIdx.x % 32 != 0) return;
  uint16_t* pair = reinterpret_cast<uint16_t*>(at) + 2 * place;
  pair[0] = static_cast<uint16_t>(max(0, channel));
  pair[1] = __half_as_ushort(__float2half_rn(channel < 0 ? 0 : rest));
}

__device__ void code_key(const NuqEncode& p, Row& row, const __half* book, uint8_t* page, int token, uint32_t* words) {
  const int dim = static_cast<int>(p.page.dim), bits = static_cast<int>(p.page.bits), lane = threadIdx.x % 32;
  for (int i = 0; i < kMostChannels; i++) {
    if (i >= row.own) continue;
    const int c = lane + 32 * i;
    const float middle = __half2float(book[c]), half = __half2float(book[dim + c]);
    const uint32_t code = nearest(book + 2 * dim, 1 << bits, half > 0 ? (row.x[i] - middle) / half : 0);
    row.rest[i] = row.x[i] - (middle + half * __half2float(book[2 * dim + code]));
    row.far[i] = fabsf(row.x[i] - middle) - half;
    const int bit = bits * lane, word = i * bits + bit / 32;
    atomicOr(words + word, code << (bit % 32));
    if (bit % 32 + bits > 32) atomicOr(words + word + 1, code >> (32 - bit % 32));
  }
  __syncwarp();
  uint32_t* out = reinterpret_cast<uint32_t*>(page) + token;
  for (int w = lane; w < dim * bits / 32; w += 32) out[w * kNuqTokens] = words[w];
  const int from = static_cast<int>(p.page.place(token)), to = static_cast<int>(p.page.place(token + 1));
  for (int place = from; place < to; place++) {
    const int channel = row.take(0);
    const float rest = row.rest_of(max(0, channel));
    put_outlier(page + p.page.key_outliers(), place, channel, rest);
  }
}

__device__ void code_value(const NuqEncode& p, Row& row, const __half* levels, uint8_t* page, int token, uint32_t* words) {
  const int dim = static_cast<int>(p.page.dim), bits = static_cast<int>(p.page.bits), lane = threadIdx.x % 32;
  float sum = 0;
  for (int i = 0; i < kMostChannels; i++) sum += i < row.own ? row.x[i] : 0;
  const float mean = sum_of(sum) / dim;
  for (int i = 0; i < kMostChannels; i++) row.far[i] = fabsf(row.x[i] - mean);
  const int from = static_cast<int>(p.page.place(token)), places = static_cast<int>(p.page.place(token + 1)) - from;
  int channels[kMostPlaces];
  for (int i = 0; i < kMostPlaces; i++) channels[i] = i < places ? row.take(-INFINITY) : -1;
  float least = INFINITY, most = -INFINITY;
  for (int i = 0; i < kMostChannels; i++) {
    if (i >= row.own || row.far[i] == -INFINITY) continue;
    least = fminf(least, row.x[i]);
    most = fmaxf(most, row.x[i]);
  }
  least = -most_of(-least);
  most = most_of(most);
  const __half middle_half = __float2half_rn((least + most) / 2), half_half = __float2half_rn((most - least) / 2);
  const float middle = __half2float(middle_half), half = __half2float(half_half);
  for (int i = 0; i < kMostChannels; i++) {
    if (i >= row.own) continue;
    const uint32_t code = nearest(levels, 1 << bits, half > 0 ? (row.x[i] - middle) / half : 0);
    row.rest[i] = row.x[i] - (middle + half * __half2float(levels[code]));
    const int bit = bits * (lane + 32 * i);
    atomicOr(words + bit / 32, code << (bit % 32));
    if (bit % 32 + bits > 32) atomicOr(words + bit / 32 + 1, code >> (32 - bit % 32));
  }
  __syncwarp();
  uint32_t* out = reinterpret_cast<uint32_t*>(page + p.page.values() + token * p.page.row_bytes());
  for (int w = lane; w < dim * bits / 32; w += 32) out[w] = words[w];
  if (lane == 0) {
    __half* range = reinterpret_cast<__half*>(page + p.page.ranges()) + 2 * token;
    range[0] = middle_half;
    range[1] = half_half;
  }
  for (int i = 0; i < kMostPlaces; i++) {
    if (i >= places) break;
    const float rest = row.rest_of(channels[i]);
    put_outlier(page + p.page.value_outliers(), from + i, channels[i], rest);
  }
}

__global__ void __launch_bounds__(32 * kWarps) encode_tokens(const NuqEncode p) {
  begin_kernel();
  __shared__ uint32_t room[kWarps][2][32];
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int64_t at = static_cast<int64_t>(blockIdx.x) * kWarps + warp;
  if (at >= p.tokens) return;
  const int dim = static_cast<int>(p.page.dim);
  const int64_t owner = at / p.count;
  const int64_t slot = p.slots[owner] + at % p.count;
  uint8_t* page = p.target + slot / kNuqTokens * p.stride;
  const int token = static_cast<int>(slot % kNuqTokens);
  const __half* book = p.books + owner * p.page.book();
  room[warp][0][lane] = 0;
  room[warp][1][lane] = 0;
  __syncwarp();
  for (int side = 0; side < 2; side++) {
    Row row{};
    row.own = dim / 32;
    for (int i = 0; i < kMostChannels; i++)
      if (i < row.own) row.x[i] = __bfloat162float(p.source[(2 * at + side) * dim + lane + 32 * i]);
    if (side == 0)
      code_key(p, row, book, page, token, room[warp][0]);
    else
      code_value(p, row, book + 2 * dim + (1 << p.page.bits), page, token, room[warp][1]);
  }
}

kvt_status nuq_encode(const CudaCall& call) {
  NuqEncode p{};
  const int64_t rows = call.integer(KVT_NUQ_ENCODE_INT_ROWS);
  p.count = call.integer(KVT_NUQ_ENCODE_INT_COUNT);
  p.tokens = rows * p.count;
  p.stride = call.integer(KVT_NUQ_ENCODE_INT_PAGE_STRIDE);
  p.page = {call.integer(KVT_NUQ_ENCODE_INT_HEAD_DIM), call.integer(KVT_NUQ_ENCODE_INT_BITS), call.integer(KVT_NUQ_ENCODE_INT_OUTLIERS)};
  p.source = call.at<const __nv_bfloat16>(KVT_NUQ_ENCODE_REF_SOURCE);
  p.books = call.at<const __half>(KVT_NUQ_ENCODE_REF_BOOKS);
  p.slots = call.at<const uint32_t>(KVT_NUQ_ENCODE_REF_SLOTS);
  p.target = call.at<uint8_t>(KVT_NUQ_ENCODE_REF_TARGET);
  const int64_t dim = p.page.dim, bits = p.page.bits;
  if (rows < 1 || p.count < 1 || bits < 2 || bits > 4 || (dim != 64 && dim != 128 && dim != 256))
    return fail(KVT_INVALID, "nuq-encode: expected rows and count 1 or more, bits 2 to 4 and headDim 64, 128 or 256");
  if (p.page.outliers < 0 || p.page.outliers > kMostPlaces * kNuqTokens || p.stride < p.page.bytes() || p.stride % 4 != 0 ||
      reinterpret_cast<uintptr_t>(p.target) % 4 != 0)
    return fail(KVT_INVALID, "nuq-encode: expected 256 outliers a page at most, and pageStride a multiple of 4 of at least the page");
  const unsigned blocks = static_cast<unsigned>((p.tokens + kWarps - 1) / kWarps);
  launch_kernel(call, encode_tokens, {blocks, 32 * kWarps}, p);
  return after_launch("nuq-encode");
}

KVT_CUDA_KERNEL(KVT_NUQ_ENCODE, nuq_encode);

}  // namespace
