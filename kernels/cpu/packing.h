// Rows that lie anywhere, packed by threads into a buffer piece by piece, for a copy engine that sends what is packed
// meanwhile. Threads take short runs of packed bytes in turn, over the ends of pieces, so that none waits for another.
#ifndef KVTIER_CPU_PACKING_H
#define KVTIER_CPU_PACKING_H

#include <functional>
#include <vector>

#include "rows.h"

namespace kvt {

// Pieces of a packing, of whole rows: short at either end, so that sending begins early and ends soon after packing does.
struct PackingPlan {
  // At most `most_pieces` (1, or 16 and more) of them.
  static PackingPlan of(int64_t rows, int64_t row_bytes, int most_pieces);

  int pieces() const { return static_cast<int>(first_row.size()) - 1; }
  int64_t rows_of(int piece) const { return first_row[piece + 1] - first_row[piece]; }
  int64_t bytes_of(int piece) const { return rows_of(piece) * row_bytes; }
  // Where a piece begins in the buffer, bytes.
  int64_t place_of(int piece) const { return first_row[piece] * row_bytes; }

  int64_t row_bytes = 0;
  // Of each piece, then the end.
  std::vector<int64_t> first_row;
};

// Packs the rows of `from`, which lie in memory, into `to`. `packed(piece)` is told by any thread, in any order. Each row
// is looked at as it is packed: one outside its buffer is left out, and then this returns KVT_INVALID.
kvt_status pack_rows(const char* kernel, const PackingPlan& plan, const Rows& from, char* to, Threads& threads,
                     const std::function<void(int piece)>& packed);

}  // namespace kvt

#endif
