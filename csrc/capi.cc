// The C ABI. Every argument is checked here, once; the kernels do not check again.
#include <cmath>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstring>

#include "core/dropout.h"
#include "cpu/attention.h"
#include "cuda/dispatch.h"
#include "flashmask.h"

namespace {

constexpr int64_t kMaxSeqlen = int64_t{1} << 27;  // twice a row index, or a row index plus a tile, fits an int32
constexpr int64_t kMaxHeads = int64_t{1} << 31;   // of batch * heads_q: the dropout stream numbers heads in 32 bits
constexpr int64_t kMaxHeadDim = 256;
constexpr int64_t kMaxElements = int64_t{1} << 60;  // keeps every stride * index below 2^63
constexpr int64_t kBlockMaskBlock = 128;
constexpr uintptr_t kCpuAlignment = 64;

thread_local char last_error[512] = "";

__attribute__((format(printf, 2, 3))) int32_t Fail(pfm_status status, const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(last_error, sizeof(last_error), format, arguments);
  va_end(arguments);
  return status;
}

long long Wide(int64_t value) { return static_cast<long long>(value); }

int32_t CheckAbi(const pfm_params* params) {
  if (params == nullptr) return Fail(PFM_INVALID_ARGUMENT, "params is null");
  if (params->struct_size != sizeof(pfm_params)) {
    return Fail(PFM_INVALID_ARGUMENT,
                "struct_size is %u, this library expects %zu: it was built from another flashmask.h",
                params->struct_size, sizeof(pfm_params));
  }
  if (params->version != PFM_ABI_VERSION) {
    return Fail(PFM_INVALID_ARGUMENT, "version is %u, this library expects %d", params->version, PFM_ABI_VERSION);
  }
  if (params->device != PFM_CPU && params->device != PFM_CUDA) {
    return Fail(PFM_INVALID_ARGUMENT, "device is %d, expected 0 (CPU) or 1 (CUDA)", params->device);
  }
  return PFM_OK;
}

int32_t CheckShapes(const pfm_params& p) {
  if (p.dtype != PFM_FLOAT32 && p.dtype != PFM_BFLOAT16 && p.dtype != PFM_FLOAT16) {
    return Fail(PFM_INVALID_ARGUMENT, "dtype is %d, expected 0 (float32), 1 (bfloat16) or 2 (float16)", p.dtype);
  }
  if (p.batch < 0) return Fail(PFM_INVALID_ARGUMENT, "batch is %lld, expected >= 0", Wide(p.batch));
  if (p.seqlen_q < 0 || p.seqlen_q >= kMaxSeqlen) {
    return Fail(PFM_INVALID_ARGUMENT, "seqlen_q is %lld, expected 0 <= seqlen_q < 2^27", Wide(p.seqlen_q));
  }
  if (p.seqlen_k < 0 || p.seqlen_k >= kMaxSeqlen) {
    return Fail(PFM_INVALID_ARGUMENT, "seqlen_k is %lld, expected 0 <= seqlen_k < 2^27", Wide(p.seqlen_k));
  }
  if (p.heads_q < 1) return Fail(PFM_INVALID_ARGUMENT, "heads_q is %lld, expected >= 1", Wide(p.heads_q));
  if (p.heads_q >= kMaxHeads || (p.batch > 0 && p.heads_q > (kMaxHeads - 1) / p.batch)) {
    return Fail(PFM_INVALID_ARGUMENT, "batch * heads_q is %lld * %lld, expected < 2^31", Wide(p.batch),
                Wide(p.heads_q));
  }
  if (p.heads_kv < 1 || p.heads_q % p.heads_kv != 0) {
    return Fail(PFM_INVALID_ARGUMENT, "heads_kv is %lld, expected a divisor of heads_q = %lld", Wide(p.heads_kv),
                Wide(p.heads_q));
  }
  if (p.head_dim < 1 || p.head_dim > kMaxHeadDim) {
    return Fail(PFM_INVALID_ARGUMENT, "head_dim is %lld, expected 1 to 256", Wide(p.head_dim));
  }
  if (p.head_dim_v < 1 || p.head_dim_v > kMaxHeadDim) {
    return Fail(PFM_INVALID_ARGUMENT, "head_dim_v is %lld, expected 1 to 256", Wide(p.head_dim_v));
  }
  return PFM_OK;
}

bool IsFlag(int32_t value) { return value == 0 || value == 1; }

bool IsDropoutPosition(int32_t value) { return value >= 0 && value < kMaxSeqlen && value % pfm::kDropoutBlock == 0; }

int32_t CheckMask(const pfm_params& p) {
  if (!IsFlag(p.causal)) return Fail(PFM_INVALID_ARGUMENT, "causal is %d, expected 0 or 1", p.causal);
  if (p.causal_offset <= -kMaxSeqlen || p.causal_offset >= kMaxSeqlen) {
    return Fail(PFM_INVALID_ARGUMENT, "causal_offset is %lld, expected -2^27 < causal_offset < 2^27",
                Wide(p.causal_offset));
  }
  if (p.window_left < -1 || p.window_left >= kMaxSeqlen) {
    return Fail(PFM_INVALID_ARGUMENT, "window_left is %lld, expected -1 (unbounded) or 0 to 2^27 - 1",
                Wide(p.window_left));
  }
  if (p.window_right < -1 || p.window_right >= kMaxSeqlen) {
    return Fail(PFM_INVALID_ARGUMENT, "window_right is %lld, expected -1 (unbounded) or 0 to 2^27 - 1",
                Wide(p.window_right));
  }
  const int32_t n = p.startend_bounds;
  const bool bounds_known = n == 0 || n == 2 || (p.causal ? n == 1 : n == 4);
  if (!bounds_known) {
    return Fail(PFM_INVALID_ARGUMENT, "startend_bounds is %d with causal = %d, expected %s", n, p.causal,
                p.causal ? "0, 1 or 2" : "0, 2 or 4");
  }
  if (n != 0 || p.block_mask != nullptr) {
    if (p.heads_mask < 1 || p.heads_q % p.heads_mask != 0) {
      return Fail(PFM_INVALID_ARGUMENT, "heads_mask is %lld, expected a divisor of heads_q = %lld",
                  Wide(p.heads_mask), Wide(p.heads_q));
    }
  }
  if (n != 0 && (p.startend_stride_batch < 0 || p.startend_stride_head < 0)) {
    return Fail(PFM_INVALID_ARGUMENT, "startend strides are %lld, %lld, expected >= 0", Wide(p.startend_stride_batch),
                Wide(p.startend_stride_head));
  }
  if (p.block_mask != nullptr && (p.block_mask_stride_batch < 0 || p.block_mask_stride_head < 0)) {
    return Fail(PFM_INVALID_ARGUMENT, "block_mask strides are %lld, %lld, expected >= 0",
                Wide(p.block_mask_stride_batch), Wide(p.block_mask_stride_head));
  }
  return PFM_OK;
}

int32_t CheckOptions(const pfm_params& p) {
  if (!IsFlag(p.deterministic)) {
    return Fail(PFM_INVALID_ARGUMENT, "deterministic is %d, expected 0 or 1", p.deterministic);
  }
  if (!std::isfinite(p.softmax_scale)) {
    return Fail(PFM_INVALID_ARGUMENT, "softmax_scale is %g, expected a finite number",
                static_cast<double>(p.softmax_scale));
  }
  if (!(p.dropout >= 0.0f && p.dropout < 1.0f)) {
    return Fail(PFM_INVALID_ARGUMENT, "dropout is %g, expected 0 <= dropout < 1", static_cast<double>(p.dropout));
  }
  if (!IsDropoutPosition(p.dropout_row) || !IsDropoutPosition(p.dropout_key)) {
    return Fail(PFM_INVALID_ARGUMENT,
                "dropout_row and dropout_key are %d, %d, expected multiples of 16, 0 to 2^27 - 16", p.dropout_row,
                p.dropout_key);
  }
  if (p.softcap != 0.0f) {
    return Fail(PFM_UNSUPPORTED, "softcap is %g, but only 0 is implemented", static_cast<double>(p.softcap));
  }
  if (p.num_splits != 0) return Fail(PFM_UNSUPPORTED, "num_splits is %d, but only 0 is implemented", p.num_splits);
  if (p.num_workers < 0) return Fail(PFM_INVALID_ARGUMENT, "num_workers is %d, expected >= 0", p.num_workers);
  if (p.device == PFM_CPU && p.stream != nullptr)
    return Fail(PFM_INVALID_ARGUMENT, "stream is set, expected null on the CPU");
  return PFM_OK;
}

// Checks everything that a workspace query reads: all but the data pointers.
int32_t CheckDescription(const pfm_params* params) {
  if (const int32_t status = CheckAbi(params)) return status;
  if (const int32_t status = CheckShapes(*params)) return status;
  if (const int32_t status = CheckMask(*params)) return status;
  return CheckOptions(*params);
}

struct Extent {
  int64_t batch, seqlen, heads, head_dim;

  bool empty() const { return batch == 0 || seqlen == 0; }
};

// `required`: a null pointer is an error unless the tensor is empty.
int32_t CheckTensor(const char* name, const pfm_tensor& tensor, const Extent& extent, bool required) {
  if (extent.empty()) return PFM_OK;
  if (tensor.data == nullptr) {
    return required ? Fail(PFM_INVALID_ARGUMENT, "%s.data is null", name) : static_cast<int32_t>(PFM_OK);
  }
  const int64_t strides[3] = {tensor.stride_batch, tensor.stride_seq, tensor.stride_head};
  const int64_t sizes[3] = {extent.batch, extent.seqlen, extent.heads};
  static const char* const kAxes[3] = {"batch", "seq", "head"};
  for (int axis = 0; axis < 3; ++axis) {
    if (strides[axis] < 0 || strides[axis] > kMaxElements / sizes[axis]) {
      return Fail(PFM_INVALID_ARGUMENT, "%s.stride_%s is %lld, expected 0 to 2^60 / %lld", name, kAxes[axis],
                  Wide(strides[axis]), Wide(sizes[axis]));
    }
  }
  return PFM_OK;
}

// A tensor that is written must not have two elements at one address.
int32_t CheckWritten(const char* name, const pfm_tensor& tensor, const Extent& extent, bool required) {
  if (const int32_t status = CheckTensor(name, tensor, extent, required)) return status;
  if (extent.empty() || tensor.data == nullptr) return PFM_OK;
  const int64_t strides[3] = {tensor.stride_batch, tensor.stride_seq, tensor.stride_head};
  const int64_t sizes[3] = {extent.batch, extent.seqlen, extent.heads};
  static const char* const kAxes[3] = {"batch", "seq", "head"};
  for (int axis = 0; axis < 3; ++axis) {
    if (sizes[axis] > 1 && strides[axis] < extent.head_dim) {
      return Fail(PFM_INVALID_ARGUMENT,
                  "%s.stride_%s is %lld, expected at least the head dim %lld of a tensor that is written", name,
                  kAxes[axis], Wide(strides[axis]), Wide(extent.head_dim));
    }
  }
  return PFM_OK;
}

int32_t CheckPointers(const pfm_params& p) {
  const bool has_rows = p.batch > 0 && p.seqlen_q > 0;
  const bool has_keys = p.batch > 0 && p.seqlen_k > 0;
  if (const int32_t s = CheckTensor("query", p.query, {p.batch, p.seqlen_q, p.heads_q, p.head_dim}, true)) return s;
  if (const int32_t s = CheckTensor("key", p.key, {p.batch, p.seqlen_k, p.heads_kv, p.head_dim}, true)) return s;
  if (const int32_t s = CheckTensor("value", p.value, {p.batch, p.seqlen_k, p.heads_kv, p.head_dim_v}, true))
    return s;
  if (has_rows && p.lse == nullptr) return Fail(PFM_INVALID_ARGUMENT, "lse is null");
  if (p.startend_bounds != 0 && has_keys && p.startend_row_indices == nullptr) {
    return Fail(PFM_INVALID_ARGUMENT, "startend_row_indices is null, but startend_bounds is %d", p.startend_bounds);
  }
  return PFM_OK;
}

// Checks the CPU workspace; the CUDA kernels check their own.
int32_t CheckWorkspace(const pfm_params& p, size_t needed) {
  if (p.workspace_size < needed) {
    return Fail(PFM_WORKSPACE_TOO_SMALL, "workspace_size is %zu, expected at least %zu", p.workspace_size, needed);
  }
  if (needed == 0) return PFM_OK;
  if (p.workspace == nullptr) return Fail(PFM_INVALID_ARGUMENT, "workspace is null, expected %zu bytes", needed);
  if (reinterpret_cast<uintptr_t>(p.workspace) % kCpuAlignment != 0) {
    return Fail(PFM_INVALID_ARGUMENT, "workspace is at %p, expected a multiple of %d bytes", p.workspace,
                static_cast<int>(kCpuAlignment));
  }
  return PFM_OK;
}

// Resolves num_workers = 0. The workspace size depends on it, so the query and the call must agree on the number.
pfm_params WithWorkers(const pfm_params& params) {
  pfm_params resolved = params;
  if (resolved.num_workers == 0) resolved.num_workers = pfm::cpu::DefaultThreads();
  return resolved;
}

int32_t StatusOf(const pfm::cuda::Result& result) {
  return result.status == PFM_OK ? static_cast<int32_t>(PFM_OK) : Fail(result.status, "%s", result.message);
}

int32_t CheckForward(const pfm_params* params) {
  if (const int32_t status = CheckDescription(params)) return status;
  if (const int32_t status = CheckPointers(*params)) return status;
  const Extent out = {params->batch, params->seqlen_q, params->heads_q, params->head_dim_v};
  return CheckWritten("out", params->out, out, true);
}

int32_t CheckBackward(const pfm_params* params) {
  if (const int32_t status = CheckDescription(params)) return status;
  const pfm_params& p = *params;
  if (const int32_t status = CheckPointers(p)) return status;
  const Extent query = {p.batch, p.seqlen_q, p.heads_q, p.head_dim};
  const Extent key = {p.batch, p.seqlen_k, p.heads_kv, p.head_dim};
  const Extent value = {p.batch, p.seqlen_k, p.heads_kv, p.head_dim_v};
  const Extent out = {p.batch, p.seqlen_q, p.heads_q, p.head_dim_v};
  if (const int32_t status = CheckTensor("out", p.out, out, p.dout.data != nullptr)) return status;
  if (const int32_t status = CheckTensor("dout", p.dout, out, false)) return status;
  if (const int32_t status = CheckWritten("dquery", p.dquery, query, false)) return status;
  if (const int32_t status = CheckWritten("dkey", p.dkey, key, false)) return status;
  if (const int32_t status = CheckWritten("dvalue", p.dvalue, value, false)) return status;
  if (p.dsink != nullptr && p.learnable_sink == nullptr) {
    return Fail(PFM_INVALID_ARGUMENT, "dsink is set, but learnable_sink is null");
  }
  return PFM_OK;
}

}  // namespace

int32_t pfm_forward_workspace(const pfm_params* params, size_t* bytes) {
  if (const int32_t status = CheckDescription(params)) return status;
  if (bytes == nullptr) return Fail(PFM_INVALID_ARGUMENT, "bytes is null");
  if (params->device == PFM_CUDA) return StatusOf(pfm::cuda::ForwardWorkspace(*params, bytes));
  *bytes = pfm::cpu::ForwardWorkspace(WithWorkers(*params));
  return PFM_OK;
}

int32_t pfm_backward_workspace(const pfm_params* params, size_t* bytes) {
  if (const int32_t status = CheckDescription(params)) return status;
  if (bytes == nullptr) return Fail(PFM_INVALID_ARGUMENT, "bytes is null");
  if (params->device == PFM_CUDA) return StatusOf(pfm::cuda::BackwardWorkspace(*params, bytes));
  *bytes = pfm::cpu::BackwardWorkspace(WithWorkers(*params));
  return PFM_OK;
}

int32_t pfm_forward(const pfm_params* params) {
  if (const int32_t status = CheckForward(params)) return status;
  if (params->device == PFM_CUDA) return StatusOf(pfm::cuda::Forward(*params));
  const pfm_params resolved = WithWorkers(*params);
  if (const int32_t status = CheckWorkspace(resolved, pfm::cpu::ForwardWorkspace(resolved))) return status;
  pfm::cpu::Forward(resolved);
  return PFM_OK;
}

int32_t pfm_backward(const pfm_params* params) {
  if (const int32_t status = CheckBackward(params)) return status;
  if (params->device == PFM_CUDA) return StatusOf(pfm::cuda::Backward(*params));
  const pfm_params resolved = WithWorkers(*params);
  if (const int32_t status = CheckWorkspace(resolved, pfm::cpu::BackwardWorkspace(resolved))) return status;
  pfm::cpu::Backward(resolved);
  return PFM_OK;
}

int32_t pfm_default_cpu_threads(void) { return pfm::cpu::DefaultThreads(); }

const char* pfm_cpu_isa(void) { return pfm::cpu::IsaName(); }

int32_t pfm_set_cpu_isa(const char* name) {
  if (name == nullptr) return Fail(PFM_INVALID_ARGUMENT, "name is null, expected an instruction set or \"\"");
  if (!pfm::cpu::SetIsa(name)) {
    return Fail(PFM_UNSUPPORTED, "instruction set \"%.32s\" is not in this build or not on this machine", name);
  }
  return PFM_OK;
}

const char* pfm_cuda_architectures(void) { return pfm::cuda::Architectures(); }

int32_t pfm_set_newest_cuda_kernels(int32_t compute_capability) {
  return StatusOf(pfm::cuda::SetNewestKernels(compute_capability));
}

int32_t pfm_cuda_compute_capability(int32_t* compute_capability) {
  if (compute_capability == nullptr) return Fail(PFM_INVALID_ARGUMENT, "compute_capability is null");
  return StatusOf(pfm::cuda::ComputeCapability(compute_capability));
}

const char* pfm_last_error(void) { return last_error; }
