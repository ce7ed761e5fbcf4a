// Launch of the small kernels.
//
// A case is a type with the size of its launch, Kernel(arguments), which makes the mistake if arguments.wrong is set,
// and Expected(in, i), word i of the kOut words of output.
#ifndef PFM_EMULATOR_MISUSE_MISTAKE_H_
#define PFM_EMULATOR_MISUSE_MISTAKE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "cuda/ptx/launch.h"
#include "cuda/ptx/ptx.h"

namespace pfm::misuse {

namespace ptx = cuda::ptx;

struct Arguments {
  bool wrong;
  uint32_t* in;    // kIn words: word i is 3 i + 1
  uint32_t* out;   // kOut words, unwritten
  int32_t* flags;  // 8 words, zero
};

// Defaults of a case, which may override each of them.
struct Case {
  static constexpr int kBlocks = 1, kThreads = 64, kSharedBytes = 256, kIn = 64, kOut = 64;
  static constexpr bool kClearsOut = false;
  static uint32_t Expected(uint32_t i) { return 3 * i + 1; }
};

struct Mistake {
  const char* name;
  std::string (*run)(bool wrong, uint64_t seed);
};

template <class T>
std::string RunCase(bool wrong, uint64_t seed) {
  emulator::CurrentOptions().seed = seed;
  std::vector<uint32_t> words(T::kIn);
  for (uint32_t i = 0; i < words.size(); ++i) words[i] = 3 * i + 1;
  emulator::Buffer<uint32_t> in("in", words), out("out", T::kOut);
  emulator::Buffer<int32_t> flags("flags", std::vector<int32_t>(8, 0));
  if (T::kClearsOut) ptx::ClearMemory(out.data(), 4 * out.size(), nullptr);
  const Arguments arguments = {wrong, in.data(), out.data(), flags.data()};
  const ptx::LaunchStatus status =
      ptx::Launch(T::Kernel, T::kBlocks, T::kThreads, T::kSharedBytes, nullptr, arguments);
  if (!status.ok()) return status.message;
  if (out.FirstUnwritten() >= 0) return "unwritten output at byte " + std::to_string(out.FirstUnwritten());
  for (uint32_t i = 0; i < out.size(); ++i) {
    if (out[i] != T::Expected(i)) return "values";
  }
  return "";
}

// Addresses of the 16 bytes of a thread, and of word i.
inline ptx::SharedAddress WordAt(int i) { return ptx::DynamicShared() + 4 * i; }
inline ptx::SharedAddress ChunkAt(int i) { return ptx::DynamicShared() + 16 * i; }

}  // namespace pfm::misuse

#endif  // PFM_EMULATOR_MISUSE_MISTAKE_H_
