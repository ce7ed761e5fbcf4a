// Runs CUDA kernels on the CPU and stops at what a GPU would let pass or crash on; see docs/emulator.md. Host threads
// may call at once; one launch of the process runs at a time.
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

// A kernel broke a rule. what() names block, thread, source line and rule.
struct Error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct Options {
  uint64_t seed = 0;        // of ptx::Launch; every launch draws a seed of its own from it
  int resident_blocks = 3;  // run interleaved
  int shared_limit = 227 * 1024;
  int compute_capability = 90;
  int multiprocessors = 4;
};
Options& CurrentOptions();

// Held by every function below.
std::recursive_mutex& Mutex();

// Runs body once per thread of the grid. Throws Error.
void Launch(int64_t blocks, int threads, int shared_bytes, uint64_t seed, const std::function<void()>& body);

// Instructions of warpgroups that multiply, of all launches so far.
int64_t WarpgroupProducts();

// ---- Global memory: kernels may touch registered memory only.

// written: whether the bytes hold values; otherwise they are filled with 0xff (NaN as a float) and reading one before
// it is written is an error.
void Register(void* memory, size_t bytes, const std::string& name, bool written);
void Unregister(void* memory);
// Registered memory is divided into arrays, each unwritten and in bounds by itself; what lies between them is out of
// bounds. Memory that is not registered stays so.
void StartArrays(void* memory);
void NameArray(void* array, size_t bytes, const std::string& name);
// The host has set these registered bytes.
void MarkWritten(const void* memory, size_t bytes);
// The first byte of registered memory that no kernel and no host wrote, or -1.
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

// The same for callers of a shared library.
extern "C" {
void pfm_emulator_configure(uint64_t seed, int resident_blocks, int compute_capability, int shared_limit);
void pfm_emulator_register(void* memory, size_t bytes, const char* name, int written);
void pfm_emulator_unregister(void* memory);
// Copies up to `capacity` bytes of the arrays that registered memory is divided into, one after the other, each from
// a multiple of `alignment` bytes on; returns how many there are.
size_t pfm_emulator_arrays(void* to, size_t capacity, size_t alignment);
int64_t pfm_emulator_warpgroup_products();
}

#endif  // PFM_EMULATOR_EMULATOR_H_
