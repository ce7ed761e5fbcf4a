// Bodies of csrc/cuda/ptx/launch.h in the emulator. Included by it only. All work is complete on return.
#ifndef PFM_EMULATOR_LAUNCH_H_
#define PFM_EMULATOR_LAUNCH_H_

#include <cstring>
#include <string>

#include "emulator.h"

namespace pfm::cuda::ptx {

inline LaunchStatus ReadDeviceLimits(DeviceLimits* limits) {
  const emulator::Options& options = emulator::CurrentOptions();
  *limits = {options.compute_capability, options.multiprocessors, options.shared_limit};
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

template <class Arguments>
LaunchStatus Launch(void (*kernel)(Arguments), int64_t blocks, int threads, int shared_bytes, void* stream,
                    const Arguments& arguments) {
  static_cast<void>(stream);
  if (blocks == 0) return {};
  try {
    emulator::Launch(blocks, threads, shared_bytes, emulator::CurrentOptions().seed++, [&] { kernel(arguments); });
  } catch (const emulator::Error& error) {
    return EmulatedFailure(error);
  }
  return {};
}

}  // namespace pfm::cuda::ptx

#endif  // PFM_EMULATOR_LAUNCH_H_
