// See work.h.
#include "work.h"

#include <exception>
#include <memory>

namespace kvt {
namespace {

// KernelErrorCode of backend.ts, in the order of kvt_status.
const char* const codes[] = {"",
                             "invalid",
                             "no-device",
                             "no-driver",
                             "driver-too-old",
                             "out-of-device-memory",
                             "out-of-host-memory",
                             "unsupported",
                             "fault",
                             "io"};

}  // namespace

Napi::Value make_error(Napi::Env env, const Outcome& outcome) {
  const int status = outcome.status >= KVT_INVALID && outcome.status <= KVT_IO ? outcome.status : KVT_FAULT;
  return env.GetInstanceData<Instance>()->error.New(
      {Napi::String::New(env, codes[status]), Napi::String::New(env, outcome.message)});
}

bool throw_failure(Napi::Env env, const Outcome& outcome) {
  if (outcome.status == KVT_OK) return false;
  napi_throw(env, make_error(env, outcome));
  return true;
}

Work::Work(Napi::Env env, Body body, Result result)
    : Napi::AsyncWorker(env), deferred_(env), body_(std::move(body)), result_(std::move(result)) {}

Napi::Value Work::start(Napi::Env env, std::vector<Napi::Value> keep, Body body, Result result) {
  std::unique_ptr<Work> work(new Work(env, std::move(body), std::move(result)));
  for (const Napi::Value& value : keep)
    work->kept_.push_back(Napi::Reference<Napi::Value>::New(value.As<Napi::Object>(), 1));
  Napi::Promise promise = work->deferred_.Promise();
  work->Queue();
  // Deletes itself when it has ended.
  static_cast<void>(work.release());
  return promise;
}

void Work::Execute() {
  try {
    outcome_ = body_();
  } catch (const std::exception& error) {
    outcome_ = {KVT_FAULT, error.what()};
  }
}

void Work::OnOK() {
  const Napi::Env env = Env();
  if (outcome_.status != KVT_OK)
    deferred_.Reject(make_error(env, outcome_));
  else
    deferred_.Resolve(result_ ? result_(env) : env.Undefined());
}

}  // namespace kvt
