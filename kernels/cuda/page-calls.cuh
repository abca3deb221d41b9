// What the two codec kernels share: pages read from one pool and written to another, 8 channels of a token a thread.
#ifndef KVTIER_PAGE_CALLS_CUH
#define KVTIER_PAGE_CALLS_CUH

#include "../formats.h"
#include "kernel.h"
#include "mma.cuh"

namespace kvt {

// One half of the coded page, and where its numbers lie in the raw one.
struct CodedHalf {
  // 16 = f16 as it is.
  int bits;
  // 0 = by channel; else log2 of the channels of a token's group.
  int channel_shift;
  // By channel: tokens of a group.
  int group_tokens;
  bool symmetric;
  int64_t rows, scales, raw;
};

struct PageCall {
  const char* source;
  char* target;
  const uint32_t* source_pages;
  const uint32_t* target_pages;
  int64_t source_stride, target_stride;
  int tokens, dim;
  int raw_f16;
  CodedHalf halves[2];

  __device__ const char* source_page(int64_t i) const {
    return source + (source_pages ? source_pages[i] : i) * source_stride;
  }
  __device__ char* target_page(int64_t i) const {
    return target + (target_pages ? target_pages[i] : i) * target_stride;
  }
};

// Bytes from the scales' start to the scale of a token's channel, and from there to its offset.
__device__ inline int64_t scale_at(const CodedHalf& half, const PageCall& c, int token, int channel, int& apart) {
  if (half.channel_shift == 0) {
    apart = 2 * c.dim;
    return 2ll * (token / half.group_tokens * (half.symmetric ? 1 : 2) * c.dim + channel);
  }
  apart = 2;
  return 4ll * (token * ((c.dim - 1 >> half.channel_shift) + 1) + (channel >> half.channel_shift));
}

inline CodedHalf coded_half(const HalfFormat& half, int tokens, int64_t rows, int64_t scales, int64_t raw) {
  const int group = half.group_tokens == 0 ? tokens : half.group_tokens;
  const bool one = half.group_channels == 0 || !half.coded();
  const int shift = half.by_channel() ? 0 : one ? 30 : __builtin_ctz(half.group_channels);
  return {half.bits, shift, group, half.symmetric, rows, scales, raw};
}

// Arguments in the order of calls/encode.ts and calls/decode.ts, which agree but for their names.
inline kvt_status read_page_call(const CudaCall& call, const char* name, bool encodes, PageCall& c, int64_t& pages) {
  const int64_t tokens = call.integer(2);
  const int from = static_cast<int>(call.integer(3)), to = static_cast<int>(call.integer(4));
  const int raw = encodes ? from : to, coded = encodes ? to : from;
  pages = call.integer(0);
  c.dim = static_cast<int>(call.integer(1));
  if (pages < 1 || tokens < 1) return fail(KVT_INVALID, "%s: pages and pageTokens must be 1 or more", name);
  if (c.dim != 64 && c.dim != 128 && c.dim != 256)
    return fail(KVT_UNSUPPORTED, "%s: headDim is %d, expected 64, 128 or 256", name, c.dim);
  if (raw < 0 || raw > FORMAT_F16 || coded <= FORMAT_F16 || coded >= FORMATS)
    return fail(KVT_INVALID, "%s: formats %d and %d, expected one raw and one coded", name, from, to);
  c.source = call.at<const char>(0), c.target = call.at<char>(1);
  c.source_pages = call.at<const uint32_t>(2), c.target_pages = call.at<const uint32_t>(3);
  c.source_stride = call.integer(5), c.target_stride = call.integer(6);
  c.tokens = static_cast<int>(tokens);
  c.raw_f16 = raw == FORMAT_F16;
  const PageFormat format = format_of(coded);
  const PageLayout layout = layout_of(format, c.dim, tokens);
  const int64_t raw_bytes = 4 * tokens * c.dim;
  const bool apart = c.source_stride >= (encodes ? raw_bytes : layout.bytes) &&
                     c.target_stride >= (encodes ? layout.bytes : raw_bytes);
  if (!apart || c.source_stride % 16 != 0 || c.target_stride % 16 != 0)
    return fail(KVT_INVALID, "%s: strides %lld and %lld, expected multiples of 16, at least a page", name,
                static_cast<long long>(c.source_stride), static_cast<long long>(c.target_stride));
  c.halves[0] = coded_half(format.keys, c.tokens, 0, layout.key_scales, 0);
  c.halves[1] = coded_half(format.values, c.tokens, layout.values, layout.value_scales, raw_bytes / 2);
  return KVT_OK;
}

__device__ inline void unpack_numbers(const uint4& words, int f16, float (&x)[8]) {
  const uint32_t pairs[4] = {words.x, words.y, words.z, words.w};
#pragma unroll
  for (int w = 0; w < 4; w++) {
    x[2 * w] = f16 ? F16::low(pairs[w]) : Bf16::low(pairs[w]);
    x[2 * w + 1] = f16 ? F16::high(pairs[w]) : Bf16::high(pairs[w]);
  }
}

__device__ inline uint4 pack_numbers(const float (&x)[8], int f16) {
  uint32_t pairs[4];
#pragma unroll
  for (int w = 0; w < 4; w++)
    pairs[w] = f16 ? F16::pack(x[2 * w], x[2 * w + 1]) : Bf16::pack(x[2 * w], x[2 * w + 1]);
  return {pairs[0], pairs[1], pairs[2], pairs[3]};
}

}  // namespace kvt
#endif
