// Moving rows between two places, each memory or a file, each optionally through an index: what copy, gather and scatter
// have in common.
#ifndef KVTIER_CPU_ROWS_H
#define KVTIER_CPU_ROWS_H

#include "common.h"

namespace kvt {

struct Rows {
  char* memory;     // null for a file
  File* file;
  uint64_t offset;  // in the file
  uint64_t bytes;   // from there to the end
  int64_t stride;
  const uint32_t* index;  // row i lies at index[i] * stride; null: at i * stride
};

// The place of a ref of a call, without an index.
Rows rows_of(const CpuCall& call, int ref, int64_t stride);

// KVT_INVALID when a row does not lie in its buffer; `side` names the place in the line.
kvt_status check_rows(const char* kernel, const char* side, const Rows& place, int64_t rows, int64_t row_bytes);

// Moves `rows` rows of `row_bytes` bytes. Every row is checked to lie in its buffer before any is moved.
kvt_status move_rows(const char* kernel, const Rows& from, const Rows& to, int64_t rows, int64_t row_bytes,
                     Threads& threads, Threads& io);

// At most `units` of the threads (0: all).
class Limited final : public Threads {
 public:
  Limited(Threads& threads, int64_t units) : threads_(threads), units_(units) {}
  int count() const override;
  void run(int64_t count, const std::function<void(int64_t, int64_t)>& body) override;

 private:
  Threads& threads_;
  const int64_t units_;
};

}  // namespace kvt

#endif
