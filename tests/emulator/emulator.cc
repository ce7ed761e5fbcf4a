// Functions of emulator.h.
#include "emulator.h"

#include <algorithm>
#include <cstring>

#include "counts.h"
#include "global_memory.h"
#include "machine.h"

namespace pfm::emulator {

std::recursive_mutex& Mutex() {
  static std::recursive_mutex mutex;
  return mutex;
}

Options& CurrentOptions() {
  static Options options;
  return options;
}

void Launch(int64_t blocks, int threads, int shared_bytes, uint64_t seed, const std::function<void()>& body) {
  const std::lock_guard<std::recursive_mutex> lock(Mutex());
  Counts().push_back({blocks, threads, 0, {}});
  machine.Run(blocks, threads, shared_bytes, seed, body);
}

void Register(void* memory, size_t bytes, const std::string& name, bool written) {
  const std::lock_guard<std::recursive_mutex> lock(Mutex());
  Global().Register(memory, bytes, name, written);
}

void Unregister(void* memory) {
  const std::lock_guard<std::recursive_mutex> lock(Mutex());
  Global().Unregister(memory);
}

void StartArrays(void* memory) {
  const std::lock_guard<std::recursive_mutex> lock(Mutex());
  Global().StartArrays(memory);
}

void NameArray(void* array, size_t bytes, const std::string& name) {
  const std::lock_guard<std::recursive_mutex> lock(Mutex());
  Global().NameArray(array, bytes, name);
}

void MarkWritten(const void* memory, size_t bytes) {
  const std::lock_guard<std::recursive_mutex> lock(Mutex());
  Global().MarkWritten(memory, bytes);
}

int64_t FirstUnwritten(const void* memory) {
  const std::lock_guard<std::recursive_mutex> lock(Mutex());
  return Global().FirstUnwritten(memory);
}

}  // namespace pfm::emulator

extern "C" {

void pfm_emulator_configure(uint64_t seed, int resident_blocks, int compute_capability, int shared_limit) {
  pfm::emulator::Options& options = pfm::emulator::CurrentOptions();
  options.seed = seed;
  options.resident_blocks = resident_blocks;
  options.compute_capability = compute_capability;
  options.shared_limit = shared_limit;
  pfm::emulator::Counts().clear();
}

void pfm_emulator_register(void* memory, size_t bytes, const char* name, int written) {
  pfm::emulator::Register(memory, bytes, name, written != 0);
}

void pfm_emulator_unregister(void* memory) { pfm::emulator::Unregister(memory); }

size_t pfm_emulator_arrays(void* to, size_t capacity, size_t alignment) {
  const std::lock_guard<std::recursive_mutex> lock(pfm::emulator::Mutex());
  const std::vector<uint8_t> bytes = pfm::emulator::Global().Arrays(alignment);
  std::memcpy(to, bytes.data(), std::min(capacity, bytes.size()));
  return bytes.size();
}

size_t pfm_emulator_counts(int64_t* to, size_t capacity) {
  static_assert(sizeof(pfm::emulator::LaunchCounts) == (3 + pfm::emulator::kMaxWarps) * sizeof(int64_t));
  const std::lock_guard<std::recursive_mutex> lock(pfm::emulator::Mutex());
  const auto& counts = pfm::emulator::Counts();
  if (capacity != 0) std::memcpy(to, counts.data(), std::min(capacity, counts.size()) * sizeof(counts[0]));
  return counts.size();
}

int64_t pfm_emulator_warpgroup_products() { return pfm::emulator::WarpgroupProducts(); }
}
