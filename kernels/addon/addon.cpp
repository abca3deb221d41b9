// The addon: abi.h for JavaScript, and nothing else. native.ts checks arguments and gives them meaning; here they become
// pointers and integers, and statuses become KernelErrors. Signatures: interface Addon in addon.ts.
#include <dlfcn.h>
#include <napi.h>

#include "backend.h"
#include "work.h"

namespace {

using namespace kvt;
using Info = Napi::CallbackInfo;
using Handle = std::shared_ptr<Backend>;

constexpr size_t kTextBytes = 1 << 16;

std::string text(const Info& info, size_t at) { return info[at].ToString().Utf8Value(); }
int64_t integer(const Info& info, size_t at) { return info[at].ToNumber().Int64Value(); }
Handle handle(const Info& info) { return *info[0].As<Napi::External<Handle>>().Data(); }

// Memory of an ArrayBuffer view.
struct Bytes {
  uint8_t* data = nullptr;
  size_t count = 0;
  explicit Bytes(const Napi::Value& value) {
    if (value.IsDataView()) {
      const Napi::DataView view = value.As<Napi::DataView>();
      data = static_cast<uint8_t*>(view.Data());
      count = view.ByteLength();
    } else if (value.IsTypedArray()) {
      const Napi::TypedArray view = value.As<Napi::TypedArray>();
      data = static_cast<uint8_t*>(view.ArrayBuffer().Data()) + view.ByteOffset();
      count = view.ByteLength();
    }
  }
  double* doubles() const { return count == 0 ? nullptr : reinterpret_cast<double*>(data); }
};

// Answers of a function that writes text.
template <typename Ask>
Outcome ask(const Functions& functions, const Ask& put, std::string* answer) {
  answer->assign(kTextBytes, '\0');
  const kvt_status status = put(answer->data(), answer->size());
  if (status != KVT_OK) return {status, functions.message()};
  answer->resize(answer->find('\0'));
  return {};
}

Napi::Value initialize(const Info& info) {
  info.Env().GetInstanceData<Instance>()->error = Napi::Persistent(info[0].As<Napi::Function>());
  return info.Env().Undefined();
}

// (library) -> Promise<{ digest, device }>
Napi::Value probe(const Info& info) {
  struct Answer {
    std::string digest, device;
  };
  const auto answer = std::make_shared<Answer>();
  return Work::start(
      info.Env(), {},
      [answer, library = text(info, 0)] {
        Functions functions;
        const Outcome loaded = load_functions(library, &functions);
        if (loaded.status != KVT_OK) return loaded;
        answer->digest = functions.calls_digest();
        return ask(functions, [&](char* to, size_t bytes) { return functions.probe(to, bytes); }, &answer->device);
      },
      [answer](Napi::Env env) -> Napi::Value {
        Napi::Object result = Napi::Object::New(env);
        result.Set("digest", answer->digest);
        result.Set("device", answer->device);
        return result;
      });
}

// (library, options) -> Promise<handle>
Napi::Value open(const Info& info) {
  const auto made = std::make_shared<Handle>();
  return Work::start(
      info.Env(), {},
      [made, library = text(info, 0), options = text(info, 1)]() -> Outcome {
        Functions functions;
        const Outcome loaded = load_functions(library, &functions);
        if (loaded.status != KVT_OK) return loaded;
        kvt_context* context = nullptr;
        const kvt_status status = functions.open(options.c_str(), &context);
        if (status != KVT_OK) return {status, functions.message()};
        *made = std::make_shared<Backend>(functions, context);
        return {};
      },
      [made](Napi::Env env) -> Napi::Value {
        return Napi::External<Handle>::New(env, new Handle(*made), [](Napi::Env, Handle* held) { delete held; });
      });
}

// (handle, tier, bytes) -> buffer
Napi::Value allocate(const Info& info) {
  int32_t buffer = -1;
  const Outcome outcome = handle(info)->use([&](const Functions& f, kvt_context* context) {
    return f.allocate(context, static_cast<int32_t>(integer(info, 1)), static_cast<uint64_t>(integer(info, 2)), &buffer);
  });
  if (throw_failure(info.Env(), outcome)) return info.Env().Undefined();
  return Napi::Number::New(info.Env(), buffer);
}

// (handle, buffer)
Napi::Value release(const Info& info) {
  throw_failure(info.Env(), handle(info)->use([&](const Functions& f, kvt_context* context) {
    return f.free(context, static_cast<int32_t>(integer(info, 1)));
  }));
  return info.Env().Undefined();
}

// (handle, buffer, offset, view) -> Promise; `read` fills the view.
template <bool writing>
Napi::Value transfer(const Info& info) {
  const Bytes bytes(info[3]);
  return Work::start(info.Env(), {info[3]},
                     [backend = handle(info), buffer = static_cast<int32_t>(integer(info, 1)),
                      offset = static_cast<uint64_t>(integer(info, 2)), bytes] {
                       return backend->use([&](const Functions& f, kvt_context* context) {
                         return writing ? f.write(context, buffer, offset, bytes.data, bytes.count)
                                        : f.read(context, buffer, offset, bytes.data, bytes.count);
                       });
                     });
}

// (handle, buffer, offset, bytes, fill, seed) -> Promise
Napi::Value fill(const Info& info) {
  return Work::start(
      info.Env(), {},
      [backend = handle(info), buffer = static_cast<int32_t>(integer(info, 1)), offset = integer(info, 2),
       bytes = integer(info, 3), kind = static_cast<int32_t>(integer(info, 4)), seed = integer(info, 5)] {
        return backend->use([&](const Functions& f, kvt_context* context) {
          return f.fill(context, buffer, static_cast<uint64_t>(offset), static_cast<uint64_t>(bytes), kind,
                        static_cast<uint64_t>(seed));
        });
      });
}

// (handle, records, options, totalNs, startNs, endNs) -> Promise<graph>
Napi::Value run(const Info& info) {
  const Bytes records(info[1]), total(info[3]), start(info[4]), end(info[5]);
  const Napi::Object given = info[2].As<Napi::Object>();
  const auto option = [&](const char* name) { return given.Get(name).ToNumber().Int64Value(); };
  const kvt_run_options options = {static_cast<int32_t>(option("warmups")),
                                   static_cast<int32_t>(option("repeats")),
                                   static_cast<int32_t>(option("inner")),
                                   static_cast<int32_t>(option("perCall")),
                                   static_cast<int32_t>(option("graph")),
                                   0,
                                   static_cast<uint64_t>(option("flushBytes"))};
  const auto graph = std::make_shared<int32_t>(0);
  return Work::start(
      info.Env(), {info[1], info[3], info[4], info[5]},
      [backend = handle(info), records, total, start, end, options, graph] {
        kvt_run_times times = {total.doubles(), start.doubles(), end.doubles(), 0};
        const Outcome outcome = backend->use([&](const Functions& f, kvt_context* context) {
          return f.run(context, reinterpret_cast<const kvt_call*>(records.data),
                       static_cast<int32_t>(records.count / sizeof(kvt_call)), &options, &times);
        });
        *graph = times.used_graph;
        return outcome;
      },
      [graph](Napi::Env env) -> Napi::Value { return Napi::Boolean::New(env, *graph != 0); });
}

// (handle) -> Promise<JSON>
Napi::Value sense(const Info& info) {
  const auto answer = std::make_shared<std::string>();
  return Work::start(
      info.Env(), {},
      [backend = handle(info), answer] {
        return backend->use([&](const Functions& f, kvt_context* context) {
          return ask(f, [&](char* to, size_t bytes) { return f.sense(context, to, bytes); }, answer.get()).status;
        });
      },
      [answer](Napi::Env env) -> Napi::Value { return Napi::String::New(env, *answer); });
}

// (handle)
Napi::Value close(const Info& info) {
  handle(info)->close();
  return info.Env().Undefined();
}

// (begins) -> whether CUDA's driver took the begin or the end of a profiled range
Napi::Value profile(const Info& info) {
  void* driver = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
  const char* name = info[0].ToBoolean() ? "cuProfilerStart" : "cuProfilerStop";
  using Tell = int (*)();
  const Tell tell = driver == nullptr ? nullptr : reinterpret_cast<Tell>(dlsym(driver, name));
  return Napi::Boolean::New(info.Env(), tell != nullptr && tell() == 0);
}

Napi::Object start(Napi::Env env, Napi::Object exports) {
  env.SetInstanceData(new Instance());
  const auto add = [&](const char* name, Napi::Value (*function)(const Info&)) {
    exports.Set(name, Napi::Function::New(env, function, name));
  };
  add("initialize", initialize);
  add("probe", probe);
  add("open", open);
  add("allocate", allocate);
  add("free", release);
  add("write", transfer<true>);
  add("read", transfer<false>);
  add("fill", fill);
  add("run", run);
  add("sense", sense);
  add("close", close);
  add("profile", profile);
  return exports;
}

NODE_API_MODULE(kvtier, start)

}  // namespace
