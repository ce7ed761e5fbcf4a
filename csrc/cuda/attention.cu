#include <cstdarg>
#include <cstdint>
#include <cstdio>

#include "attention.h"
#include "common/arena.h"
#include "prepare.h"
#include "ptx/launch.h"
#include "sm80/config.h"
#include "sm80/launch.h"

namespace pfm::cuda {
namespace {

constexpr int kRowAlignment = 16;                       // bytes that one copy moves
constexpr int64_t kMaxBlocks = (int64_t{1} << 31) - 1;  // of a 1-D grid
constexpr uintptr_t kWorkspaceAlignment = 256;

__attribute__((format(printf, 2, 3))) Result Fail(pfm_status status, const char* format, ...) {
  Result result;
  result.status = status;
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(result.message, sizeof(result.message), format, arguments);
  va_end(arguments);
  return result;
}

bool Failed(const Result& result) { return result.status != PFM_OK; }

Result FromLaunch(const char* what, const ptx::LaunchStatus& status) {
  if (status.ok()) return {};
  return Fail(PFM_DEVICE_ERROR, "%s could not be launched: %s", what, status.message);
}

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
  if (needed != 0 && reinterpret_cast<uintptr_t>(params.workspace) % kWorkspaceAlignment != 0) {
    return Fail(PFM_INVALID_ARGUMENT, "workspace is at %p, expected a multiple of %d bytes", params.workspace,
                static_cast<int>(kWorkspaceAlignment));
  }
  if (needed != 0 && params.workspace == nullptr) {
    return Fail(PFM_INVALID_ARGUMENT, "workspace is null, expected %zu bytes", needed);
  }
  return {};
}

int64_t LargerHeadDim(const pfm_params& params) { return Max(params.head_dim, params.head_dim_v); }

DropoutStream DropoutOf(const pfm_params& params) { return MakeDropout(params.dropout, params.seed, params.offset); }

struct ForwardPlan {
  int row;
  sm80::ForwardArguments arguments;

  ForwardPlan(const pfm_params& params, Arena* arena)
      : row(sm80::RowFor(sm80::kForward, params.head_dim, params.head_dim_v)) {
    const sm80::ForwardTile& tile = sm80::kForward[row];
    arguments.params = params;
    arguments.mask = TakeMaskTable(params, tile.tile_q, tile.tile_k, arena);
    arguments.dropout = DropoutOf(params);
  }
};

// The least number of blocks per key tile and key-value head, a divisor of the group, that gives every multiprocessor
// two blocks.
int32_t SplitsOfGroup(const pfm_params& params, int64_t key_tiles, int multiprocessors) {
  const int64_t group = params.heads_q / params.heads_kv;
  const int64_t blocks = params.batch * params.heads_kv * key_tiles;
  int64_t splits = 1;
  while (splits < group && (blocks * splits < 2 * multiprocessors || group % splits != 0)) ++splits;
  return static_cast<int32_t>(splits);
}

struct BackwardPlan {
  int key_row;       // of kBackward
  int query_row;     // of kQueryGradient
  bool adds_dquery;  // by atomics; otherwise a pass of its own computes it
  size_t dquery_bytes;
  MaskTable key_mask, query_mask;
  sm80::BackwardArguments arguments;

  BackwardPlan(const pfm_params& params, const ptx::DeviceLimits& limits, Arena* arena)
      : key_row(sm80::BackwardRowFor(LargerHeadDim(params), limits.shared_bytes)),
        query_row(sm80::RowFor(sm80::kQueryGradient, params.head_dim, params.head_dim_v)) {
    const sm80::BackwardTile& tile = sm80::kBackward[key_row];
    const sm80::QueryGradientTile& query_tile = sm80::kQueryGradient[query_row];
    adds_dquery = params.deterministic == 0 && tile.shared_bytes(true) <= limits.shared_bytes;
    key_mask = TakeMaskTable(params, tile.tile_q, tile.tile_k, arena);
    query_mask = adds_dquery ? key_mask : TakeMaskTable(params, query_tile.tile_q, query_tile.tile_k, arena);
    arguments.params = params;
    arguments.mask = key_mask;
    arguments.dropout = DropoutOf(params);
    const int64_t heads = params.batch * params.heads_q;
    arguments.padded_rows = RoundUp<int64_t>(params.seqlen_q, sm80::kRowsPerBlock);
    arguments.row_blocks = static_cast<int32_t>(arguments.padded_rows / sm80::kRowsPerBlock);
    arguments.lse = arena->Take<float>(heads * arguments.padded_rows);
    arguments.delta = arena->Take<float>(heads * arguments.padded_rows);
    arguments.dsink = arena->Take<float>(heads * arguments.row_blocks);
    arguments.padded_dim = tile.head_dim;
    const int multiprocessors = params.num_workers > 0 ? params.num_workers : limits.multiprocessors;
    arguments.splits = SplitsOfGroup(params, key_mask.key_tiles, multiprocessors);
    const int64_t parts = arguments.splits == 1 ? 0
                                                : arguments.splits * params.batch * params.heads_kv *
                                                      key_mask.padded_keys * tile.head_dim;
    arguments.dkey_parts = arena->Take<float>(parts);
    arguments.dvalue_parts = arena->Take<float>(parts);
    const int64_t sums = adds_dquery ? heads * arguments.padded_rows * tile.head_dim : 0;
    dquery_bytes = static_cast<size_t>(sums) * sizeof(float);
    arguments.dquery = arena->Take<float>(sums);
    if (!adds_dquery || params.dquery.data == nullptr) arguments.dquery = nullptr;
  }

  sm80::BackwardArguments QueryGradientArguments() const {
    sm80::BackwardArguments result = arguments;
    result.mask = query_mask;
    return result;
  }
};

template <class T>
Result RunForward(const ForwardPlan& plan) {
  const pfm_params& params = plan.arguments.params;
  if (params.batch == 0 || params.seqlen_q == 0) return {};
  const Result mask = FromLaunch("mask preparation", PrepareMask(params, plan.arguments.mask));
  if (Failed(mask)) return mask;
  return FromLaunch("the forward kernel", sm80::LaunchForward<T>(plan.row, plan.arguments));
}

template <class T>
Result RunQueryGradient(const BackwardPlan& plan) {
  if (plan.adds_dquery) {
    return FromLaunch("the conversion of dquery", sm80::LaunchConvertQueryGradient<T>(plan.arguments));
  }
  const sm80::BackwardArguments arguments = plan.QueryGradientArguments();
  const Result mask = FromLaunch("mask preparation", PrepareMask(arguments.params, arguments.mask));
  if (Failed(mask)) return mask;
  return FromLaunch("the dquery kernel", sm80::LaunchQueryGradient<T>(plan.query_row, arguments));
}

template <class T>
Result RunBackward(const BackwardPlan& plan) {
  const sm80::BackwardArguments& arguments = plan.arguments;
  const pfm_params& params = arguments.params;
  const bool has_rows = params.batch > 0 && params.seqlen_q > 0;
  const bool has_keys = params.batch > 0 && params.seqlen_k > 0;
  Result result;
  if (has_rows) result = FromLaunch("the preparation of rows", sm80::LaunchPrepareRows(arguments));
  if (!Failed(result) && params.dsink != nullptr) {
    result = FromLaunch("the gradient of the sink", sm80::LaunchSumSink(arguments));
  }
  if (!Failed(result) && has_rows && arguments.dquery != nullptr) {
    result = FromLaunch("clearing dquery", ptx::ClearMemory(arguments.dquery, plan.dquery_bytes, params.stream));
  }
  const bool needs_key_pass =
      params.dkey.data != nullptr || params.dvalue.data != nullptr || arguments.dquery != nullptr;
  if (!Failed(result) && has_keys && needs_key_pass) {
    result = FromLaunch("mask preparation", PrepareMask(params, arguments.mask));
    if (!Failed(result)) {
      result = FromLaunch("the backward kernel", sm80::LaunchBackward<T>(plan.key_row, arguments));
    }
    if (!Failed(result) && arguments.splits > 1) {
      result = FromLaunch("the sum of dkey and dvalue", sm80::LaunchSumParts<T>(arguments));
    }
  }
  if (!Failed(result) && has_rows && params.dquery.data != nullptr) result = RunQueryGradient<T>(plan);
  return result;
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

}  // namespace

const char* Architectures() { return PFM_CUDA_ARCHITECTURES; }

Result ComputeCapability(int32_t* compute_capability) {
  ptx::DeviceLimits limits = {};
  const Result device = CurrentDevice(&limits);
  *compute_capability = limits.compute_capability;
  return device;
}

Result ForwardWorkspace(const pfm_params& params, size_t* bytes) {
  const Result supported = Supported(params, false);
  if (Failed(supported)) return supported;
  Arena arena(nullptr);
  const ForwardPlan plan(params, &arena);
  *bytes = arena.used();
  return {};
}

Result BackwardWorkspace(const pfm_params& params, size_t* bytes) {
  const Result supported = Supported(params, false);
  if (Failed(supported)) return supported;
  ptx::DeviceLimits limits = {};
  const Result device = CurrentDevice(&limits);
  if (Failed(device)) return device;
  Arena arena(nullptr);
  const BackwardPlan plan(params, limits, &arena);
  *bytes = arena.used();
  return {};
}

Result Forward(const pfm_params& params) {
  const Result supported = Supported(params, true);
  if (Failed(supported)) return supported;
  Arena arena(params.workspace);
  const ForwardPlan plan(params, &arena);
  const Result workspace = CheckWorkspace(params, arena.used());
  if (Failed(workspace)) return workspace;
  return params.dtype == PFM_BFLOAT16 ? RunForward<ptx::BFloat16>(plan) : RunForward<ptx::Float16>(plan);
}

Result Backward(const pfm_params& params) {
  const Result supported = Supported(params, true);
  if (Failed(supported)) return supported;
  ptx::DeviceLimits limits = {};
  const Result device = CurrentDevice(&limits);
  if (Failed(device)) return device;
  Arena arena(params.workspace);
  const BackwardPlan plan(params, limits, &arena);
  const Result workspace = CheckWorkspace(params, arena.used());
  if (Failed(workspace)) return workspace;
  return params.dtype == PFM_BFLOAT16 ? RunBackward<ptx::BFloat16>(plan) : RunBackward<ptx::Float16>(plan);
}

}  // namespace pfm::cuda
