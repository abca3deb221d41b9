// Keys that share a query's code in enough tables (calls/lsh-match.ts). A query's lists lie anywhere in memory, so those of
// the tables to come are asked for ahead; which keys it has met once, and which again, is a bit each, so that the marks of
// a long context stay in the core's nearest cache.
#include <atomic>
#include <cstring>
#include <new>

#include "kernel.h"

namespace {

using namespace kvt;

// Tables by which lists are asked for ahead of their use, and their bounds ahead of that.
constexpr int64_t kTablesAhead = 4;
// Lines of a list that are asked for; the processor goes on by itself where a list is longer.
constexpr int64_t kLinesAhead = 16;
// Keys of a word of marks that are written down whether they are there or not, which takes no branch.
constexpr int kAtOnce = 4;

// Marks of a thread and the keys that they tell of; the memory is kept from call to call.
class Marks {
 public:
  ~Marks() {
    delete[] met_;
    delete[] ids_;
  }

  // Room for marks of so many keys; false where there is no memory.
  bool hold(int64_t keys) {
    words_ = (keys + 63) / 64;
    if (keys > room_) {
      delete[] met_;
      delete[] ids_;
      met_ = new (std::nothrow) uint64_t[2 * words_];
      ids_ = new (std::nothrow) uint32_t[64 * words_ + kAtOnce];
      room_ = met_ == nullptr || ids_ == nullptr ? 0 : keys;
    }
    return room_ >= keys;
  }

  void clear() { std::memset(met_, 0, sizeof(uint64_t) * static_cast<size_t>(2 * words_)); }

  template <int collisions>
  void mark(const uint32_t* keys, int64_t count) {
    uint64_t* again = met_ + words_;
    for (int64_t i = 0; i < count; i++) {
      const uint64_t bit = uint64_t{1} << (keys[i] & 63);
      uint64_t& met = met_[keys[i] >> 6];
      if (collisions == 2) again[keys[i] >> 6] |= met & bit;
      met |= bit;
    }
  }

  // Keys met `collisions` times, ascending.
  uint32_t collect(int64_t collisions, uint32_t* ids) {
    const uint64_t* found = collisions == 2 ? met_ + words_ : met_;
    uint32_t* next = ids_;
    for (int64_t at = 0; at < words_; at++) {
      uint64_t bits = found[at];
      uint32_t* const end = next + __builtin_popcountll(bits);
      do {
        for (int i = 0; i < kAtOnce; i++, bits &= bits - 1)
          next[i] = static_cast<uint32_t>(64 * at + __builtin_ctzll(bits | uint64_t{1} << 63));
        next += kAtOnce;
      } while (next < end);
      next = end;
    }
    std::memcpy(ids, ids_, sizeof(uint32_t) * static_cast<size_t>(next - ids_));
    return static_cast<uint32_t>(next - ids_);
  }

 private:
  // Bits of the keys met once, then of those met again.
  uint64_t* met_ = nullptr;
  uint32_t* ids_ = nullptr;
  int64_t words_ = 0, room_ = 0;
};

// The lists of one query: table t's begin at postings + t * count, the bounds of its codes' at starts + t * bounds.
struct Lookup {
  const uint16_t* codes;
  const uint32_t *starts, *postings;
  int64_t count, tables, bounds, code_stride;

  const uint32_t* bounds_of(int64_t table) const { return starts + table * bounds + codes[table * code_stride]; }

  template <int collisions>
  void mark_tables(Marks& marks) const {
    for (int64_t table = 0; table < tables; table++) {
      if (table + 2 * kTablesAhead < tables) __builtin_prefetch(bounds_of(table + 2 * kTablesAhead));
      if (table + kTablesAhead < tables) {
        const uint32_t* coming = bounds_of(table + kTablesAhead);
        const uint32_t* list = postings + (table + kTablesAhead) * count;
        for (int64_t line = 0; line < kLinesAhead && coming[0] + 16 * line < coming[1]; line++)
          __builtin_prefetch(list + coming[0] + 16 * line);
      }
      const uint32_t* now = bounds_of(table);
      marks.mark<collisions>(postings + table * count + now[0], now[1] - now[0]);
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
    static thread_local Marks marks;
    if (!marks.hold(count)) {
      starved = true;
      return;
    }
    for (int64_t query = from; query < to; query++) {
      const int64_t row = query / group, first = row % lists * tables;
      const Lookup lookup{codes + row * tables * code_stride + query % group, starts + first * bounds,
                          postings + first * count, count, tables, bounds, code_stride};
      marks.clear();
      if (collisions == 2) lookup.mark_tables<2>(marks);
      else lookup.mark_tables<1>(marks);
      counts[query] = marks.collect(collisions, ids + query * id_stride);
    }
  });
  if (starved) return fail(KVT_OUT_OF_HOST_MEMORY, "lsh-match: no memory for the marks of a thread");
  return KVT_OK;
}

KVT_CPU_KERNEL(KVT_LSH_MATCH, lsh_match);

}  // namespace
