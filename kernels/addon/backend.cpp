// Opening of libraries that implement abi.h. A library stays open: CUDA's own threads may outlive every context.
#include "backend.h"

#include <dlfcn.h>

namespace kvt {
namespace {

template <typename Function>
bool find(void* library, const char* name, Function* function) {
  *function = reinterpret_cast<Function>(dlsym(library, name));
  return *function != nullptr;
}

Functions linked() {
  return {kvt_abi_version, kvt_calls_digest, kvt_message, kvt_probe, kvt_open, kvt_close, kvt_allocate,
          kvt_free,        kvt_write,        kvt_read,    kvt_fill,  kvt_run,  kvt_sense};
}

}  // namespace

Outcome load_functions(const std::string& path, Functions* functions) {
  if (path.empty()) {
    *functions = linked();
    return {};
  }
  void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    const char* reason = dlerror();
    return {KVT_UNSUPPORTED, reason == nullptr ? path + " can't be opened" : reason};
  }
  Functions& f = *functions;
  if (!find(library, "kvt_abi_version", &f.abi_version)) return {KVT_UNSUPPORTED, path + " is not a kvtier backend"};
  if (f.abi_version() != KVT_ABI_VERSION)
    return {KVT_UNSUPPORTED, path + " has version " + std::to_string(f.abi_version()) + " of the ABI, expected " +
                                 std::to_string(KVT_ABI_VERSION) + "; build it again"};
  const bool all = find(library, "kvt_calls_digest", &f.calls_digest) && find(library, "kvt_message", &f.message) &&
                   find(library, "kvt_probe", &f.probe) && find(library, "kvt_open", &f.open) &&
                   find(library, "kvt_close", &f.close) && find(library, "kvt_allocate", &f.allocate) &&
                   find(library, "kvt_free", &f.free) && find(library, "kvt_write", &f.write) &&
                   find(library, "kvt_read", &f.read) && find(library, "kvt_fill", &f.fill) &&
                   find(library, "kvt_run", &f.run) && find(library, "kvt_sense", &f.sense);
  if (!all) return {KVT_UNSUPPORTED, path + " lacks functions of the ABI; build it again"};
  return {};
}

}  // namespace kvt
