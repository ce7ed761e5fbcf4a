#include <atomic>
#include <cstdint>
#include <cstdio>

#include "../core/host_device.h"
#include "common/kernel_set.h"
#include "common/limits.h"
#include "dispatch.h"
#include "sm80/backward_host.h"
#include "sm80/forward_host.h"
#include "sm90/backward_host.h"
#include "sm90/forward_host.h"

namespace pfm::cuda {
namespace {

struct Architecture {
  int32_t compute_capability;  // the oldest that its kernels run on
  const KernelSet* forward;    // null if the build lacks them
  const KernelSet* backward;
};

// Newest first. A call runs on the first architecture that supports it; the last one supports every call.
const Architecture kArchitectures[] = {
#if PFM_CUDA_BUILDS_SM90
    {90, &sm90::kForwardKernels, &sm90::kBackwardKernels},
#else
    {90, nullptr, nullptr},
#endif
    {80, &sm80::kForwardKernels, &sm80::kBackwardKernels},
};

constexpr int kRowAlignment = 16;                       // bytes moved by one copy
constexpr int64_t kMaxBlocks = (int64_t{1} << 31) - 1;  // of a 1-D grid

std::atomic<int32_t> newest_kernels{0};  // compute capability; 0: any

Result CheckTensor(const char* name, const pfm_tensor& tensor) {
  if (tensor.data == nullptr) return {};
  if (reinterpret_cast<uintptr_t>(tensor.data) % kRowAlignment != 0) {
    return Fail(PFM_UNSUPPORTED, "%s is at %p, the CUDA kernels need a multiple of %d bytes", name, tensor.data,
                kRowAlignment);
  }
  const int64_t strides[3] = {tensor.stride_batch, tensor.stride_seq, tensor.stride_head};
  static const char* const kAxes[3] = {"batch", "seq", "head"};
  for (int axis = 0; axis < 3; ++axis) {
    if (strides[axis] % (kRowAlignment / kElementBytes) != 0) {
      return Fail(PFM_UNSUPPORTED, "%s.stride_%s is %lld, the CUDA kernels need a multiple of %d elements", name,
                  kAxes[axis], static_cast<long long>(strides[axis]), kRowAlignment / kElementBytes);
    }
  }
  return {};
}

Result CheckBlocks(const char* what, int64_t blocks) {
  if (blocks <= kMaxBlocks) return {};
  return Fail(PFM_UNSUPPORTED, "%s would need %lld blocks, at most %lld can be launched", what,
              static_cast<long long>(blocks), static_cast<long long>(kMaxBlocks));
}

Result CurrentDevice(ptx::DeviceLimits* limits) {
  const ptx::LaunchStatus status = ptx::ReadDeviceLimits(limits);
  if (!status.ok()) {
    return Fail(PFM_DEVICE_ERROR, "the limits of the GPU could not be read (is there one, with a driver?): %s",
                status.message);
  }
  if (limits->compute_capability >= 80 && limits->shared_bytes >= kLeastSharedBytes) return {};
  return Fail(PFM_UNSUPPORTED,
              "compute capability is %d.%d with %d bytes of shared memory per block, expected 8.0 and %d or more",
              limits->compute_capability / 10, limits->compute_capability % 10, limits->shared_bytes,
              kLeastSharedBytes);
}

// Limits of the CUDA kernels. check_pointers: check the tensors too, which a workspace query leaves unset.
Result Supported(const pfm_params& params, bool check_pointers) {
  if (params.dtype == PFM_FLOAT32) {
    return Fail(PFM_UNSUPPORTED, "dtype is float32, the CUDA kernels support float16 and bfloat16");
  }
  if (params.head_dim % kElementsPerCopy != 0 || params.head_dim_v % kElementsPerCopy != 0) {
    return Fail(PFM_UNSUPPORTED, "head_dim is %lld and head_dim_v %lld, the CUDA kernels need multiples of %d",
                static_cast<long long>(params.head_dim), static_cast<long long>(params.head_dim_v), kElementsPerCopy);
  }
  const int64_t tiles = CeilDiv<int64_t>(Max(params.seqlen_q, params.seqlen_k), kSmallestTile);
  const Result blocks = CheckBlocks("the call", params.batch * params.heads_q * tiles);
  if (Failed(blocks) || !check_pointers) return blocks;
  const struct {
    const char* name;
    const pfm_tensor& tensor;
  } tensors[] = {{"query", params.query}, {"key", params.key},      {"value", params.value},
                 {"out", params.out},     {"dout", params.dout},    {"dquery", params.dquery},
                 {"dkey", params.dkey},   {"dvalue", params.dvalue}};
  for (const auto& [name, tensor] : tensors) {
    const Result result = CheckTensor(name, tensor);
    if (Failed(result)) return result;
  }
  return {};
}

// Checks made at every entry point; reads the limits of the current device.
Result Ready(const pfm_params& params, bool check_pointers, ptx::DeviceLimits* limits) {
  const Result supported = Supported(params, check_pointers);
  if (Failed(supported)) return supported;
  return CurrentDevice(limits);
}

// Kernels that serve this call. `set`: Architecture::forward or Architecture::backward.
const KernelSet& ChooseKernels(const pfm_params& params, const ptx::DeviceLimits& limits,
                               const KernelSet* Architecture::* set) {
  const int32_t newest = newest_kernels;
  const Architecture* chosen = kArchitectures;
  while ((newest != 0 && chosen->compute_capability > newest) || chosen->*set == nullptr ||
         !(chosen->*set)->supports(params, limits)) {
    ++chosen;
  }
  return *(chosen->*set);
}

Result QueryWorkspace(const pfm_params& params, const KernelSet* Architecture::* set, size_t* bytes) {
  ptx::DeviceLimits limits = {};
  const Result ready = Ready(params, false, &limits);
  if (!Failed(ready)) *bytes = ChooseKernels(params, limits, set).workspace(params, limits);
  return ready;
}

Result Run(const pfm_params& params, const KernelSet* Architecture::* set) {
  ptx::DeviceLimits limits = {};
  const Result ready = Ready(params, true, &limits);
  return Failed(ready) ? ready : ChooseKernels(params, limits, set).run(params, limits);
}

}  // namespace

const char* Architectures() { return PFM_CUDA_ARCHITECTURES; }

Result ComputeCapability(int32_t* compute_capability) {
  ptx::DeviceLimits limits = {};
  const Result device = CurrentDevice(&limits);
  *compute_capability = limits.compute_capability;
  return device;
}

Result SetNewestKernels(int32_t compute_capability) {
  bool is_known = compute_capability == 0;
  char expected[64] = "";
  int length = 0;
  for (const Architecture& architecture : kArchitectures) {
    is_known |= architecture.compute_capability == compute_capability;
    length += std::snprintf(expected + length, sizeof(expected) - length, "%d, ", architecture.compute_capability);
  }
  if (!is_known) {
    return Fail(PFM_INVALID_ARGUMENT, "compute_capability is %d, expected %sor 0", compute_capability, expected);
  }
  newest_kernels = compute_capability;
  return {};
}

Result ForwardWorkspace(const pfm_params& params, size_t* bytes) {
  return QueryWorkspace(params, &Architecture::forward, bytes);
}
Result BackwardWorkspace(const pfm_params& params, size_t* bytes) {
  return QueryWorkspace(params, &Architecture::backward, bytes);
}

Result Forward(const pfm_params& params) { return Run(params, &Architecture::forward); }
Result Backward(const pfm_params& params) { return Run(params, &Architecture::backward); }

}  // namespace pfm::cuda
