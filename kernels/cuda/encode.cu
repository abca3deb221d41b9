// Raw pages to coded ones on CUDA; arguments in calls/encode.ts, arithmetic as encodePage of formats.ts. A block codes
// a slab of tokens of one half of a page: by channel a group of tokens, read twice (the second time from the cache).
#include "launch.h"
#include "page-calls.cuh"

namespace {

using namespace kvt;

constexpr int kThreads = 256;
constexpr int kSlab = 32;

struct Range {
  float least = INFINITY, most = -INFINITY;

  __device__ void take(float x) { least = fminf(least, x), most = fmaxf(most, x); }
  __device__ void take(const Range& other) { least = fminf(least, other.least), most = fmaxf(most, other.most); }
};

struct Group {
  float offset, inverse;
};

// Writes scale and offset, and gives what codes are made with.
__device__ Group write_group(const CodedHalf& half, const Range& range, char* to, int apart) {
  const float highest = static_cast<float>(half.symmetric ? (1 << (half.bits - 1)) - 1 : (1 << half.bits) - 1);
  const float size = half.symmetric ? fmaxf(range.most, -range.least) : range.most - range.least;
  const __half scale = __float2half_rn(size / highest);
  const __half offset = __float2half_rn(half.symmetric ? 0 : range.least);
  *reinterpret_cast<__half*>(to) = scale;
  if (!half.symmetric) *reinterpret_cast<__half*>(to + apart) = offset;
  const float by = __half2float(scale);
  return {__half2float(offset), by == 0 ? 0 : 1 / by};
}

// Codes of 8 channels, halves rounded up as Math.round does.
__device__ void write_codes(char* row, const CodedHalf& half, int chunk, const float (&x)[8],
                            const Group (&groups)[8]) {
  const int highest = half.symmetric ? (1 << (half.bits - 1)) - 1 : (1 << half.bits) - 1;
  uint32_t codes[8];
#pragma unroll
  for (int i = 0; i < 8; i++) {
    const int code = static_cast<int>(floorf((x[i] - groups[i].offset) * groups[i].inverse + 0.5f));
    codes[i] = static_cast<uint32_t>(min(highest, max(half.symmetric ? -highest : 0, code))) & 0xff;
  }
  if (half.bits == 8) {
    const uint2 words = {codes[0] | codes[1] << 8 | codes[2] << 16 | codes[3] << 24,
                         codes[4] | codes[5] << 8 | codes[6] << 16 | codes[7] << 24};
    *reinterpret_cast<uint2*>(row + 8 * chunk) = words;
    return;
  }
  uint32_t word = 0;
  if (half.bits == 2) {
#pragma unroll
    for (int j = 0; j < 4; j++) word |= codes[2 * j] << 2 * j | codes[2 * j + 1] << (2 * j + 8);
    *reinterpret_cast<uint16_t*>(row + 2 * chunk) = static_cast<uint16_t>(word);
    return;
  }
#pragma unroll
  for (int j = 0; j < 4; j++) word |= codes[2 * j] << 4 * j | codes[2 * j + 1] << (4 * j + 16);
  *reinterpret_cast<uint32_t*>(row + 4 * chunk) = word;
}

__device__ void read_numbers(const PageCall& c, const char* raw, int token, int chunk, float (&x)[8]) {
  unpack_numbers(*reinterpret_cast<const uint4*>(raw + 2ll * token * c.dim + 16 * chunk), c.raw_f16, x);
}

// Tokens [first, last) as one group of each channel.
__device__ void encode_by_channel(const PageCall& c, const CodedHalf& half, const char* raw, char* page, int first,
                                  int last) {
  __shared__ float2 ranges[kThreads / 32][32][8 + 1];
  __shared__ Group groups[256];
  const int chunks = c.dim / 8, chunk = threadIdx.x % chunks, lane = threadIdx.x / chunks, lanes = kThreads / chunks;
  Range range[8];
  float x[8];
  for (int token = first + lane; token < last; token += lanes) {
    read_numbers(c, raw, token, chunk, x);
#pragma unroll
    for (int i = 0; i < 8; i++) range[i].take(x[i]);
  }
  // Lanes of a warp that hold the same channels first, then the warps.
  for (int apart = chunks; apart < 32; apart *= 2)
#pragma unroll
    for (int i = 0; i < 8; i++)
      range[i].take(Range{__shfl_xor_sync(~0u, range[i].least, apart), __shfl_xor_sync(~0u, range[i].most, apart)});
  const int warp = threadIdx.x / 32;
  if (static_cast<int>(threadIdx.x % 32) < chunks)
#pragma unroll
    for (int i = 0; i < 8; i++) ranges[warp][chunk][i] = {range[i].least, range[i].most};
  __syncthreads();
  if (static_cast<int>(threadIdx.x) < c.dim) {
    Range all;
    for (int w = 0; w < kThreads / 32; w++) {
      const float2 part = ranges[w][threadIdx.x / 8][threadIdx.x % 8];
      all.take(Range{part.x, part.y});
    }
    int apart;
    const int64_t at = scale_at(half, c, first, threadIdx.x, apart);
    groups[threadIdx.x] = write_group(half, all, page + half.scales + at, apart);
  }
  __syncthreads();
  Group mine[8];
#pragma unroll
  for (int i = 0; i < 8; i++) mine[i] = groups[8 * chunk + i];
  for (int token = first + lane; token < last; token += lanes) {
    read_numbers(c, raw, token, chunk, x);
    write_codes(page + half.rows + static_cast<int64_t>(token) * c.dim * half.bits / 8, half, chunk, x, mine);
  }
}

__device__ void encode_by_token(const PageCall& c, const CodedHalf& half, const char* raw, char* page, int first,
                                int last) {
  const int chunks = c.dim / 8, chunk = threadIdx.x % chunks, lanes = kThreads / chunks;
  // Chunks of a group stand in neighbouring lanes.
  const int together = min(chunks, half.channel_shift > 8 ? chunks : 1 << (half.channel_shift - 3));
  for (int token = first + threadIdx.x / chunks; token < first + kSlab; token += lanes) {
    float x[8];
    Range range;
    const bool some = token < last;
    if (some) {
      read_numbers(c, raw, token, chunk, x);
#pragma unroll
      for (int i = 0; i < 8; i++) range.take(x[i]);
    }
    for (int apart = 1; apart < together; apart *= 2)
      range.take(Range{__shfl_xor_sync(~0u, range.least, apart), __shfl_xor_sync(~0u, range.most, apart)});
    if (!some) continue;
    int apart;
    const int64_t at = scale_at(half, c, token, 8 * chunk, apart);
    // Every chunk of the group writes the same.
    const Group group = write_group(half, range, page + half.scales + at, apart);
    const Group groups[8] = {group, group, group, group, group, group, group, group};
    write_codes(page + half.rows + static_cast<int64_t>(token) * c.dim * half.bits / 8, half, chunk, x, groups);
  }
}

// A half that stays raw, as f16.
__device__ void copy_numbers(const PageCall& c, const CodedHalf& half, const char* raw, char* page, int first, int last) {
  const int chunks = c.dim / 8;
  for (int at = first * chunks + threadIdx.x; at < last * chunks; at += kThreads) {
    float x[8];
    read_numbers(c, raw, at / chunks, at % chunks, x);
    *reinterpret_cast<uint4*>(page + half.rows + 16ll * at) = pack_numbers(x, 1);
  }
}

// Tokens [from, to) of each page, of the half or halves from `first_half` on.
struct Tokens {
  int from, to, slabs, first_half;
};

__global__ void encode_pages(PageCall c, Tokens t) {
  begin_kernel();
  const int64_t page = blockIdx.x / t.slabs;
  const int slab = blockIdx.x % t.slabs;
  const CodedHalf& half = c.halves[t.first_half + blockIdx.y];
  const int size = half.channel_shift == 0 ? half.group_tokens : kSlab;
  const int first = t.from + slab * size;
  if (first >= t.to) return;
  const char* const raw = c.source_page(page) + half.raw;
  const int last = min(t.to, first + size);
  if (half.bits == 16) copy_numbers(c, half, raw, c.target_page(page), first, last);
  else if (half.channel_shift == 0) encode_by_channel(c, half, raw, c.target_page(page), first, last);
  else encode_by_token(c, half, raw, c.target_page(page), first, last);
}

kvt_status encode(const CudaCall& call) {
  PageCall c{};
  int64_t pages = 0;
  const kvt_status read = read_page_call(call, "encode", true, c, pages);
  if (read != KVT_OK) return read;
  const int64_t halves = call.integer(KVT_ENCODE_INT_HALVES), from = call.integer(KVT_ENCODE_INT_FROM);
  const int64_t to = call.integer(KVT_ENCODE_INT_TO) == 0 ? c.tokens : call.integer(KVT_ENCODE_INT_TO);
  if (halves < 0 || halves > 2 || from < 0 || to <= from || to > c.tokens ||
      (halves != 2 && from % c.halves[0].group_tokens != 0))
    return fail(KVT_INVALID,
                "encode: halves %lld of tokens %lld to %lld, expected 0 to 2, of a page, from where a group begins",
                static_cast<long long>(halves), static_cast<long long>(from), static_cast<long long>(to));
  const int slabs = static_cast<int>((to - from + kSlab - 1) / kSlab);
  const Tokens tokens = {static_cast<int>(from), static_cast<int>(to), slabs, halves == 2};
  const dim3 blocks(static_cast<unsigned>(pages * slabs), halves == 0 ? 2 : 1);
  launch_kernel(call, encode_pages, {blocks, kThreads}, c, tokens);
  return after_launch("encode");
}

KVT_CUDA_KERNEL(KVT_ENCODE, encode);

}  // namespace
