// Arrays in device memory, and launches that wait: the only part of the program that differs between a GPU and the
// emulator.
#ifndef PFM_EMULATOR_CONFORMANCE_DEVICE_ARRAY_H_
#define PFM_EMULATOR_CONFORMANCE_DEVICE_ARRAY_H_

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "cuda/ptx/launch.h"
#include "cuda/ptx/ptx.h"

#if !defined(PFM_EMULATOR)
#include <cuda_runtime.h>
#endif

namespace pfm::conformance {

namespace ptx = cuda::ptx;

[[noreturn]] inline void Stop(const std::string& what, const char* message) {
  std::fprintf(stderr, "%s: %s\n", what.c_str(), message);
  std::exit(1);
}

inline void Require(const std::string& what, const ptx::LaunchStatus& status) {
  if (!status.ok()) Stop(what, status.message);
}

#if defined(PFM_EMULATOR)

inline void Wait(const std::string&) {}

template <class T>
class DeviceArray {
 public:
  DeviceArray(const std::string& name, const std::vector<T>& values) : buffer_(name, values) {}
  DeviceArray(const std::string& name, size_t size) : name_(name), buffer_(name, size) {}

  T* data() { return buffer_.data(); }
  std::vector<T> Read() {
    if (buffer_.FirstUnwritten() >= 0) Stop(name_, "not all of it was written");
    return std::vector<T>(buffer_.data(), buffer_.data() + buffer_.size());
  }

 private:
  std::string name_;
  emulator::Buffer<T> buffer_;
};

#else

inline void Require(const std::string& what, cudaError_t error) {
  if (error != cudaSuccess) Stop(what, cudaGetErrorString(error));
}

inline void Wait(const std::string& what) { Require(what, cudaDeviceSynchronize()); }

template <class T>
class DeviceArray {
 public:
  DeviceArray(const std::string& name, const std::vector<T>& values) : DeviceArray(name, values.size()) {
    Require(name_, cudaMemcpy(data_, values.data(), size_ * sizeof(T), cudaMemcpyHostToDevice));
  }
  DeviceArray(const std::string& name, size_t size) : name_(name), size_(size) {
    Require(name_, cudaMalloc(&data_, size * sizeof(T)));
    Require(name_, cudaMemset(data_, 0xff, size * sizeof(T)));
  }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;
  ~DeviceArray() { cudaFree(data_); }

  T* data() { return data_; }
  std::vector<T> Read() {
    std::vector<T> values(size_);
    Require(name_, cudaMemcpy(values.data(), data_, size_ * sizeof(T), cudaMemcpyDeviceToHost));
    return values;
  }

 private:
  std::string name_;
  T* data_ = nullptr;
  size_t size_;
};

#endif

template <class Arguments>
void Run(const std::string& what, void (*kernel)(Arguments), int64_t blocks, int threads, int shared_bytes,
         const Arguments& arguments) {
  Require(what, ptx::Launch(kernel, blocks, threads, shared_bytes, nullptr, arguments));
  Wait(what);
}

}  // namespace pfm::conformance

#endif  // PFM_EMULATOR_CONFORMANCE_DEVICE_ARRAY_H_
