// Keys that share a query's code in one table, or two (calls/lsh-match.ts): a block a query marks the listed keys in two
// bitmaps (seen, seen again), then writes them in order. Bitmaps lie in shared memory where they fit.
#include "block-sum.h"
#include "launch.h"

namespace {

using namespace kvt;

constexpr int kThreads = 1024;
constexpr size_t kRoom = 96 * 1024;

struct Matching {
  const uint16_t* codes;
  const uint32_t* starts;
  const uint32_t* postings;
  uint32_t* ids;
  uint32_t* counts;
  uint32_t* scratch;  // null: bitmaps in shared memory
  int64_t count, code_stride, id_stride;
  int group, tables, buckets, collisions, lists;
};

__global__ void __launch_bounds__(kThreads, 1) match(const Matching p) {
  begin_kernel();
  extern __shared__ uint32_t shared[];
  __shared__ uint32_t sums[kMostWarps];
  const int64_t query = blockIdx.x;
  const int64_t row = query / p.group;
  const int words = static_cast<int>((p.count + 31) / 32);
  uint32_t* seen = p.scratch == nullptr ? shared : p.scratch + query * 2 * words;
  uint32_t* again = seen + words;
  for (int i = threadIdx.x; i < 2 * words; i += kThreads) seen[i] = 0;
  __syncthreads();
  const int lane = threadIdx.x & 31;
  for (int table = threadIdx.x / 32; table < p.tables; table += kThreads / 32) {
    const int64_t list = row % p.lists * p.tables + table;
    const uint32_t* bounds =
        p.starts + list * (p.buckets + 1) + p.codes[(row * p.tables + table) * p.code_stride + query % p.group];
    const uint32_t* postings = p.postings + list * p.count;
    const uint32_t end = bounds[1];
    for (uint32_t at = bounds[0] + lane; at < end; at += 32) {
      const uint32_t key = postings[at];
      const uint32_t bit = 1u << (key & 31);
      if ((atomicOr(seen + key / 32, bit) & bit) != 0 && p.collisions > 1) atomicOr(again + key / 32, bit);
    }
  }
  __syncthreads();
  const uint32_t* found = p.collisions > 1 ? again : seen;
  const int per = (words + kThreads - 1) / kThreads;
  const int from = min(words, static_cast<int>(threadIdx.x) * per);
  const int to = min(words, from + per);
  uint32_t mine = 0;
  for (int i = from; i < to; i++) mine += __popc(found[i]);
  uint32_t next = sum_before(mine, sums);
  if (threadIdx.x == kThreads - 1) p.counts[query] = next + mine;
  uint32_t* ids = p.ids + query * p.id_stride;
  for (int i = from; i < to; i++)
    for (uint32_t left = found[i]; left != 0; left &= left - 1) ids[next++] = 32 * i + __ffs(left) - 1;
}

kvt_status lsh_match(const CudaCall& call) {
  Matching p{};
  const int64_t rows = call.integer(KVT_LSH_MATCH_INT_ROWS);
  const int64_t hashes = call.integer(KVT_LSH_MATCH_INT_HASHES);
  p.codes = call.at<const uint16_t>(KVT_LSH_MATCH_REF_CODES);
  p.starts = call.at<const uint32_t>(KVT_LSH_MATCH_REF_STARTS);
  p.postings = call.at<const uint32_t>(KVT_LSH_MATCH_REF_POSTINGS);
  p.ids = call.at<uint32_t>(KVT_LSH_MATCH_REF_IDS);
  p.counts = call.at<uint32_t>(KVT_LSH_MATCH_REF_COUNTS);
  p.count = call.integer(KVT_LSH_MATCH_INT_COUNT);
  p.code_stride = call.integer(KVT_LSH_MATCH_INT_CODE_STRIDE);
  p.id_stride = call.integer(KVT_LSH_MATCH_INT_ID_STRIDE);
  p.group = static_cast<int>(call.integer(KVT_LSH_MATCH_INT_GROUP));
  p.tables = static_cast<int>(call.integer(KVT_LSH_MATCH_INT_TABLES));
  p.collisions = static_cast<int>(call.integer(KVT_LSH_MATCH_INT_COLLISIONS));
  p.lists = static_cast<int>(call.integer(KVT_LSH_MATCH_INT_LISTS));
  if (rows < 1 || p.group < 1 || p.count < 1 || p.count > (1 << 30) || p.tables < 1 || p.lists < 1 ||
      hashes < 1 || hashes > 16)
    return fail(KVT_INVALID, "lsh-match: expected rows, group, count, tables and lists 1 or more and hashes 1 to 16");
  if (p.collisions < 1 || p.collisions > 2) return fail(KVT_INVALID, "lsh-match: expected collisions 1 or 2");
  p.buckets = 1 << hashes;
  const size_t bitmaps = (p.count + 31) / 32 * 2 * sizeof(uint32_t);
  const int64_t queries = rows * p.group;
  if (bitmaps > kRoom) {
    p.scratch = static_cast<uint32_t*>(call.scratch);
    if (bitmaps * queries > call.scratch_bytes)
      return fail(KVT_INVALID, "lsh-match: more queries and keys than the scratch has room for");
  } else if (bitmaps > 32 * 1024) {
    cudaFuncSetAttribute(match, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(kRoom));
  }
  launch_kernel(call, match, {static_cast<unsigned>(queries), kThreads, p.scratch == nullptr ? bitmaps : 0}, p);
  return after_launch("lsh-match");
}

KVT_CUDA_KERNEL(KVT_LSH_MATCH, lsh_match);

}  // namespace
