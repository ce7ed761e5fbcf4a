// Emulator that runs CUDA kernels on the CPU and stops at errors that a GPU would ignore or crash on; see
// docs/emulator.md. Thread-safe on the host; one launch runs at a time.
#ifndef PFM_EMULATOR_EMULATOR_H_
#define PFM_EMULATOR_EMULATOR_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <mutex>
#include <stdexcept>
#include <string>
#include <vector>

namespace pfm::emulator {

// Violation of a rule by a kernel. what() names block, thread, source line and rule.
struct Error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct Options {
  uint64_t seed = 0;        // of ptx::Launch; every launch draws its seed from it
  int resident_blocks = 3;  // run interleaved
  int shared_limit = 227 * 1024;
  int compute_capability = 90;
  int multiprocessors = 4;
  int l2_bytes = 256 << 10;  // small, so that the heads of small problems form several groups
};
Options& CurrentOptions();

// Held by every function below.
std::recursive_mutex& Mutex();

// Runs body once per thread of the grid. Throws Error.
void Launch(int64_t blocks, int threads, int shared_bytes, uint64_t seed, const std::function<void()>& body);

// Number of wgmma instructions in all launches so far.
int64_t WarpgroupProducts();

// ---- Global memory: kernels may touch registered memory only.

// written: whether the bytes hold values. If not, they are filled with 0xff (NaN as a float), and reading them before
// they are written is an error.
void Register(void* memory, size_t bytes, const std::string& name, bool written);
void Unregister(void* memory);
// Divides registered memory into arrays, each unwritten and with its own bounds; memory between them is out of
// bounds. Ignores memory that is not registered.
void StartArrays(void* memory);
void NameArray(void* array, size_t bytes, const std::string& name);
// Marks registered bytes as written by the host.
void MarkWritten(const void* memory, size_t bytes);
// Offset of the first registered byte that neither a kernel nor the host wrote, or -1.
int64_t FirstUnwritten(const void* memory);

// A registered array.
template <class T>
class Buffer {
 public:
  Buffer(const std::string& name, const std::vector<T>& values) : values_(values) {
    Register(values_.data(), values_.size() * sizeof(T), name, true);
  }
  Buffer(const std::string& name, size_t size) : values_(size) {
    Register(values_.data(), values_.size() * sizeof(T), name, false);
  }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer() { Unregister(values_.data()); }

  T* data() { return values_.data(); }
  size_t size() const { return values_.size(); }
  const T& operator[](size_t index) const { return values_[index]; }
  int64_t FirstUnwritten() const { return emulator::FirstUnwritten(values_.data()); }

 private:
  std::vector<T> values_;
};

}  // namespace pfm::emulator

// The same functions, exported from the shared library.
extern "C" {
void pfm_emulator_configure(uint64_t seed, int resident_blocks, int compute_capability, int shared_limit);
void pfm_emulator_register(void* memory, size_t bytes, const char* name, int written);
void pfm_emulator_unregister(void* memory);
// Copies up to `capacity` bytes of the arrays of registered memory, each starting at a multiple of `alignment` bytes.
// Returns their total number of bytes.
size_t pfm_emulator_arrays(void* to, size_t capacity, size_t alignment);
// Copies up to `capacity` records of counts.h. Returns their number.
size_t pfm_emulator_counts(int64_t* to, size_t capacity);
int64_t pfm_emulator_warpgroup_products();
}

#endif  // PFM_EMULATOR_EMULATOR_H_
