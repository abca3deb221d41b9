// The C ABI of a kernel backend: opaque context, buffers by id, lists of calls. Implemented by the CPU backend (linked
// into the addon) and by the CUDA backend (a shared library that is opened at run time). Raw pointers and plain
// integers only, no exceptions across it. Every function returns a status; kvt_message() has the line to show.
#ifndef KVTIER_ABI_H
#define KVTIER_ABI_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

// Raised with every incompatible change; the table of calls has its own digest (KVT_CALLS_DIGEST).
#define KVT_ABI_VERSION 2

typedef enum kvt_status {
  KVT_OK = 0,
  KVT_INVALID = 1,
  KVT_NO_DEVICE = 2,
  KVT_NO_DRIVER = 3,
  KVT_DRIVER_TOO_OLD = 4,
  KVT_OUT_OF_DEVICE_MEMORY = 5,
  KVT_OUT_OF_HOST_MEMORY = 6,
  KVT_UNSUPPORTED = 7,
  KVT_FAULT = 8,
  KVT_IO = 9
} kvt_status;

// Order as in calls.ts.
typedef enum kvt_stream { KVT_COMPUTE, KVT_H2D, KVT_D2H, KVT_CPU, KVT_NVME, KVT_STREAMS } kvt_stream;
typedef enum kvt_tier { KVT_HBM, KVT_DRAM, KVT_PAGEABLE, KVT_NVME_FILE } kvt_tier;
// Order as in backend.ts.
typedef enum kvt_fill_kind {
  KVT_NORMAL_F32, KVT_NORMAL_BF16, KVT_NORMAL_F16, KVT_BYTES, KVT_POISON, KVT_ZERO
} kvt_fill_kind;

// Order as COPY_MODES and ROW_MODES in calls.ts.
typedef enum kvt_copy_mode { KVT_COPY_DMA, KVT_COPY_BATCH, KVT_COPY_2D, KVT_COPY_KERNEL } kvt_copy_mode;
typedef enum kvt_row_mode { KVT_ROWS_KERNEL, KVT_ROWS_DMA, KVT_ROWS_BATCH, KVT_ROWS_STAGED } kvt_row_mode;

#define KVT_MAX_AFTER 6
#define KVT_MAX_REFS 12
#define KVT_MAX_INTS 16
#define KVT_MAX_REALS 4

// One kernel call, 336 bytes. Absent refs and unused `after` are -1.
typedef struct kvt_call {
  int32_t kernel;  // position in the table of calls.generated.h
  int32_t stream;
  int32_t after[KVT_MAX_AFTER];
  int32_t buffer[KVT_MAX_REFS];
  uint64_t offset[KVT_MAX_REFS];
  int64_t ints[KVT_MAX_INTS];
  double reals[KVT_MAX_REALS];
} kvt_call;

typedef struct kvt_run_options {
  int32_t warmups;
  int32_t repeats;
  int32_t inner;
  int32_t per_call;
  int32_t graph;
  int32_t reserved;
  uint64_t flush_bytes;
} kvt_run_options;

// Functions of one context are called one at a time, from any thread.
// Caller's arrays: total_ns [repeats]; start_ns and end_ns [repeats * calls] or NULL.
typedef struct kvt_run_times {
  double* total_ns;
  double* start_ns;
  double* end_ns;
  int32_t used_graph;
} kvt_run_times;

typedef struct kvt_context kvt_context;

int32_t kvt_abi_version(void);
const char* kvt_calls_digest(void);
// Line that says what went wrong in the calling thread's last failed function.
const char* kvt_message(void);
// Describes the device as one JSON object with the fields of `Device` (backend.ts); also says whether it can be used.
kvt_status kvt_probe(char* json, size_t capacity);
// `options` is JSON: { "file": what paths of the nvme tier begin with, "threads": of a host stream, 0 = one a core,
// "queueDepth": requests in flight at a file, "level": highest instruction set level of the CPU backend,
// "fences": 1 = its memory ends where untouchable pages begin }.
kvt_status kvt_open(const char* options, kvt_context** context);
void kvt_close(kvt_context* context);
kvt_status kvt_allocate(kvt_context* context, int32_t tier, uint64_t bytes, int32_t* buffer);
kvt_status kvt_free(kvt_context* context, int32_t buffer);
kvt_status kvt_write(kvt_context* context, int32_t buffer, uint64_t offset, const void* data, uint64_t bytes);
kvt_status kvt_read(kvt_context* context, int32_t buffer, uint64_t offset, void* data, uint64_t bytes);
kvt_status kvt_fill(kvt_context* context, int32_t buffer, uint64_t offset, uint64_t bytes, int32_t fill, uint64_t seed);
kvt_status kvt_run(kvt_context* context, const kvt_call* calls, int32_t count, const kvt_run_options* options,
                   kvt_run_times* times);
// Numbers of the machine now, as a JSON object.
kvt_status kvt_sense(kvt_context* context, char* json, size_t capacity);

#ifdef __cplusplus
}
#endif
#endif
