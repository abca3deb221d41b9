// A backend behind abi.h as the addon holds it: its functions, from this binary (cpu) or from a library opened at run
// time, and one context of it. Functions of a context are called one at a time.
#ifndef KVTIER_ADDON_BACKEND_H
#define KVTIER_ADDON_BACKEND_H

#include <memory>
#include <mutex>
#include <string>

#include "../abi.h"

namespace kvt {

struct Functions {
  decltype(&kvt_abi_version) abi_version;
  decltype(&kvt_calls_digest) calls_digest;
  decltype(&kvt_message) message;
  decltype(&kvt_probe) probe;
  decltype(&kvt_open) open;
  decltype(&kvt_close) close;
  decltype(&kvt_allocate) allocate;
  decltype(&kvt_free) free;
  decltype(&kvt_write) write;
  decltype(&kvt_read) read;
  decltype(&kvt_fill) fill;
  decltype(&kvt_run) run;
  decltype(&kvt_sense) sense;
};

// A status with its line.
struct Outcome {
  kvt_status status = KVT_OK;
  std::string message;
};

// Functions of the library at `path`, or of this binary where it is empty.
Outcome load_functions(const std::string& path, Functions* functions);

class Backend {
 public:
  Backend(const Functions& functions, kvt_context* context) : functions_(functions), context_(context) {}
  ~Backend() { close(); }

  // Calls body(functions, context) alone; the line of a failure is taken in the same thread.
  template <typename Body>
  Outcome use(const Body& body) {
    const std::lock_guard<std::mutex> lock(lock_);
    if (context_ == nullptr) return {KVT_INVALID, "the backend is closed"};
    const kvt_status status = body(functions_, context_);
    if (status == KVT_OK) return {};
    return {status, functions_.message()};
  }

  void close() {
    const std::lock_guard<std::mutex> lock(lock_);
    if (context_ != nullptr) functions_.close(context_);
    context_ = nullptr;
  }

 private:
  const Functions functions_;
  kvt_context* context_;
  std::mutex lock_;
};

}  // namespace kvt

#endif
