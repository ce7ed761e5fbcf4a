#include <cstdint>

#include "../sm80/backward_plan.h"
#include "backward_arguments.h"
#include "backward_attention.h"
#include "backward_config.h"
#include "tensor_maps.h"

namespace pfm::cuda::sm90 {
namespace {

constexpr int kStoredKeys = 64;  // a warpgroup's

TensorSize QuerySize(const pfm_params& params) {
  return {params.batch, params.seqlen_q, params.heads_q, params.head_dim};
}
TensorSize KeySize(const pfm_params& params) {
  return {params.batch, params.seqlen_k, params.heads_kv, params.head_dim};
}

int RowOf(const pfm_params& params) { return BackwardRowFor(params.head_dim, params.head_dim_v); }

// Half as many blocks as for sm80 are enough: one fills a multiprocessor.
sm80::KeyPass KeyPassOf(const BackwardTile& tile) { return {tile.head_dim, tile.tile_q, tile.tile_k, true, 1, true}; }

ptx::LaunchStatus EncodeMaps(const BackwardTile& tile, BackwardArguments* arguments) {
  const pfm_params& params = arguments->rows.params;
  const TensorSize queries = QuerySize(params), keys = KeySize(params);
  const bool has_dout = params.dout.data != nullptr;
  arguments->dout_row = has_dout ? 0 : static_cast<int32_t>(params.seqlen_q);
  const struct {
    ptx::TensorMap* map;
    const pfm_tensor& tensor;
    const TensorSize& size;
    int box_rows;
  } maps[] = {
      {&arguments->query, params.query, queries, tile.tile_q},
      {&arguments->dout, has_dout ? params.dout : params.query, queries, tile.tile_q},
      {&arguments->key, params.key, keys, tile.tile_k},
      {&arguments->value, params.value, keys, tile.tile_k},
      {&arguments->dkey, params.dkey, keys, kStoredKeys},
      {&arguments->dvalue, params.dvalue, keys, kStoredKeys},
  };
  for (const auto& [map, tensor, size, box_rows] : maps) {
    if (tensor.data == nullptr) continue;
    const ptx::LaunchStatus status = EncodeMap(map, tensor, size, params.dtype, box_rows);
    if (!status.ok()) return status;
  }
  return {};
}

template <class T>
Result RunBackward(int row, const sm80::BackwardPlan& plan) {
  return sm80::RunBackward<T>(plan, [&]() -> ptx::LaunchStatus {
    BackwardArguments arguments = {};
    arguments.rows = plan.arguments;
    const ptx::LaunchStatus maps = EncodeMaps(kBackward[row], &arguments);
    return maps.ok() ? LaunchBackward<T>(row, arguments) : maps;
  });
}

}  // namespace

bool BackwardTakes(const pfm_params& params, const ptx::DeviceLimits& limits) {
  const int row = RowOf(params);
  if (limits.compute_capability != 90 || row < 0 || kBackward[row].shared_bytes() > limits.shared_bytes) return false;
  if (params.dropout > 0.0f || params.block_mask != nullptr) return false;
  if (params.batch == 0 || params.seqlen_q == 0 || params.seqlen_k == 0) return false;
  const BackwardTile& tile = kBackward[row];
  for (const pfm_tensor* tensor : {&params.query, &params.dout}) {
    if (!HasMap(*tensor, QuerySize(params), params.dtype, tile.tile_q)) return false;
  }
  for (const pfm_tensor* tensor : {&params.key, &params.value, &params.dkey, &params.dvalue}) {
    if (!HasMap(*tensor, KeySize(params), params.dtype, tile.tile_k)) return false;
  }
  return true;
}

size_t BackwardWorkspace(const pfm_params& params, const ptx::DeviceLimits& limits) {
  Arena arena(nullptr);
  const sm80::BackwardPlan plan(params, KeyPassOf(kBackward[RowOf(params)]), limits, &arena);
  return arena.used();
}

Result Backward(const pfm_params& params, const ptx::DeviceLimits& limits) {
  Arena arena(params.workspace);
  const int row = RowOf(params);
  const sm80::BackwardPlan plan(params, KeyPassOf(kBackward[row]), limits, &arena);
  return params.dtype == PFM_BFLOAT16 ? RunBackward<ptx::BFloat16>(row, plan) : RunBackward<ptx::Float16>(row, plan);
}

}  // namespace pfm::cuda::sm90
