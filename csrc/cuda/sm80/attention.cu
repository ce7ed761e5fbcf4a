#include <cstdint>

#include "../common/arena.h"
#include "../prepare.h"
#include "attention.h"
#include "backward_plan.h"
#include "config.h"
#include "launch.h"

namespace pfm::cuda::sm80 {
namespace {

struct ForwardPlan {
  int row;
  ForwardArguments arguments;

  ForwardPlan(const pfm_params& params, Arena* arena) : row(RowFor(kForward, params.head_dim, params.head_dim_v)) {
    const ForwardTile& tile = kForward[row];
    arguments.params = params;
    arguments.mask = TakeMaskTable(params, tile.tile_q, tile.tile_k, arena);
    arguments.dropout = MakeDropout(params.dropout, params.seed, params.offset);
  }
};

int BackwardRow(const pfm_params& params, const ptx::DeviceLimits& limits) {
  return BackwardRowFor(Max(params.head_dim, params.head_dim_v), limits.shared_bytes);
}

KeyPass KeyPassOf(const BackwardTile& tile, const ptx::DeviceLimits& limits) {
  return {tile.head_dim, tile.tile_q, tile.tile_k, tile.shared_bytes(true) <= limits.shared_bytes, 2, false};
}

template <class T>
Result RunForward(const ForwardPlan& plan) {
  const pfm_params& params = plan.arguments.params;
  if (params.batch == 0 || params.seqlen_q == 0) return {};
  const Result mask = FromLaunch("mask preparation", PrepareMask(params, plan.arguments.mask));
  if (Failed(mask)) return mask;
  return FromLaunch("the forward kernel", LaunchForward<T>(plan.row, plan.arguments));
}

template <class T>
Result RunBackward(int row, const BackwardPlan& plan) {
  return RunBackward<T>(plan, [&] { return LaunchBackward<T>(row, plan.arguments); });
}

}  // namespace

size_t ForwardWorkspace(const pfm_params& params) {
  Arena arena(nullptr);
  const ForwardPlan plan(params, &arena);
  return arena.used();
}

size_t BackwardWorkspace(const pfm_params& params, const ptx::DeviceLimits& limits) {
  Arena arena(nullptr);
  const BackwardTile& tile = kBackward[BackwardRow(params, limits)];
  const BackwardPlan plan(params, KeyPassOf(tile, limits), limits, &arena);
  return arena.used();
}

Result Forward(const pfm_params& params) {
  Arena arena(params.workspace);
  const ForwardPlan plan(params, &arena);
  return params.dtype == PFM_BFLOAT16 ? RunForward<ptx::BFloat16>(plan) : RunForward<ptx::Float16>(plan);
}

Result Backward(const pfm_params& params, const ptx::DeviceLimits& limits) {
  Arena arena(params.workspace);
  const int row = BackwardRow(params, limits);
  const BackwardPlan plan(params, KeyPassOf(kBackward[row], limits), limits, &arena);
  return params.dtype == PFM_BFLOAT16 ? RunBackward<ptx::BFloat16>(row, plan) : RunBackward<ptx::Float16>(row, plan);
}

}  // namespace pfm::cuda::sm80
