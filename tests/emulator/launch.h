// Bodies of csrc/cuda/ptx/launch.h in the emulator. Included by it only. All work is complete on return.
#ifndef PFM_EMULATOR_LAUNCH_H_
#define PFM_EMULATOR_LAUNCH_H_

#include <cstring>
#include <map>
#include <string>
#include <utility>

#include "emulator.h"

namespace pfm::cuda::ptx {

inline LaunchStatus ReadDeviceLimits(DeviceLimits* limits) {
  const emulator::Options& options = emulator::CurrentOptions();
  *limits = {options.compute_capability, options.multiprocessors, options.shared_limit, options.l2_bytes};
  return {};
}

inline LaunchStatus EmulatedFailure(const emulator::Error& error) {
  static std::string message;
  message = error.what();
  return {1, message.c_str()};
}

inline LaunchStatus ClearMemory(void* memory, size_t bytes, void* stream) {
  static_cast<void>(stream);
  try {
    emulator::MarkWritten(memory, bytes);
  } catch (const emulator::Error& error) {
    return EmulatedFailure(error);
  }
  if (bytes != 0) std::memset(memory, 0, bytes);
  return {};
}

// Larger than any tile of any array, so that an index that is one tile off hits no other array.
inline size_t RoomBeforeArray() { return size_t{256} << 10; }
inline void StartArrays(void* memory) { emulator::StartArrays(memory); }
inline void NameArray(void* array, size_t bytes, const char* name) { emulator::NameArray(array, bytes, name); }

// Raises where a kernel gets another maximum than in an earlier launch on a device with the same limit.
inline void CheckSharedBytes(const void* kernel, SharedBytes shared) {
  static std::map<std::pair<const void*, int>, int> known;
  const int most =
      known.emplace(std::pair(kernel, emulator::CurrentOptions().shared_limit), shared.most).first->second;
  if (shared.most != most || shared.used > most) {
    throw emulator::Error("a kernel is launched with " + std::to_string(shared.used) +
                          " bytes of shared memory and " + std::to_string(shared.most) +
                          " at most, earlier launches had " + std::to_string(most) + " at most");
  }
}

template <class Arguments>
LaunchStatus Launch(void (*kernel)(Arguments), int64_t blocks, int threads, SharedBytes shared, void* stream,
                    const Arguments& arguments) {
  static_cast<void>(stream);
  if (blocks == 0) return {};
  try {
    CheckSharedBytes(reinterpret_cast<const void*>(kernel), shared);
    emulator::Launch(blocks, threads, shared.used, emulator::CurrentOptions().seed++, [&] { kernel(arguments); });
  } catch (const emulator::Error& error) {
    return EmulatedFailure(error);
  }
  return {};
}

}  // namespace pfm::cuda::ptx

#endif  // PFM_EMULATOR_LAUNCH_H_
