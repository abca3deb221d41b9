// Keys that share a query's code in enough tables (calls/lsh-match.ts).
#include <vector>

#include "kernel.h"

namespace {

using namespace kvt;

kvt_status lsh_match(const CpuCall& call) {
  const int64_t rows = call.integer(KVT_LSH_MATCH_INT_ROWS);
  const int64_t group = call.integer(KVT_LSH_MATCH_INT_GROUP);
  const int64_t count = call.integer(KVT_LSH_MATCH_INT_COUNT);
  const int64_t tables = call.integer(KVT_LSH_MATCH_INT_TABLES);
  const int64_t hashes = call.integer(KVT_LSH_MATCH_INT_HASHES);
  const int64_t collisions = call.integer(KVT_LSH_MATCH_INT_COLLISIONS);
  const int64_t code_stride = call.integer(KVT_LSH_MATCH_INT_CODE_STRIDE);
  const int64_t id_stride = call.integer(KVT_LSH_MATCH_INT_ID_STRIDE);
  if (rows < 1 || group < 1 || count < 1 || tables < 1 || hashes < 1 || hashes > 16)
    return fail(KVT_INVALID, "lsh-match: expected rows, group, count and tables 1 or more and hashes 1 to 16");
  if (collisions < 1 || collisions > 2) return fail(KVT_INVALID, "lsh-match: expected collisions 1 or 2");
  const uint16_t* codes = call.at<const uint16_t>(KVT_LSH_MATCH_REF_CODES);
  const uint32_t* starts = call.at<const uint32_t>(KVT_LSH_MATCH_REF_STARTS);
  const uint32_t* postings = call.at<const uint32_t>(KVT_LSH_MATCH_REF_POSTINGS);
  uint32_t* ids = call.at<uint32_t>(KVT_LSH_MATCH_REF_IDS);
  uint32_t* counts = call.at<uint32_t>(KVT_LSH_MATCH_REF_COUNTS);
  const int64_t buckets = int64_t{1} << hashes;
  call.threads.run(rows * group, [&](int64_t from, int64_t to) {
    std::vector<uint8_t> seen(count);
    for (int64_t query = from; query < to; query++) {
      seen.assign(count, 0);
      for (int64_t table = query / group * tables; table < (query / group + 1) * tables; table++) {
        const uint32_t* bounds = starts + table * (buckets + 1) + codes[table * code_stride + query % group];
        for (uint32_t at = bounds[0]; at < bounds[1]; at++) {
          uint8_t& times = seen[postings[table * count + at]];
          times = static_cast<uint8_t>(times < collisions ? times + 1 : times);
        }
      }
      uint32_t* next = ids + query * id_stride;
      for (int64_t key = 0; key < count; key++)
        if (seen[key] >= collisions) *next++ = static_cast<uint32_t>(key);
      counts[query] = static_cast<uint32_t>(next - (ids + query * id_stride));
    }
  });
  return KVT_OK;
}

KVT_CPU_KERNEL(KVT_LSH_MATCH, lsh_match);

}  // namespace
