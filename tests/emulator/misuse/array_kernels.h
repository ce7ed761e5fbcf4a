// Mistakes with arrays that share an allocation.
#ifndef PFM_EMULATOR_MISUSE_ARRAY_KERNELS_H_
#define PFM_EMULATOR_MISUSE_ARRAY_KERNELS_H_

#include <string>
#include <vector>

#include "cuda/common/arena.h"
#include "mistake.h"

namespace pfm::misuse {

struct ArrayArguments {
  bool wrong;
  int call;
  int32_t *first, *second;  // kWords each
  int32_t* sum;
};

// A case has Kernel(arguments), run by 64 threads, and no output.
struct ArrayCase {
  static constexpr int kWords = 64, kCalls = 1;

  static void WriteFirst(const ArrayArguments& arguments, int64_t at) {
    ptx::StoreGlobal(arguments.first + at, ptx::ThreadIndex());
  }
};

// Divides the same memory again for every call.
template <class T>
std::string RunArrays(bool wrong, uint64_t seed) {
  emulator::CurrentOptions().seed = seed;
  const auto divide = [&](cuda::Arena arena) {
    ArrayArguments arguments = {wrong, 0, nullptr, nullptr, nullptr};
    arguments.first = arena.Take<int32_t>(T::kWords, "first");
    arguments.second = arena.Take<int32_t>(T::kWords, "second");
    arguments.sum = arena.Take<int32_t>(1, "sum");
    return std::pair(arguments, arena.used());
  };
  const size_t bytes = divide(cuda::Arena(nullptr)).second;
  emulator::Buffer<ptx::Vector16> workspace("workspace", bytes / sizeof(ptx::Vector16));
  for (int call = 0; call < T::kCalls; ++call) {
    ArrayArguments arguments = divide(cuda::Arena(workspace.data())).first;
    arguments.call = call;
    ptx::ClearMemory(arguments.sum, sizeof(*arguments.sum), nullptr);
    const ptx::LaunchStatus status = ptx::Launch(T::Kernel, 1, T::kWords, 0, nullptr, arguments);
    if (!status.ok()) return status.message;
  }
  return "";
}

// Accesses one tile beyond the end, where the next array would be without padding.
struct ArrayOverrun : ArrayCase {
  static void Kernel(const ArrayArguments arguments) {
    const int thread = ptx::ThreadIndex();
    WriteFirst(arguments, thread);
    ptx::StoreGlobal(arguments.second + thread, thread);
    ptx::SyncThreads();
    ptx::AtomicAdd(arguments.sum, ptx::LoadGlobal(arguments.first + thread + (arguments.wrong ? kWords : 0)));
  }
};

struct ArrayUnderrun : ArrayCase {
  static void Kernel(const ArrayArguments arguments) {
    const int thread = ptx::ThreadIndex();
    WriteFirst(arguments, thread);
    ptx::StoreGlobal(arguments.second + thread - (arguments.wrong ? 1 : 0), thread);
  }
};

// Reads values left by an earlier call.
struct ArrayOfLastCall : ArrayCase {
  static constexpr int kCalls = 2;
  static void Kernel(const ArrayArguments arguments) {
    const int thread = ptx::ThreadIndex();
    if (!arguments.wrong || arguments.call == 0) WriteFirst(arguments, thread);
    ptx::SyncThreads();
    ptx::AtomicAdd(arguments.sum, ptx::LoadGlobal(arguments.first + thread));
  }
};

}  // namespace pfm::misuse

#endif  // PFM_EMULATOR_MISUSE_ARRAY_KERNELS_H_
