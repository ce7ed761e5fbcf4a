#include <cstdint>

#include "../backward/backward_plan.h"
#include "../common/workspace.h"
#include "backward_arguments.h"
#include "backward_config.h"
#include "backward_host.h"
#include "tensor_maps.h"

namespace pfm::cuda::sm90 {
namespace {

constexpr int kStoredKeys = 64;  // a warpgroup's

TensorSize QuerySize(const pfm_params& params) {
  return {params.batch, params.seqlen_q, params.heads_q, params.head_dim};
}
TensorSize DoutSize(const pfm_params& params) {
  return {params.batch, params.seqlen_q, params.heads_q, params.head_dim_v};
}
TensorSize KeySize(const pfm_params& params) {
  return {params.batch, params.seqlen_k, params.heads_kv, params.head_dim};
}
TensorSize ValueSize(const pfm_params& params) {
  return {params.batch, params.seqlen_k, params.heads_kv, params.head_dim_v};
}

// Of the 50 MB of an H100's L2 cache.
constexpr int64_t kTurnCachedBytes = 40 << 20;

// One block fills a multiprocessor.
KeyPass KeyPassOf(const BackwardTile& tile) {
  return {tile.head_dim, tile.tile_q, tile.tile_k, true, 1, true, kCachedBytes, kTurnCachedBytes};
}

ptx::LaunchStatus EncodeMaps(const BackwardTile& tile, TmaBackwardArguments* arguments) {
  const pfm_params& params = arguments->common.params;
  const TensorSize queries = QuerySize(params), keys = KeySize(params), values = ValueSize(params);
  const bool has_dout = params.dout.data != nullptr;
  const TensorSize douts = has_dout ? DoutSize(params) : queries;  // without one, rows beyond the queries: zeros
  arguments->dout_row = has_dout ? 0 : static_cast<int32_t>(params.seqlen_q);
  const struct {
    ptx::TensorMap* map;
    const pfm_tensor& tensor;
    const TensorSize& size;
    int box_rows;
  } maps[] = {
      {&arguments->query, params.query, queries, tile.tile_q},
      {&arguments->dout, has_dout ? params.dout : params.query, douts, tile.tile_q},
      {&arguments->key, params.key, keys, tile.tile_k},
      {&arguments->value, params.value, values, tile.tile_k},
      {&arguments->dkey, params.dkey, keys, kStoredKeys},
      {&arguments->dvalue, params.dvalue, values, kStoredKeys},
  };
  for (const auto& [map, tensor, size, box_rows] : maps) {
    if (tensor.data == nullptr) continue;
    const ptx::LaunchStatus status = EncodeMap(map, tensor, size, params.dtype, box_rows);
    if (!status.ok()) return status;
  }
  return {};
}

struct Plan {
  int row;  // of kBackward
  BackwardPlan shared;

  Plan(const pfm_params& params, const ptx::DeviceLimits& limits, Arena* arena)
      : row(BackwardRowFor(params.head_dim, params.head_dim_v)),
        shared(params, KeyPassOf(kBackward[row]), limits, arena) {}
};

template <class T>
Result RunAs(const Plan& plan) {
  return RunBackward<T>(plan.shared, [&]() -> ptx::LaunchStatus {
    TmaBackwardArguments arguments = {};
    arguments.common = plan.shared.arguments;
    const ptx::LaunchStatus maps = EncodeMaps(kBackward[plan.row], &arguments);
    return maps.ok() ? LaunchBackward<T>(plan.row, arguments) : maps;
  });
}

bool Supports(const pfm_params& params, const ptx::DeviceLimits& limits) {
  const int row = BackwardRowFor(params.head_dim, params.head_dim_v);
  if (limits.compute_capability != 90 || row < 0 || kBackward[row].shared_bytes() > limits.shared_bytes) return false;
  if (params.dropout > 0.0f || params.block_mask != nullptr) return false;
  if (params.batch == 0 || params.seqlen_q == 0 || params.seqlen_k == 0) return false;
  const BackwardTile& tile = kBackward[row];
  return HasMap(params.query, QuerySize(params), params.dtype, tile.tile_q) &&
         HasMap(params.dout, DoutSize(params), params.dtype, tile.tile_q) &&
         HasMap(params.key, KeySize(params), params.dtype, tile.tile_k) &&
         HasMap(params.dkey, KeySize(params), params.dtype, tile.tile_k) &&
         HasMap(params.value, ValueSize(params), params.dtype, tile.tile_k) &&
         HasMap(params.dvalue, ValueSize(params), params.dtype, tile.tile_k);
}

size_t Workspace(const pfm_params& params, const ptx::DeviceLimits& limits) {
  Arena arena(nullptr);
  const Plan plan(params, limits, &arena);
  return arena.used();
}

Result Run(const pfm_params& params, const ptx::DeviceLimits& limits) {
  Arena arena(params.workspace);
  const Plan plan(params, limits, &arena);
  const Result workspace = CheckWorkspace(params, arena.used());
  if (Failed(workspace)) return workspace;
  return params.dtype == PFM_BFLOAT16 ? RunAs<ptx::BFloat16>(plan) : RunAs<ptx::Float16>(plan);
}

}  // namespace

const KernelSet kBackwardKernels = {Supports, Workspace, Run};

}  // namespace pfm::cuda::sm90
