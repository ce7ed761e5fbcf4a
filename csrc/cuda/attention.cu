#include <atomic>
#include <cstdint>

#include "../core/host_device.h"
#include "attention.h"
#include "ptx/launch.h"
#include "sm80/attention.h"
#include "sm80/config.h"
#include "sm90/attention.h"

namespace pfm::cuda {
namespace {

constexpr int kRowAlignment = 16;                       // bytes that one copy moves
constexpr int64_t kMaxBlocks = (int64_t{1} << 31) - 1;  // of a 1-D grid
constexpr uintptr_t kWorkspaceAlignment = 256;

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
    if (strides[axis] % (kRowAlignment / sm80::kElementBytes) != 0) {
      return Fail(PFM_UNSUPPORTED, "%s.stride_%s is %lld, the CUDA kernels need a multiple of %d elements", name,
                  kAxes[axis], static_cast<long long>(strides[axis]), kRowAlignment / sm80::kElementBytes);
    }
  }
  return {};
}

Result CheckBlocks(const char* what, int64_t blocks) {
  if (blocks <= kMaxBlocks) return {};
  return Fail(PFM_UNSUPPORTED, "%s would need %lld blocks, at most %lld can be launched", what,
              static_cast<long long>(blocks), static_cast<long long>(kMaxBlocks));
}

Result CheckWorkspace(const pfm_params& params, size_t needed) {
  if (params.workspace_size < needed) {
    return Fail(PFM_WORKSPACE_TOO_SMALL, "workspace_size is %zu, expected at least %zu", params.workspace_size,
                needed);
  }
  if (needed != 0 && params.workspace == nullptr) {
    return Fail(PFM_INVALID_ARGUMENT, "workspace is null, expected %zu bytes", needed);
  }
  if (needed != 0 && reinterpret_cast<uintptr_t>(params.workspace) % kWorkspaceAlignment != 0) {
    return Fail(PFM_INVALID_ARGUMENT, "workspace is at %p, expected a multiple of %d bytes", params.workspace,
                static_cast<int>(kWorkspaceAlignment));
  }
  return {};
}

Result CurrentDevice(ptx::DeviceLimits* limits) {
  const ptx::LaunchStatus status = ptx::ReadDeviceLimits(limits);
  if (!status.ok()) {
    return Fail(PFM_DEVICE_ERROR, "the limits of the GPU could not be read (is there one, with a driver?): %s",
                status.message);
  }
  if (limits->compute_capability >= 80 && limits->shared_bytes >= sm80::kSharedSmall) return {};
  return Fail(PFM_UNSUPPORTED,
              "compute capability is %d.%d with %d bytes of shared memory per block, expected 8.0 and %d or more",
              limits->compute_capability / 10, limits->compute_capability % 10, limits->shared_bytes,
              sm80::kSharedSmall);
}

// With check_pointers: what a call reads, not only a workspace query.
Result Supported(const pfm_params& params, bool check_pointers) {
  if (params.dtype == PFM_FLOAT32) {
    return Fail(PFM_UNSUPPORTED, "dtype is float32, the CUDA kernels take float16 and bfloat16");
  }
  if (params.head_dim % sm80::kElementsPerCopy != 0 || params.head_dim_v % sm80::kElementsPerCopy != 0) {
    return Fail(PFM_UNSUPPORTED, "head_dim is %lld and head_dim_v %lld, the CUDA kernels need multiples of %d",
                static_cast<long long>(params.head_dim), static_cast<long long>(params.head_dim_v),
                sm80::kElementsPerCopy);
  }
  const int64_t tiles = CeilDiv<int64_t>(Max(params.seqlen_q, params.seqlen_k), sm80::kSmallestTile);
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

// What every entry point asks first: may it run, and where?
Result Ready(const pfm_params& params, bool check_pointers, ptx::DeviceLimits* limits) {
  const Result supported = Supported(params, check_pointers);
  if (Failed(supported)) return supported;
  const Result device = CurrentDevice(limits);
  const int32_t newest = newest_kernels;
  if (newest != 0) limits->compute_capability = Min(limits->compute_capability, newest);
  return device;
}

size_t ForwardBytes(const pfm_params& params, const ptx::DeviceLimits& limits) {
  return sm90::ForwardTakes(params, limits) ? sm90::ForwardWorkspace(params, limits) : sm80::ForwardWorkspace(params);
}

size_t BackwardBytes(const pfm_params& params, const ptx::DeviceLimits& limits) {
  return sm90::BackwardTakes(params, limits) ? sm90::BackwardWorkspace(params, limits)
                                             : sm80::BackwardWorkspace(params, limits);
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
  if (compute_capability != 0 && compute_capability != 80 && compute_capability != 90) {
    return Fail(PFM_INVALID_ARGUMENT, "compute_capability is %d, expected 80, 90 or 0", compute_capability);
  }
  newest_kernels = compute_capability;
  return {};
}

Result ForwardWorkspace(const pfm_params& params, size_t* bytes) {
  ptx::DeviceLimits limits = {};
  const Result ready = Ready(params, false, &limits);
  if (!Failed(ready)) *bytes = ForwardBytes(params, limits);
  return ready;
}

Result BackwardWorkspace(const pfm_params& params, size_t* bytes) {
  ptx::DeviceLimits limits = {};
  const Result ready = Ready(params, false, &limits);
  if (!Failed(ready)) *bytes = BackwardBytes(params, limits);
  return ready;
}

Result Forward(const pfm_params& params) {
  ptx::DeviceLimits limits = {};
  Result result = Ready(params, true, &limits);
  if (!Failed(result)) result = CheckWorkspace(params, ForwardBytes(params, limits));
  if (Failed(result)) return result;
  return sm90::ForwardTakes(params, limits) ? sm90::Forward(params, limits) : sm80::Forward(params);
}

Result Backward(const pfm_params& params) {
  ptx::DeviceLimits limits = {};
  Result result = Ready(params, true, &limits);
  if (!Failed(result)) result = CheckWorkspace(params, BackwardBytes(params, limits));
  if (Failed(result)) return result;
  return sm90::BackwardTakes(params, limits) ? sm90::Backward(params, limits) : sm80::Backward(params, limits);
}

}  // namespace pfm::cuda
