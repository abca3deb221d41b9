// Keys that share a query's code in enough tables (calls/lsh-match.ts). A query's lists lie anywhere in memory, so those of
// the tables to come are asked for ahead; how often it has met a key is a byte, so that counting takes a byte's addition.
#include <algorithm>
#include <atomic>
#include <cstring>
#include <new>

#if defined(__SSE2__)
#include <immintrin.h>
#endif

#include "kernel.h"

namespace {

using namespace kvt;

// Tables by which lists are asked for ahead of their use, and their bounds ahead of that. Into the core's second cache, which
// waits for more lines than the first; 8 or 16 tables are no better on 16 threads of an H100's host.
constexpr int64_t kTablesAhead = 4;
constexpr int kNearCache = 2;
// Lines of a list that are asked for; the processor goes on by itself where a list is longer.
constexpr int64_t kLinesAhead = 16;
// Tables after which a byte could be full.
constexpr int64_t kTablesOfByte = 250;
// Keys of a block that are written down whether they are there or not, which takes no branch.
constexpr int kAtOnce = 4;

// Which of 64 bytes are `least` or more, a bit each.
uint64_t at_least(const uint8_t* bytes, uint8_t least) {
#if defined(__AVX512BW__)
  return _mm512_cmpge_epu8_mask(_mm512_loadu_si512(bytes), _mm512_set1_epi8(static_cast<char>(least)));
#elif defined(__SSE2__)
  const __m128i bound = _mm_set1_epi8(static_cast<char>(least));
  uint64_t found = 0;
  for (int part = 0; part < 4; part++) {
    const __m128i sixteen = _mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes) + part);
    const int mask = _mm_movemask_epi8(_mm_cmpeq_epi8(_mm_max_epu8(sixteen, bound), sixteen));
    found |= static_cast<uint64_t>(mask) << 16 * part;
  }
  return found;
#else
  uint64_t found = 0;
  for (int i = 0; i < 64; i++) found |= static_cast<uint64_t>(bytes[i] >= least) << i;
  return found;
#endif
}

// How often a thread has met each key of a query's lists, a byte each, which takes half the time of two bits in words that
// all their keys share; the memory is kept from call to call.
class Counts {
 public:
  ~Counts() {
    delete[] met_;
    delete[] ids_;
  }

  // Room for so many keys; false where there is no memory.
  bool hold(int64_t keys) {
    blocks_ = (keys + kBlock - 1) / kBlock;
    if (keys > room_) {
      delete[] met_;
      delete[] ids_;
      met_ = new (std::nothrow) uint8_t[kBlock * blocks_];
      ids_ = new (std::nothrow) uint32_t[kBlock * blocks_ + kAtOnce];
      room_ = met_ == nullptr || ids_ == nullptr ? 0 : keys;
    }
    return room_ >= keys;
  }

  void clear() { std::memset(met_, 0, static_cast<size_t>(kBlock * blocks_)); }

  void count(const uint32_t* keys, int64_t count) {
    uint8_t* const met = met_;
    for (int64_t i = 0; i < count; i++) met[keys[i]]++;
  }

  // Before a byte can be full: more than `collisions` is as good as it.
  void bound(uint8_t collisions) {
    for (int64_t i = 0; i < kBlock * blocks_; i++) met_[i] = std::min(met_[i], collisions);
  }

  // Keys met `collisions` times, ascending.
  uint32_t collect(uint8_t collisions, uint32_t* ids) const {
    uint32_t* next = ids_;
    for (int64_t first = 0; first < kBlock * blocks_; first += kBlock) {
      uint64_t bits = at_least(met_ + first, collisions);
      uint32_t* const end = next + __builtin_popcountll(bits);
      do {
        for (int i = 0; i < kAtOnce; i++, bits &= bits - 1)
          next[i] = static_cast<uint32_t>(first + __builtin_ctzll(bits | uint64_t{1} << 63));
        next += kAtOnce;
      } while (next < end);
      next = end;
    }
    std::memcpy(ids, ids_, sizeof(uint32_t) * static_cast<size_t>(next - ids_));
    return static_cast<uint32_t>(next - ids_);
  }

 private:
  static constexpr int64_t kBlock = 64;

  uint8_t* met_ = nullptr;
  uint32_t* ids_ = nullptr;
  int64_t blocks_ = 0, room_ = 0;
};

// The lists of one query: table t's begin at postings + t * count, the bounds of its codes' at starts + t * bounds.
struct Lookup {
  const uint16_t* codes;
  const uint32_t *starts, *postings;
  int64_t count, tables, bounds, code_stride;

  const uint32_t* bounds_of(int64_t table) const { return starts + table * bounds + codes[table * code_stride]; }

  void count_tables(Counts& counts, uint8_t collisions) const {
    for (int64_t table = 0; table < tables; table++) {
      if (table + 2 * kTablesAhead < tables) __builtin_prefetch(bounds_of(table + 2 * kTablesAhead));
      if (table + kTablesAhead < tables) {
        const uint32_t* coming = bounds_of(table + kTablesAhead);
        const uint32_t* list = postings + (table + kTablesAhead) * count;
        for (int64_t line = 0; line < kLinesAhead && coming[0] + 16 * line < coming[1]; line++)
          __builtin_prefetch(list + coming[0] + 16 * line, 0, kNearCache);
      }
      const uint32_t* now = bounds_of(table);
      counts.count(postings + table * count + now[0], now[1] - now[0]);
      if ((table + 1) % kTablesOfByte == 0) counts.bound(collisions);
    }
  }
};

kvt_status lsh_match(const CpuCall& call) {
  const int64_t rows = call.integer(KVT_LSH_MATCH_INT_ROWS);
  const int64_t group = call.integer(KVT_LSH_MATCH_INT_GROUP);
  const int64_t count = call.integer(KVT_LSH_MATCH_INT_COUNT);
  const int64_t tables = call.integer(KVT_LSH_MATCH_INT_TABLES);
  const int64_t hashes = call.integer(KVT_LSH_MATCH_INT_HASHES);
  const int64_t collisions = call.integer(KVT_LSH_MATCH_INT_COLLISIONS);
  const int64_t lists = call.integer(KVT_LSH_MATCH_INT_LISTS);
  const int64_t code_stride = call.integer(KVT_LSH_MATCH_INT_CODE_STRIDE);
  const int64_t id_stride = call.integer(KVT_LSH_MATCH_INT_ID_STRIDE);
  if (rows < 1 || group < 1 || count < 1 || tables < 1 || lists < 1 || hashes < 1 || hashes > 16)
    return fail(KVT_INVALID, "lsh-match: expected rows, group, count, tables and lists 1 or more and hashes 1 to 16");
  if (collisions < 1 || collisions > 2) return fail(KVT_INVALID, "lsh-match: expected collisions 1 or 2");
  const uint16_t* codes = call.at<const uint16_t>(KVT_LSH_MATCH_REF_CODES);
  const uint32_t* starts = call.at<const uint32_t>(KVT_LSH_MATCH_REF_STARTS);
  const uint32_t* postings = call.at<const uint32_t>(KVT_LSH_MATCH_REF_POSTINGS);
  uint32_t* ids = call.at<uint32_t>(KVT_LSH_MATCH_REF_IDS);
  uint32_t* counts = call.at<uint32_t>(KVT_LSH_MATCH_REF_COUNTS);
  const int64_t bounds = (int64_t{1} << hashes) + 1;
  std::atomic<bool> starved = false;
  call.threads.run(rows * group, [&](int64_t from, int64_t to) {
    static thread_local Counts met;
    if (!met.hold(count)) {
      starved = true;
      return;
    }
    for (int64_t query = from; query < to; query++) {
      const int64_t row = query / group, first = row % lists * tables;
      const Lookup lookup{codes + row * tables * code_stride + query % group, starts + first * bounds,
                          postings + first * count, count, tables, bounds, code_stride};
      met.clear();
      lookup.count_tables(met, static_cast<uint8_t>(collisions));
      counts[query] = met.collect(static_cast<uint8_t>(collisions), ids + query * id_stride);
    }
  });
  if (starved) return fail(KVT_OUT_OF_HOST_MEMORY, "lsh-match: no memory for the counts of a thread");
  return KVT_OK;
}

KVT_CPU_KERNEL(KVT_LSH_MATCH, lsh_match);

}  // namespace
