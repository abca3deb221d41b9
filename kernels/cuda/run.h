// One run of a list of calls: checked and resolved once, then enqueued once an iteration.
#ifndef KVTIER_CUDA_RUN_H
#define KVTIER_CUDA_RUN_H

#include <chrono>
#include <functional>
#include <vector>

#include "machine.h"

namespace kvt {

class Run {
 public:
  Run(kvt_context* context, const kvt_call* calls, int32_t count) : context_(context), calls_(calls), count_(count) {}
  ~Run();
  // Checks every call and resolves its buffers; nothing has run when this fails.
  kvt_status plan();
  kvt_status time_total(const kvt_run_options& options, kvt_run_times* times);
  kvt_status time_calls(const kvt_run_options& options, kvt_run_times* times);

 private:
  enum class Kind { plain, recording, timed };
  struct Step {
    void* pointers[KVT_MAX_REFS];
    uint64_t bytes[KVT_MAX_REFS];
    int32_t tiers[KVT_MAX_REFS];
    File* files[KVT_MAX_REFS];
    // Calls of other streams to wait for, and who waits for this one.
    std::vector<int32_t> waits;
    bool gpu_waits = false, host_waits = false;
    // Whether the next call of its stream comes up early (launch.h).
    bool next_ahead = false;
    // Host work inside this call of a GPU stream; stands until the run ends, as a graph asks for it again.
    HostWork staged;
    // First of the words of its pieces.
    int32_t piece_words = -1;
    cudaEvent_t done = nullptr, start = nullptr, end = nullptr;
    double host_start_ns = 0, host_end_ns = 0;
  };

  kvt_status resolve(int32_t at);
  void prune_waits(int32_t at, std::vector<std::vector<int32_t>>& reached);
  kvt_status make_event(cudaEvent_t& event, bool timing);
  kvt_status reserve();
  kvt_status enqueue(Kind kind);
  kvt_status enqueue_gpu(int32_t at, Kind kind);
  // Holds the enqueueing thread until what call `at` waits for has ended.
  kvt_status await_on_host(int32_t at);
  // Gives the host threads all their calls of one iteration; they wait in words for what comes before.
  void start_host();
  void run_on_host(int32_t at, uint32_t epoch);
  // Host work inside a call of a GPU stream: lets it begin when the stream gets there; `now`: gives it to its thread.
  kvt_status stage(cudaStream_t stream, int32_t at, HostWork work, bool now);
  void start_staged(int32_t at);
  // Keeps the status and line of a thread of the host that failed.
  void note_host_failure(kvt_status status);
  kvt_status fork();
  kvt_status join();
  kvt_status record_graph();
  kvt_status time_region(int inner, double& ms);
  kvt_status replay_graph();
  kvt_status flush(uint64_t bytes);
  kvt_status flush_host();
  // Waits for the GPU and the host threads; the first thing that went wrong.
  kvt_status finish(kvt_status status);
  kvt_status signal(cudaStream_t stream, int32_t word);
  kvt_status await(cudaStream_t stream, int32_t word);
  // For a word that the host is sure to write only later.
  kvt_status await_soon(cudaStream_t stream, int32_t word);
  uint32_t* word(int32_t at) const { return context_->words + at; }
  int32_t start_word() const { return count_; }
  int32_t gate_word() const { return count_ + 1; }
  // Of host work inside call `at`: it may begin, a piece has ended.
  int32_t ready_word(int32_t at) const { return count_ + 2 + at; }
  int32_t done_word(int32_t at, int piece) const { return steps_[at].piece_words + piece; }
  int32_t most_words() const { return (2 + kHostPieces) * count_ + 2; }
  cudaStream_t origin() const { return context_->streams[origin_]; }

  kvt_context* context_;
  const kvt_call* calls_;
  int32_t count_;
  std::vector<Step> steps_;
  bool uses_[KVT_STREAMS] = {};
  int32_t last_[KVT_STREAMS] = {};
  bool uses_host_ = false, uses_pageable_ = false, one_stream_ = false;
  // Words in use; those of pieces are given out as calls turn out to have some.
  int32_t words_ = 0;
  int32_t origin_ = KVT_COMPUTE;
  cudaEvent_t start_ = nullptr, end_ = nullptr, fork_ = nullptr, join_[kGpuStreams] = {};
  // The thread that waits for it sleeps: where host threads work, a core that looks for the end is one too few.
  cudaEvent_t over_ = nullptr;
  // What words show when a call of this iteration has ended; in a graph it is part of the recorded nodes.
  uint32_t epoch_ = 0;
  // Whether the last thing on the stream is a kernel of launch.h.
  bool behind_kernel_[kGpuStreams] = {};
  cudaGraphExec_t graph_ = nullptr;
  bool stages_ = false;
  bool holds_pool_ = false;
  std::atomic<bool> abandon_{false};
  std::atomic<int32_t> host_status_{KVT_OK};
  std::mutex host_message_mutex_;
  std::string host_message_;
  std::chrono::steady_clock::time_point host_zero_[KVT_STREAMS];
};

}  // namespace kvt

#endif
