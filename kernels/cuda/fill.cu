// Fills on the device, so that nothing crosses the link: value i depends on (seed, i) alone (SplitMix64 as a
// counter-based generator: Steele, Lea, Flood, OOPSLA 2014); normals by Box and Muller, 1958.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstring>

#include "machine.h"

namespace kvt {

namespace {

__device__ uint64_t mix(uint64_t seed, uint64_t i) {
  uint64_t z = seed + (i + 1) * 0x9e3779b97f4a7c15ull;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
  return z ^ (z >> 31);
}

__device__ float2 normals(uint64_t seed, uint64_t pair) {
  const uint64_t bits = mix(seed, pair);
  const float uniform = (static_cast<float>(bits >> 40) + 0.5f) * 0x1p-24f;
  const float turn = static_cast<float>(static_cast<uint32_t>(bits)) * 0x1p-31f;
  const float radius = sqrtf(-2 * __logf(uniform));
  float sine, cosine;
  sincospif(turn, &sine, &cosine);
  return {radius * cosine, radius * sine};
}

// Eight bytes, number `word` of the fill.
template <int kind>
__device__ uint64_t word_of(uint64_t seed, uint64_t word) {
  if (kind == KVT_BYTES) return mix(seed, word);
  if (kind == KVT_POISON) return ~uint64_t{0};
  if (kind == KVT_ZERO) return 0;
  uint64_t bits = 0;
  if (kind == KVT_NORMAL_F32) {
    const float2 pair = normals(seed, word);
    memcpy(&bits, &pair, 8);
    return bits;
  }
  const float2 pairs[2] = {normals(seed, 2 * word), normals(seed, 2 * word + 1)};
  if (kind == KVT_NORMAL_BF16) {
    const __nv_bfloat162 halves[2] = {__float22bfloat162_rn(pairs[0]), __float22bfloat162_rn(pairs[1])};
    memcpy(&bits, halves, 8);
  } else {
    const __half2 halves[2] = {__float22half2_rn(pairs[0]), __float22half2_rn(pairs[1])};
    memcpy(&bits, halves, 8);
  }
  return bits;
}

template <int kind>
__global__ void fill_words(uint8_t* target, uint64_t bytes, uint64_t seed, uint64_t first_word) {
  const bool aligned = (reinterpret_cast<uint64_t>(target) & 7) == 0;
  for (uint64_t i = blockIdx.x * static_cast<uint64_t>(blockDim.x) + threadIdx.x; i < (bytes + 7) / 8;
       i += static_cast<uint64_t>(gridDim.x) * blockDim.x) {
    uint64_t word = word_of<kind>(seed, first_word + i);
    if (aligned && 8 * i + 8 <= bytes) {
      *reinterpret_cast<uint64_t*>(target + 8 * i) = word;
      continue;
    }
    for (uint64_t b = 8 * i; b < bytes && b < 8 * i + 8; b++, word >>= 8) target[b] = static_cast<uint8_t>(word);
  }
}

kvt_status fill_device(kvt_context* context, uint8_t* target, uint64_t bytes, int32_t kind, uint64_t seed,
                       uint64_t first_word) {
  const uint64_t blocks = (bytes / 8 + 255) / 256 + 1, most = static_cast<uint64_t>(context->multiprocessors) * 16;
  const unsigned grid = static_cast<unsigned>(blocks < most ? blocks : most);
  const cudaStream_t stream = context->streams[KVT_COMPUTE];
  switch (kind) {
    case KVT_NORMAL_F32: fill_words<KVT_NORMAL_F32><<<grid, 256, 0, stream>>>(target, bytes, seed, first_word); break;
    case KVT_NORMAL_BF16: fill_words<KVT_NORMAL_BF16><<<grid, 256, 0, stream>>>(target, bytes, seed, first_word); break;
    case KVT_NORMAL_F16: fill_words<KVT_NORMAL_F16><<<grid, 256, 0, stream>>>(target, bytes, seed, first_word); break;
    case KVT_BYTES: fill_words<KVT_BYTES><<<grid, 256, 0, stream>>>(target, bytes, seed, first_word); break;
    case KVT_POISON: fill_words<KVT_POISON><<<grid, 256, 0, stream>>>(target, bytes, seed, first_word); break;
    case KVT_ZERO: fill_words<KVT_ZERO><<<grid, 256, 0, stream>>>(target, bytes, seed, first_word); break;
    default: return fail(KVT_INVALID, "fill: kind %d is none of 0 to 5", kind);
  }
  const kvt_status status = after_launch("fill");
  return status == KVT_OK ? wait_for(context, KVT_COMPUTE) : status;
}

// What the GPU can't address goes through pinned memory.
kvt_status fill_through_host(kvt_context* context, const CudaBuffer& buffer, uint64_t offset, uint64_t bytes,
                             int32_t kind, uint64_t seed) {
  constexpr uint64_t kChunk = uint64_t{16} << 20;
  void* pinned = nullptr;
  kvt_status status = checked(cudaHostAlloc(&pinned, kChunk, cudaHostAllocMapped), "fill");
  for (uint64_t done = 0; done < bytes && status == KVT_OK; done += kChunk) {
    const uint64_t size = bytes - done < kChunk ? bytes - done : kChunk;
    status = fill_device(context, static_cast<uint8_t*>(pinned), size, kind, seed, done / 8);
    if (status != KVT_OK) break;
    if (!buffer.file) std::memcpy(buffer.host + offset + done, pinned, size);
    else status = buffer.file->write(offset + done, size, pinned);
  }
  if (pinned != nullptr) cudaFreeHost(pinned);
  return status;
}

}  // namespace

}  // namespace kvt

extern "C" kvt_status kvt_fill(kvt_context* context, int32_t buffer, uint64_t offset, uint64_t bytes, int32_t kind,
                               uint64_t seed) {
  using namespace kvt;
  std::lock_guard<std::mutex> lock(context->mutex);
  const CudaBuffer* found = buffer_at(context, buffer, offset, bytes, "fill");
  if (found == nullptr) return KVT_INVALID;
  if (device_lost) return device_ready();
  if (bytes == 0) return KVT_OK;
  const kvt_status status = checked(cudaSetDevice(context->device), "fill");
  if (status != KVT_OK) return status;
  if (found->tier == KVT_HBM || found->tier == KVT_DRAM)
    return fill_device(context, found->device + offset, bytes, kind, seed, 0);
  return fill_through_host(context, *found, offset, bytes, kind, seed);
}
