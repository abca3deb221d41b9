// Sign hashes (calls/lsh-hash.ts): a warp a table; its lanes hold a projection's channels and multiply a few vectors with
// it, in float, because a sign is all that remains of a product.
#include "launch.h"
#include "pieces.h"

namespace {

using namespace kvt;

constexpr int kWarps = 8;
constexpr int kVectors = 8;

struct Hashing {
  Pieces vectors;
  const __nv_bfloat16* projections;
  const float* offsets;
  uint16_t* codes;
  int64_t count, code_stride;
  int dim, tables, hashes;
};

// kChannels: channels of a lane, all of a projection on its way at once; 0 = any number.
template <int kChannels>
__global__ void __launch_bounds__(32 * kWarps) hash(const Hashing p) {
  begin_kernel();
  extern __shared__ float vectors[];  // [kVectors, dim]
  const int64_t row = blockIdx.z;
  const int lane = threadIdx.x & 31;
  const int table = blockIdx.x * kWarps + threadIdx.x / 32;
  for (int64_t first = static_cast<int64_t>(blockIdx.y) * kVectors; first < p.count;
       first += static_cast<int64_t>(gridDim.y) * kVectors) {
    __syncthreads();
    for (int i = threadIdx.x; i < kVectors * p.dim; i += 32 * kWarps) {
      const int64_t vector = first + i / p.dim;
      vectors[i] = vector < p.count ? __bfloat162float(p.vectors.at(row, vector, p.dim)[i % p.dim]) : 0;
    }
    __syncthreads();
    if (table >= p.tables) continue;
    uint32_t codes[kVectors] = {};
#pragma unroll 4
    for (int h = 0; h < p.hashes; h++) {
      const int at = table * p.hashes + h;
      const __nv_bfloat16* projection = p.projections + static_cast<int64_t>(at) * p.dim;
      float sums[kVectors] = {};
      const auto multiply = [&](int c) {
        const float value = __bfloat162float(projection[c]);
#pragma unroll
        for (int v = 0; v < kVectors; v++) sums[v] = fmaf(value, vectors[v * p.dim + c], sums[v]);
      };
      if (kChannels > 0) {
#pragma unroll
        for (int c = 0; c < kChannels; c++) multiply(32 * c + lane);
      } else {
        for (int c = lane; c < p.dim; c += 32) multiply(c);
      }
      const float offset = p.offsets == nullptr ? 0 : p.offsets[row * p.tables * p.hashes + at];
#pragma unroll
      for (int v = 0; v < kVectors; v++) {
#pragma unroll
        for (int by = 16; by > 0; by /= 2) sums[v] += __shfl_xor_sync(~0u, sums[v], by);
        codes[v] |= static_cast<uint32_t>(sums[v] > offset) << h;
      }
    }
#pragma unroll
    for (int v = 0; v < kVectors; v++)
      if (lane == v && first + v < p.count)
        p.codes[(row * p.tables + table) * p.code_stride + first + v] = static_cast<uint16_t>(codes[v]);
  }
}

kvt_status lsh_hash(const CudaCall& call) {
  Hashing p{};
  const int64_t rows = call.integer(KVT_LSH_HASH_INT_ROWS);
  p.vectors = {call.at<const uint8_t>(KVT_LSH_HASH_REF_VECTORS), call.at<const uint32_t>(KVT_LSH_HASH_REF_PIECES),
               call.integer(KVT_LSH_HASH_INT_PIECE_VECTORS), call.integer(KVT_LSH_HASH_INT_PIECE_STRIDE),
               call.integer(KVT_LSH_HASH_INT_PIECE_BYTES)};
  p.projections = call.at<const __nv_bfloat16>(KVT_LSH_HASH_REF_PROJECTIONS);
  p.offsets = call.at<const float>(KVT_LSH_HASH_REF_OFFSETS);
  p.codes = call.at<uint16_t>(KVT_LSH_HASH_REF_CODES);
  p.count = call.integer(KVT_LSH_HASH_INT_COUNT);
  p.code_stride = call.integer(KVT_LSH_HASH_INT_CODE_STRIDE);
  p.dim = static_cast<int>(call.integer(KVT_LSH_HASH_INT_HEAD_DIM));
  p.tables = static_cast<int>(call.integer(KVT_LSH_HASH_INT_TABLES));
  p.hashes = static_cast<int>(call.integer(KVT_LSH_HASH_INT_HASHES));
  if (rows < 1 || rows > 65535 || p.count < 1 || p.dim < 1 || p.dim > 1024 || p.vectors.vectors < 1)
    return fail(KVT_INVALID, "lsh-hash: expected rows 1 to 65535, count and pieceVectors 1 or more, headDim 1 to 1024");
  if (p.tables < 1 || p.hashes < 1 || p.hashes > 16)
    return fail(KVT_INVALID, "lsh-hash: expected tables 1 or more and hashes 1 to 16");
  const int64_t blocks = (p.tables + kWarps - 1) / kWarps;
  const int64_t wanted = (p.count + kVectors - 1) / kVectors;
  const int64_t most = (16 * call.multiprocessors + rows * blocks - 1) / (rows * blocks);
  const dim3 grid(static_cast<unsigned>(blocks), static_cast<unsigned>(wanted < most ? wanted : most),
                  static_cast<unsigned>(rows));
  const size_t shared = sizeof(float) * kVectors * p.dim;
  if (p.dim == 64)
    launch_kernel(call, hash<2>, {grid, 32 * kWarps, shared}, p);
  else if (p.dim == 128)
    launch_kernel(call, hash<4>, {grid, 32 * kWarps, shared}, p);
  else
    launch_kernel(call, hash<0>, {grid, 32 * kWarps, shared}, p);
  return after_launch("lsh-hash");
}

KVT_CUDA_KERNEL(KVT_LSH_HASH, lsh_hash);

}  // namespace
