#include <cstdint>

#include "../common/arena.h"
#include "../prepare.h"
#include "attention.h"
#include "config.h"
#include "launch.h"

namespace pfm::cuda::sm80 {
namespace {

int64_t LargerHeadDim(const pfm_params& params) { return Max(params.head_dim, params.head_dim_v); }

DropoutStream DropoutOf(const pfm_params& params) { return MakeDropout(params.dropout, params.seed, params.offset); }

struct ForwardPlan {
  int row;
  ForwardArguments arguments;

  ForwardPlan(const pfm_params& params, Arena* arena) : row(RowFor(kForward, params.head_dim, params.head_dim_v)) {
    const ForwardTile& tile = kForward[row];
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
  BackwardArguments arguments;

  BackwardPlan(const pfm_params& params, const ptx::DeviceLimits& limits, Arena* arena)
      : key_row(BackwardRowFor(LargerHeadDim(params), limits.shared_bytes)),
        query_row(RowFor(kQueryGradient, params.head_dim, params.head_dim_v)) {
    const BackwardTile& tile = kBackward[key_row];
    const QueryGradientTile& query_tile = kQueryGradient[query_row];
    adds_dquery = params.deterministic == 0 && tile.shared_bytes(true) <= limits.shared_bytes;
    key_mask = TakeMaskTable(params, tile.tile_q, tile.tile_k, arena);
    query_mask = adds_dquery ? key_mask : TakeMaskTable(params, query_tile.tile_q, query_tile.tile_k, arena);
    arguments.params = params;
    arguments.mask = key_mask;
    arguments.dropout = DropoutOf(params);
    const int64_t heads = params.batch * params.heads_q;
    arguments.padded_rows = RoundUp<int64_t>(params.seqlen_q, kRowsPerBlock);
    arguments.row_blocks = static_cast<int32_t>(arguments.padded_rows / kRowsPerBlock);
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

  BackwardArguments QueryGradientArguments() const {
    BackwardArguments result = arguments;
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
  return FromLaunch("the forward kernel", LaunchForward<T>(plan.row, plan.arguments));
}

template <class T>
Result RunQueryGradient(const BackwardPlan& plan) {
  if (plan.adds_dquery) {
    return FromLaunch("the conversion of dquery", LaunchConvertQueryGradient<T>(plan.arguments));
  }
  const BackwardArguments arguments = plan.QueryGradientArguments();
  const Result mask = FromLaunch("mask preparation", PrepareMask(arguments.params, arguments.mask));
  if (Failed(mask)) return mask;
  return FromLaunch("the dquery kernel", LaunchQueryGradient<T>(plan.query_row, arguments));
}

template <class T>
Result RunBackward(const BackwardPlan& plan) {
  const BackwardArguments& arguments = plan.arguments;
  const pfm_params& params = arguments.params;
  const bool has_rows = params.batch > 0 && params.seqlen_q > 0;
  const bool has_keys = params.batch > 0 && params.seqlen_k > 0;
  Result result;
  if (has_rows) result = FromLaunch("the preparation of rows", LaunchPrepareRows(arguments));
  if (!Failed(result) && params.dsink != nullptr) {
    result = FromLaunch("the gradient of the sink", LaunchSumSink(arguments));
  }
  if (!Failed(result) && has_rows && arguments.dquery != nullptr) {
    result = FromLaunch("clearing dquery", ptx::ClearMemory(arguments.dquery, plan.dquery_bytes, params.stream));
  }
  const bool needs_key_pass =
      params.dkey.data != nullptr || params.dvalue.data != nullptr || arguments.dquery != nullptr;
  if (!Failed(result) && has_keys && needs_key_pass) {
    result = FromLaunch("mask preparation", PrepareMask(params, arguments.mask));
    if (!Failed(result)) {
      result = FromLaunch("the backward kernel", LaunchBackward<T>(plan.key_row, arguments));
    }
    if (!Failed(result) && arguments.splits > 1) {
      result = FromLaunch("the sum of dkey and dvalue", LaunchSumParts<T>(arguments));
    }
  }
  if (!Failed(result) && has_rows && params.dquery.data != nullptr) result = RunQueryGradient<T>(plan);
  return result;
}

}  // namespace

size_t ForwardWorkspace(const pfm_params& params) {
  Arena arena(nullptr);
  const ForwardPlan plan(params, &arena);
  return arena.used();
}

size_t BackwardWorkspace(const pfm_params& params, const ptx::DeviceLimits& limits) {
  Arena arena(nullptr);
  const BackwardPlan plan(params, limits, &arena);
  return arena.used();
}

Result Forward(const pfm_params& params) {
  Arena arena(params.workspace);
  const ForwardPlan plan(params, &arena);
  return params.dtype == PFM_BFLOAT16 ? RunForward<ptx::BFloat16>(plan) : RunForward<ptx::Float16>(plan);
}

Result Backward(const pfm_params& params, const ptx::DeviceLimits& limits) {
  Arena arena(params.workspace);
  const BackwardPlan plan(params, limits, &arena);
  return params.dtype == PFM_BFLOAT16 ? RunBackward<ptx::BFloat16>(plan) : RunBackward<ptx::Float16>(plan);
}

}  // namespace pfm::cuda::sm80
