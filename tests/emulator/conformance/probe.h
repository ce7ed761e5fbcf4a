// A probe runs one primitive on random operands and passes its results to a Recorder, with the results expected by
// plain C++ independent of the emulator and, where bits may differ, the allowed error.
#ifndef PFM_EMULATOR_CONFORMANCE_PROBE_H_
#define PFM_EMULATOR_CONFORMANCE_PROBE_H_

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <random>
#include <string>
#include <vector>

namespace pfm::conformance {

template <class To, class From>
To BitCast(const From& from) {
  static_assert(sizeof(To) == sizeof(From), "the same bits");
  To to;
  std::memcpy(&to, &from, sizeof to);
  return to;
}

class Recorder {
 public:
  // file: output for results, or null.
  explicit Recorder(std::FILE* file) : file_(file) {}

  void Exact(const std::string& name, const std::vector<uint32_t>& actual, const std::vector<uint32_t>& expected) {
    Write(name, actual, {});
    if (actual.size() != expected.size()) return Fail(name, 0, "a wrong number of results", "");
    for (size_t i = 0; i < actual.size(); ++i) {
      if (actual[i] != expected[i]) return Fail(name, i, Hex(actual[i]), Hex(expected[i]));
    }
  }

  // allowed: absolute error per element.
  void Near(const std::string& name, const std::vector<float>& actual, const std::vector<double>& expected,
            const std::vector<float>& allowed) {
    std::vector<uint32_t> words;
    for (const float value : actual) words.push_back(BitCast<uint32_t>(value));
    Write(name, words, allowed);
    for (size_t i = 0; i < actual.size(); ++i) {
      if (actual[i] == expected[i] || std::fabs(actual[i] - expected[i]) <= allowed[i]) continue;
      return Fail(name, i, std::to_string(actual[i]), std::to_string(expected[i]));
    }
  }

  int failures() const { return failures_; }

 private:
  static std::string Hex(uint32_t word) {
    char text[16];
    std::snprintf(text, sizeof text, "0x%08x", word);
    return text;
  }

  void Fail(const std::string& name, size_t index, const std::string& actual, const std::string& expected) {
    ++failures_;
    std::printf("FAILED %s at %zu: got %s, expected %s\n", name.c_str(), index, actual.c_str(), expected.c_str());
  }

  // "name count exact|near\n", the words, the allowed errors.
  void Write(const std::string& name, const std::vector<uint32_t>& words, const std::vector<float>& allowed) {
    if (file_ == nullptr) return;
    std::fprintf(file_, "%s %zu %s\n", name.c_str(), words.size(), allowed.empty() ? "exact" : "near");
    std::fwrite(words.data(), 4, words.size(), file_);
    std::fwrite(allowed.data(), 4, allowed.size(), file_);
  }

  std::FILE* file_;
  int failures_ = 0;
};

// Random numbers, the same on every machine.
class Random {
 public:
  explicit Random(uint32_t seed) : engine_(seed) {}

  uint32_t Word() { return engine_(); }
  int Below(int limit) { return static_cast<int>(engine_() % static_cast<uint32_t>(limit)); }
  // In [-1, 1), a multiple of 2^-23.
  float Unit() { return static_cast<float>(static_cast<int32_t>(engine_() & 0xffffff) - 0x800000) * 0x1p-23f; }
  std::vector<uint32_t> Words(size_t count) {
    std::vector<uint32_t> words(count);
    for (uint32_t& word : words) word = Word();
    return words;
  }

 private:
  std::mt19937 engine_;
};

struct Probe {
  const char* name;
  void (*run)(Recorder& recorder);
};

}  // namespace pfm::conformance

#endif  // PFM_EMULATOR_CONFORMANCE_PROBE_H_
