// tiercel._native: OfflineEngine and RequestSet for Python. What takes time runs without the interpreter's
// lock; values cross as plain tuples, which tiercel/ makes vLLM's classes of.
#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/string_view.h>
#include <nanobind/stl/unique_ptr.h>
#include <nanobind/stl/vector.h>

#include <condition_variable>
#include <thread>

#include "api/openai_writer.h"
#include "base/log.h"
#include "options/option_table.h"
#include "serving/offline_engine.h"
#include "serving/request_set.h"
#include "serving/version.h"

namespace nb = nanobind;

namespace tiercel::python {
namespace {

using serving::OfflineEngine;
using serving::RequestSet;

// The user's fault is a ValueError in the words that the server, or the command line, has for it.
[[noreturn]] void Raise(const Status& status) {
  const bool is_users =
      status.code() == StatusCode::kInvalidArgument || status.code() == StatusCode::kNotFound;
  if (is_users) throw nb::value_error(status.message().c_str());
  throw std::runtime_error(status.message());
}

[[noreturn]] void Raise(const api::ApiError& error) {
  if (error.http_status < 500) throw nb::value_error(error.message.c_str());
  throw std::runtime_error(error.message);
}

// What `work` gives, computed without the lock.
template <typename Work>
auto Unlocked(Work&& work) {
  auto result = [&] {
    const nb::gil_scoped_release release;
    return work();
  }();
  if (!result) Raise(result.error());
  return std::move(*result);
}

// An engine that may be closed while Python still has the object.
struct Engine {
  std::shared_ptr<OfflineEngine> loaded;

  // Kept for as long as the caller uses it, whoever closes this meanwhile.
  std::shared_ptr<OfflineEngine> Get() const {
    if (loaded == nullptr) throw std::runtime_error("the engine has been shut down");
    return loaded;
  }
  // What runs on it keeps it; the last one ends its threads.
  void Close() {
    const nb::gil_scoped_release release;
    loaded.reset();
  }
};

// Loads on a thread of its own, so that the caller's can look at signals meanwhile.
class Loader {
 public:
  Loader(std::vector<std::string> words, std::string program)
      : thread_([this, words = std::move(words), program = std::move(program)] {
          auto loaded = Load(words, program);
          const std::lock_guard lock(mutex_);
          result_ = std::move(loaded);
          done_ = true;
          changed_.notify_all();
        }) {}
  ~Loader() {
    const nb::gil_scoped_release release;
    stop_ = true;
    thread_.join();
  }

  bool Wait(double seconds) {
    const nb::gil_scoped_release release;
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, std::chrono::duration<double>(seconds), [&] { return done_; });
  }

  // Once, when Wait has said so.
  Engine Take() {
    if (!result_) Raise(result_.error());
    return {std::move(*result_)};
  }

 private:
  Expected<std::shared_ptr<OfflineEngine>> Load(const std::vector<std::string>& words,
                                                const std::string& program) {
    try {
      return OfflineEngine::Load(words, program, ReadEnviron(), &stop_);
    } catch (const std::exception& error) {
      return Unexpected(Internal("{}", error.what()));
    }
  }

  std::atomic<bool> stop_ = false;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool done_ = false;
  Expected<std::shared_ptr<OfflineEngine>> result_;
  std::thread thread_;  // last: it uses all others
};

// [(token, log-probability, rank), …]
nb::list ToList(std::span<const engine::TokenLogprob> top) {
  nb::list list;
  for (const engine::TokenLogprob& entry : top) {
    list.append(nb::make_tuple(entry.token, static_cast<double>(entry.logprob), entry.rank));
  }
  return list;
}

template <typename Value>
nb::object ListOf(const std::vector<Value>& values) {
  nb::list list;
  for (const Value& value : values) list.append(value);
  return list;
}

nb::object StopReason(const api::OutputFinish& finish) {
  if (const auto* token = std::get_if<int32_t>(&finish.stop)) return nb::int_(*token);
  if (const auto* text = std::get_if<std::string>(&finish.stop)) return nb::str(text->c_str(), text->size());
  return nb::none();
}

// (text, token_ids, logprobs, finish_reason, stop_reason) of what is new
nb::tuple ToTuple(const serving::ChoiceNews& choice) {
  nb::list ids, logprobs;
  for (const engine::OutputToken& token : choice.tokens) {
    ids.append(token.token);
    logprobs.append(ToList(token.top));
  }
  nb::object reason = nb::none(), stop = nb::none();
  if (choice.finish) {
    const std::string_view name = api::FinishName(choice.finish->end);
    reason = nb::str(name.data(), name.size());
    stop = StopReason(*choice.finish);
  }
  return nb::make_tuple(nb::str(choice.text.c_str(), choice.text.size()), ids, logprobs, reason, stop);
}

// (done, prompt_token_ids, cached_tokens, prompt_logprobs, choices, body)
nb::tuple Take(RequestSet& set, int64_t number) {
  const serving::RequestNews news = Unlocked([&] { return set.Take(number); });
  nb::object cached = nb::none(), prompt_logprobs = nb::none();
  if (news.prompt_info != nullptr) {
    cached = nb::int_(news.prompt_info->cached_tokens);
    nb::list list;
    for (const auto& top : news.prompt_info->prompt_logprobs) list.append(ToList(top));
    prompt_logprobs = list;
  }
  nb::list choices;
  for (const serving::ChoiceNews& choice : news.choices) choices.append(ToTuple(choice));
  return nb::make_tuple(news.done, ListOf(news.prompt_token_ids), cached, prompt_logprobs, choices,
                        nb::str(news.body.c_str(), news.body.size()));
}

// What generation_config.json, or --override-generation-config, says of sampling.
nb::dict SamplingDefaults(const Engine& engine) {
  const api::SamplingDefaults& from = engine.Get()->sampling_defaults();
  nb::dict defaults;
  // A float is the number that was written, not its nearest double.
  const auto set = [&](const char* name, const auto& value) {
    if (!value) return;
    if constexpr (std::is_same_v<decltype(*value), const float&>) {
      defaults[name] = std::stod(fmt::format("{}", *value));
    } else {
      defaults[name] = *value;
    }
  };
  set("temperature", from.temperature);
  set("top_p", from.top_p);
  set("min_p", from.min_p);
  set("top_k", from.top_k);
  set("repetition_penalty", from.repetition_penalty);
  set("presence_penalty", from.presence_penalty);
  set("frequency_penalty", from.frequency_penalty);
  set("max_tokens", from.max_new_tokens);
  return defaults;
}

const char* NameOf(options::Kind kind) {
  switch (kind) {
    case options::Kind::kSwitch: return "switch";
    case options::Kind::kFlag: return "flag";
    case options::Kind::kStrings:
    case options::Kind::kInts: return "words";
    case options::Kind::kJson: return "json";
    case options::Kind::kJsonList: return "json_list";
    case options::Kind::kString:
    case options::Kind::kInt:
    case options::Kind::kHumanInt:
    case options::Kind::kFloat: break;
  }
  return "word";
}

// {name: (kind, group)} of every flag of `tiercel serve`.
nb::dict Options() {
  nb::dict all;
  for (const options::OptionGroup& group : options::ServeOptionTable().groups()) {
    for (const options::OptionSpec& spec : group.options) {
      const std::string name(spec.name());
      all[name.c_str()] = nb::make_tuple(NameOf(spec.kind), group.name);
    }
  }
  return all;
}

void BindEngine(nb::module_& module) {
  nb::class_<Engine>(module, "Engine", nb::is_weak_referenceable())
      .def("close", &Engine::Close)
      .def_prop_ro("closed", [](const Engine& e) { return e.loaded == nullptr; })
      .def_prop_ro("max_model_len", [](const Engine& e) { return e.Get()->info().max_model_len; })
      .def_prop_ro("pools", [](const Engine& e) { return e.Get()->info().pooling.has_value(); })
      .def_prop_ro("sampling_defaults", &SamplingDefaults)
      .def("tokenize", [](const Engine& e, std::string_view body) {
        return Unlocked([&, loaded = e.Get()] { return loaded->Tokenize(body); });
      })
      .def("render", [](const Engine& e, std::string_view body) {
        return Unlocked([&, loaded = e.Get()] { return loaded->Render(body); });
      })
      .def("encode", [](const Engine& e, std::string_view text, bool add_special) {
        return Unlocked([&, loaded = e.Get()] {
          return loaded->info().tokenizer->Encode(text, add_special);
        });
      })
      .def("decode", [](const Engine& e, const std::vector<int32_t>& ids, bool skip_special) {
        return e.Get()->info().tokenizer->Decode(ids, skip_special);
      })
      .def("token_string", [](const Engine& e, int32_t id) {
        return std::string(e.Get()->info().tokenizer->TokenString(id));
      })
      .def("token_id", [](const Engine& e, std::string_view token) {
        return e.Get()->info().tokenizer->TokenToId(token);
      })
      .def("is_special", [](const Engine& e, int32_t id) { return e.Get()->info().tokenizer->IsSpecial(id); })
      .def_prop_ro("vocab_size", [](const Engine& e) { return e.Get()->info().tokenizer->vocab_size(); })
      .def_prop_ro("eos", [](const Engine& e) { return e.Get()->info().tokenizer->eos(); })
      .def_prop_ro("bos", [](const Engine& e) { return e.Get()->info().tokenizer->bos(); })
      .def("reset_prefix_cache", [](const Engine& e) {
        const std::shared_ptr<OfflineEngine> kept = e.Get();
        const nb::gil_scoped_release release;  // it waits for the engine's thread
        return kept->engine().ResetPrefixCache();
      })
      .def("sleep", [](const Engine& e) {
        const std::shared_ptr<OfflineEngine> kept = e.Get();
        const nb::gil_scoped_release release;
        return kept->engine().Sleep(/*abort=*/true);
      })
      .def("wake_up", [](const Engine& e) { e.Get()->engine().WakeUp(); })
      .def_prop_ro("sleeping", [](const Engine& e) { return e.Get()->engine().sleeping(); });

  nb::class_<Loader>(module, "Loader")
      .def(nb::init<std::vector<std::string>, std::string>())
      .def("wait", &Loader::Wait)
      .def("take", &Loader::Take);
}

void BindRequestSet(nb::module_& module) {
  nb::class_<RequestSet>(module, "RequestSet")
      .def("__init__", [](RequestSet* self, const Engine& engine) {
        new (self) RequestSet(engine.Get());
      })
      .def("submit", [](RequestSet& set, std::string_view path, std::string_view body) {
        return Unlocked([&] { return set.Submit(path, body); });
      })
      .def("wait", [](RequestSet& set, double seconds) {
        const nb::gil_scoped_release release;
        return set.Wait(seconds);
      })
      .def("run", [](RequestSet& set, double seconds) { return Unlocked([&] { return set.Run(seconds); }); })
      .def("take", &Take)
      .def("drop", [](RequestSet& set, int64_t number) {
        const nb::gil_scoped_release release;
        set.Drop(number);
      })
      .def("event_fd", &RequestSet::EventFd);
}

}  // namespace
}  // namespace tiercel::python

NB_MODULE(_native, module) {
  module.attr("version") = TIERCEL_VERSION;
  module.def("options", &tiercel::python::Options);
  tiercel::python::BindEngine(module);
  tiercel::python::BindRequestSet(module);
}
