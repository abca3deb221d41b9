// Coded pages to raw ones on CUDA; arguments in calls/decode.ts. A thread turns 8 channels of a token.
#include "launch.h"
#include "page-calls.cuh"

namespace {

using namespace kvt;

constexpr int kThreads = 256;

__device__ void read_codes(const char* row, const CodedHalf& half, int chunk, float (&x)[8]) {
  if (half.bits == 8) {
    const uint2 words = *reinterpret_cast<const uint2*>(row + 8 * chunk);
#pragma unroll
    for (int i = 0; i < 8; i++) {
      const uint32_t byte = ((i < 4 ? words.x : words.y) >> 8 * (i % 4)) & 0xff;
      x[i] = half.symmetric ? static_cast<float>(static_cast<int8_t>(byte)) : static_cast<float>(byte);
    }
    return;
  }
  if (half.bits == 16) {
    unpack_numbers(*reinterpret_cast<const uint4*>(row + 16 * chunk), 1, x);
    return;
  }
  if (half.bits == 2) {
    const uint32_t word = *reinterpret_cast<const uint16_t*>(row + 2 * chunk);
#pragma unroll
    for (int j = 0; j < 4; j++) {
      x[2 * j] = static_cast<float>(word >> 2 * j & 3);
      x[2 * j + 1] = static_cast<float>(word >> (2 * j + 8) & 3);
    }
    return;
  }
  const uint32_t word = *reinterpret_cast<const uint32_t*>(row + 4 * chunk);
#pragma unroll
  for (int j = 0; j < 4; j++) {
    x[2 * j] = static_cast<float>(word >> 4 * j & 15);
    x[2 * j + 1] = static_cast<float>(word >> (4 * j + 16) & 15);
  }
}

__device__ void apply_scales(const PageCall& c, const CodedHalf& half, const char* from, int token, int chunk,
                             float (&x)[8]) {
  int apart;
  const char* const scales = from + scale_at(half, c, token, 8 * chunk, apart);
  if (half.channel_shift == 0) {
    float scale[8], offset[8] = {};
    unpack_numbers(*reinterpret_cast<const uint4*>(scales), 1, scale);
    if (!half.symmetric) unpack_numbers(*reinterpret_cast<const uint4*>(scales + apart), 1, offset);
#pragma unroll
    for (int i = 0; i < 8; i++) x[i] = fmaf(x[i], scale[i], offset[i]);
    return;
  }
  const uint32_t pair = *reinterpret_cast<const uint32_t*>(scales);
#pragma unroll
  for (int i = 0; i < 8; i++) x[i] = fmaf(x[i], F16::low(pair), F16::high(pair));
}

// Blocks of a page follow each other; blockIdx.y = keys or values.
__global__ void decode_pages(PageCall c, int blocks_a_page) {
  begin_kernel();
  const int64_t page = blockIdx.x / blocks_a_page;
  const int chunks = c.dim / 8;
  const int at = blockIdx.x % blocks_a_page * kThreads + threadIdx.x;
  if (at >= c.tokens * chunks) return;
  const int token = at / chunks, chunk = at % chunks;
  const CodedHalf& half = c.halves[blockIdx.y];
  const char* const from = c.source_page(page);
  float x[8];
  read_codes(from + half.rows + static_cast<int64_t>(token) * c.dim * half.bits / 8, half, chunk, x);
  if (half.bits < 16) apply_scales(c, half, from + half.scales, token, chunk, x);
  char* const to = c.target_page(page) + half.raw;
  *reinterpret_cast<uint4*>(to + 16ll * at) = pack_numbers(x, c.raw_f16);
}

kvt_status decode(const CudaCall& call) {
  PageCall c{};
  int64_t pages = 0;
  const kvt_status read = read_page_call(call, "decode", false, c, pages);
  if (read != KVT_OK) return read;
  const int blocks = (c.tokens * (c.dim / 8) + kThreads - 1) / kThreads;
  launch_kernel(call, decode_pages, {dim3(static_cast<unsigned>(pages * blocks), 2), kThreads}, c, blocks);
  return after_launch("decode");
}

KVT_CUDA_KERNEL(KVT_DECODE, decode);

}  // namespace
