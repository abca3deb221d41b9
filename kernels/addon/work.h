// Work off the main thread: a body that returns an Outcome, a promise that resolves to what `result` makes of it or
// rejects with a KernelError.
#ifndef KVTIER_ADDON_WORK_H
#define KVTIER_ADDON_WORK_H

#include <napi.h>

#include <functional>
#include <utility>
#include <vector>

#include "backend.h"

namespace kvt {

// What the addon keeps for one JavaScript environment.
struct Instance {
  Napi::FunctionReference error;
};

// KernelError of backend.ts for a failed outcome.
Napi::Value make_error(Napi::Env env, const Outcome& outcome);
// Throws it, if the outcome is a failure; says whether it was.
bool throw_failure(Napi::Env env, const Outcome& outcome);

class Work final : public Napi::AsyncWorker {
 public:
  using Body = std::function<Outcome()>;
  using Result = std::function<Napi::Value(Napi::Env)>;

  // `keep`: objects whose memory the body uses.
  static Napi::Value start(Napi::Env env, std::vector<Napi::Value> keep, Body body, Result result = nullptr);

 protected:
  void Execute() override;
  void OnOK() override;
  void OnError(const Napi::Error& error) override { deferred_.Reject(error.Value()); }

 private:
  Work(Napi::Env env, Body body, Result result);
  Napi::Promise::Deferred deferred_;
  Body body_;
  Result result_;
  Outcome outcome_;
  std::vector<Napi::Reference<Napi::Value>> kept_;
};

}  // namespace kvt

#endif
