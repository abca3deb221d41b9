// One tile of decode attention on the CPU: where its rows lie, products with the queries, weights, sums of values. A tile
// stays in the L1; rows of bf16 are widened as they are read, others are decoded into the thread's memory first.
#ifndef KVTIER_CPU_ATTEND_TILE_H
#define KVTIER_CPU_ATTEND_TILE_H

#include <atomic>
#include <new>

#include "lanes.h"
#include "pages.h"

namespace kvt {
// Compiled once a level: internal linkage, so that the linker can't mix levels.
namespace {

// Tokens of a tile. Rows that are decoded stay in the first cache; those that are read where they lie come from memory,
// and the further ahead they are asked for, the more of them are on their way: 16 threads of an H100's host attend to rows
// of 512 bytes at 70 GB/s with tiles of 32, 75 with 64, 104 with 128, where reading in order reaches 134.
constexpr int kDecodedTile = 32;
constexpr int kDirectTile = 128;
constexpr int kTile = kDirectTile;
// More heads than these read a tile again, which should then be near.
constexpr int kHeadsAtOnce = 4;

struct Attention {
  const uint8_t* q;
  const uint8_t* pool;
  const uint32_t* table;
  const uint32_t* offsets;
  const uint32_t* tokens;
  const uint32_t* mask;
  void* out;
  // Null: none are left.
  float* logits;
  int64_t rows, page_tokens, page_stride;
  // Pages in the pool; where an entry beyond them is put down.
  uint64_t pages;
  std::atomic<int64_t>* outside;
  int group, dim, width, tile, format, out_type, parts, part;
  bool q_f16;
  float scale_log2;
  PageSide keys, values;
};

constexpr int64_t padded(int64_t count, int64_t to) { return (count + to - 1) / to * to; }

// Query heads are taken in fours; one alone, as where heads choose their own tokens, by itself.
inline int64_t heads_of(const Attention& a) { return a.group == 1 ? 1 : padded(a.group, 4); }

// Sums of a run: o [heads, width], then maxima in log2, then weights' sums. Heads are padded to fours.
struct Sums {
  float* o;
  float* most;
  float* sum;
};

inline int64_t sums_of(const Attention& a) { return heads_of(a) * (a.width + 2); }

Sums sums_at(const Attention& a, float* memory, int64_t run) {
  const int64_t heads = heads_of(a);
  float* o = memory + run * sums_of(a);
  return {o, o + heads * a.width, o + heads * (a.width + 1)};
}

// Memory that stays with its thread from call to call.
struct Kept {
  float* memory = nullptr;
  int64_t room = 0;
  ~Kept() { delete[] memory; }

  // Null where there is none.
  float* of(int64_t count) {
    if (count > room) {
      delete[] memory;
      memory = new (std::nothrow) float[count]();
      room = memory == nullptr ? 0 : count;
    }
    return memory;
  }
};

// One thread's queries, its tile, and the sums of the run that it is at: beside other threads' they would share lines.
struct Scratch {
  float *q, *k, *v, *s;
  Sums sums;

  explicit Scratch(const Attention& a) {
    static thread_local Kept kept;
    const int64_t heads = heads_of(a), tile = static_cast<int64_t>(kDecodedTile) * a.width;
    q = kept.of(heads * a.width + 2 * tile + heads * kTile + sums_of(a));
    k = q + heads * a.width;
    v = k + tile;
    s = v + tile;
    sums = sums_at(a, s + heads * kTile, 0);
  }
};

// Where the tokens of a tile lie, and which heads read them.
struct Tile {
  int tokens = 0;
  uint32_t reads[kTile];
  const uint8_t* pages[kTile];
  int64_t places[kTile];
  // Rows of the keys and of the values.
  const uint8_t* keys[kTile];
  const uint8_t* values[kTile];
  // Where the first head's logits go, and how far apart those of heads lie.
  float* logits = nullptr;
  int64_t logits_apart = 0;
};

// The tile that is computed and the one that comes, which turn and are not copied: 5 KB in the nearest cache each.
class TilePair {
 public:
  Tile& now() { return tiles_[at_]; }
  Tile& next() { return tiles_[1 - at_]; }
  void turn() { at_ = 1 - at_; }

 private:
  Tile tiles_[2];
  int at_ = 0;
};

// False, and the entry, where a page is not in the pool: the table is data.
bool locate(const Attention& a, int64_t row, int64_t first, int64_t to, Tile& tile) {
  tile.tokens = static_cast<int>(std::min<int64_t>(a.tile, to - first));
  const int64_t key_bytes = a.keys.half.row_bytes(a.dim), value_bytes = a.values.half.row_bytes(a.dim);
  int64_t entry = a.offsets[row] + first / a.page_tokens, place = first % a.page_tokens;
  if (a.logits != nullptr) {
    tile.logits = a.logits + a.offsets[row] * a.page_tokens * a.group + first;
    tile.logits_apart = (a.offsets[row + 1] - a.offsets[row]) * a.page_tokens;
  }
  for (int t = 0; t < tile.tokens; t++, place++) {
    if (place == a.page_tokens) {
      entry++;
      place = 0;
    }
    if (a.table[entry] >= a.pages) {
      *a.outside = entry;
      return false;
    }
    tile.pages[t] = a.pool + a.table[entry] * a.page_stride;
    tile.places[t] = place;
    tile.keys[t] = tile.pages[t] + a.keys.rows + place * key_bytes;
    tile.values[t] = tile.pages[t] + a.values.rows + place * value_bytes;
    tile.reads[t] = a.mask == nullptr ? ~0u : a.mask[entry];
  }
  return true;
}

// Into the core's second cache: the first holds no coming tile beside this one, and waits for fewer lines.
constexpr int kNearCache = 2;

// Rows of the coming tile, which lie anywhere, are asked for while this one is computed, a few at a time, as many as a core
// can have on their way: half of its tokens with the keys of this one, half with the values. Key and value of a token are
// asked for together: where they lie side by side, they share a page's translation and the processor's own prefetches.
// Inlined in any case: GCC drops calls of functions that do nothing else.
struct Ahead {
  const Tile& tile;
  int key_bytes, value_bytes, first;

  [[gnu::always_inline]] static void fetch_row(const uint8_t* row, int bytes) {
    for (int line = 0; line < bytes; line += 64) __builtin_prefetch(row + line, 0, kNearCache);
  }
  // As token t of this tile is computed on.
  [[gnu::always_inline]] void fetch(int t) const {
    const int coming = first + t / 2;
    if (t % 2 == 1 || coming >= tile.tokens) return;
    fetch_token(coming);
  }
  // From the first on.
  void fetch_all() const {
    for (int t = first; t < tile.tokens; t++) fetch_token(t);
  }
  [[gnu::always_inline]] void fetch_token(int t) const {
    fetch_row(tile.keys[t], key_bytes);
    fetch_row(tile.values[t], value_bytes);
  }
};

inline Ahead coming(const Attention& a, const Tile& tile, int first) {
  return {tile, a.keys.half.row_bytes(a.dim), a.values.half.row_bytes(a.dim), first};
}

// Rows of a tile as pairs of registers: decoded floats, `width` apart, or bf16 where they lie. A pair of bf16 is the even
// numbers and the odd ones of its place, since that takes no shuffle: queries and sums are kept in the same order.
struct Pair {
  Lanes first, second;
};
constexpr int kPair = 2 * kLanes;

struct Decoded {
  const float* rows;
  int width;
  Pair at(int t, int d) const { return {lanes_at(rows + t * width + d), lanes_at(rows + t * width + d + kLanes)}; }
};

struct Direct {
  const uint8_t* const* rows;
  Pair at(int t, int d) const {
    typedef uint32_t Words __attribute__((vector_size(4 * kLanes), aligned(2), may_alias));
    const Words words = *reinterpret_cast<const Words*>(rows[t] + 2 * d);
    const Words even = words << 16, odd = words & 0xffff0000u;
    return {reinterpret_cast<const Lanes&>(even), reinterpret_cast<const Lanes&>(odd)};
  }
};

// Where rows have the width that queries and sums are padded to, at every level: numbers past a row are another's, or none.
inline bool reads_direct(const Attention& a) { return a.format == FORMAT_BF16 && a.dim == a.width; }

// Where number d of a row stands in queries and sums.
inline int place_in(const Attention& a, int d) {
  if (!reads_direct(a)) return d;
  return d / kPair * kPair + d % 2 * kLanes + d % kPair / 2;
}

// s [heads, kTile] at token t = products of `heads` queries with `count` rows from there: enough sums side by side that
// none waits for itself.
template <int heads, int count, typename Rows>
[[gnu::always_inline]] inline void multiply_rows(const float* q, int width, const Rows& rows, int t, float* s) {
  Lanes sums[count][heads] = {};
  for (int d = 0; d < width; d += kPair) {
    for (int i = 0; i < count; i++) {
      const Pair x = rows.at(t + i, d);
      for (int h = 0; h < heads; h++) {
        sums[i][h] += lanes_at(q + h * width + d) * x.first;
        sums[i][h] += lanes_at(q + h * width + d + kLanes) * x.second;
      }
    }
  }
  for (int i = 0; i < count; i++)
    for (int h = 0; h < heads; h++) s[h * kTile + t + i] = total(sums[i][h]);
}

template <int heads, typename Rows>
void multiply(const float* q, int width, const Rows& rows, int tokens, float* s, const Ahead& ahead) {
  constexpr int kRows = heads == 1 ? 4 : 2;
  int t = 0;
  for (; t + kRows <= tokens; t += kRows) {
    for (int i = 0; i < kRows; i++) ahead.fetch(t + i);
    multiply_rows<heads, kRows>(q, width, rows, t, s);
  }
  for (; t < tokens; t++) {
    ahead.fetch(t);
    multiply_rows<heads, 1>(q, width, rows, t, s);
  }
}

// o [heads, width] from number d += p [heads, kTile] times `pairs` pairs of the rows' numbers.
template <int heads, int pairs, typename Rows>
[[gnu::always_inline]] inline void accumulate_pairs(const float* p, int width, const Rows& rows, int tokens, float* o,
                                                    int d, const Ahead& ahead) {
  Pair sums[pairs][heads];
  for (int i = 0; i < pairs; i++)
    for (int h = 0; h < heads; h++)
      sums[i][h] = {lanes_at(o + h * width + d + i * kPair), lanes_at(o + h * width + d + i * kPair + kLanes)};
  for (int t = 0; t < tokens; t++) {
    if (d == 0) ahead.fetch(t);
    for (int i = 0; i < pairs; i++) {
      const Pair value = rows.at(t, d + i * kPair);
      for (int h = 0; h < heads; h++) {
        sums[i][h].first += p[h * kTile + t] * value.first;
        sums[i][h].second += p[h * kTile + t] * value.second;
      }
    }
  }
  for (int i = 0; i < pairs; i++)
    for (int h = 0; h < heads; h++) {
      *reinterpret_cast<Lanes*>(o + h * width + d + i * kPair) = sums[i][h].first;
      *reinterpret_cast<Lanes*>(o + h * width + d + i * kPair + kLanes) = sums[i][h].second;
    }
}

// o [heads, width] += p [heads, kTile] times the rows, as many sums at a time as registers hold.
template <int heads, typename Rows>
void accumulate(const float* p, int width, const Rows& rows, int tokens, float* o, const Ahead& ahead) {
  constexpr int kPairs = 4 / heads;
  int d = 0;
  for (; d + kPairs * kPair <= width; d += kPairs * kPair)
    accumulate_pairs<heads, kPairs>(p, width, rows, tokens, o, d, ahead);
  for (; d < width; d += kPair) accumulate_pairs<heads, 1>(p, width, rows, tokens, o, d, ahead);
}

// What heads don't read, and what lies beyond the tile's tokens, is left out of the logits.
inline void mask_logits(const uint32_t* reads, int tokens, int h, float* row) {
  for (int t = 0; t < tokens; t++) row[t] = reads[t] >> h & 1 ? row[t] : -INFINITY;
}

// Logits of a tile, in powers of two, of what heads read.
inline void leave_logits(const Attention& a, const Tile& tile, const float* s) {
  for (int h = 0; h < a.group; h++)
    for (int t = 0; t < tile.tokens; t++)
      if (tile.reads[t] >> h & 1) tile.logits[h * tile.logits_apart + t] = s[h * kTile + t] * 0.693147180559945f;
}

// Logits of a tile, in powers of two, to weights relative to the maxima so far.
void weigh(const Attention& a, const Sums& sums, const uint32_t* reads, int tokens, float* s) {
  const int padded_tokens = static_cast<int>(padded(tokens, kLanes));
  for (int h = 0; h < a.group; h++) {
    float* row = s + h * kTile;
    if (a.mask != nullptr) mask_logits(reads, tokens, h, row);
    std::fill(row + tokens, row + padded_tokens, -INFINITY);
    Lanes tops = lanes_at(row);
    for (int t = kLanes; t < padded_tokens; t += kLanes) tops = lanes_at(row + t) > tops ? lanes_at(row + t) : tops;
    const float top = std::max(sums.most[h], most_of(tops));
    if (top == -INFINITY) {
      std::fill(row, row + tokens, 0.0f);
      continue;
    }
    if (top > sums.most[h]) {
      const float keep = sums.most[h] == -INFINITY ? 0 : exp2_of(Lanes{} + (sums.most[h] - top))[0];
      for (int d = 0; d < a.width; d++) sums.o[h * a.width + d] *= keep;
      sums.sum[h] *= keep;
      sums.most[h] = top;
    }
    Lanes sum{};
    for (int t = 0; t < padded_tokens; t += kLanes) {
      const Lanes weights = exp2_of(lanes_at(row + t) - top);
      *reinterpret_cast<Lanes*>(row + t) = weights;
      sum += weights;
    }
    sums.sum[h] += total(sum);
  }
}

template <typename Keys, typename Values>
void attend_tile(const Attention& a, const Tile& tile, const Tile& next, const Keys& keys, const Values& values,
                 const Scratch& scratch) {
  const Sums& sums = scratch.sums;
  const int width = a.width, tokens = tile.tokens, half = (tokens + 1) / 2;
  static constexpr Tile none{};
  // The first heads' pass brings the rows, later ones find them.
  const auto ahead = [&](int h, int first) { return coming(a, h == 0 ? next : none, first); };
  if (a.group == 1) {
    multiply<1>(scratch.q, width, keys, tokens, scratch.s, ahead(0, 0));
    if (tile.logits != nullptr) leave_logits(a, tile, scratch.s);
    weigh(a, sums, tile.reads, tokens, scratch.s);
    accumulate<1>(scratch.s, width, values, tokens, sums.o, ahead(0, half));
    return;
  }
  for (int h = 0; h < a.group; h += 4)
    multiply<4>(scratch.q + h * width, width, keys, tokens, scratch.s + h * kTile, ahead(h, 0));
  if (tile.logits != nullptr) leave_logits(a, tile, scratch.s);
  weigh(a, sums, tile.reads, tokens, scratch.s);
  for (int h = 0; h < a.group; h += 4)
    accumulate<4>(scratch.s + h * kTile, width, values, tokens, sums.o + h * width, ahead(h, half));
}

}  // namespace
}  // namespace kvt

#endif
