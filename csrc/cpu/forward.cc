// Forward attention: pack keys and values once per (batch, kv head), then every query tile walks its live key tiles
// with an online softmax.
#include <cmath>
#include <limits>

#include "arena.h"
#include "attention.h"
#include "huge_pages.h"
#include "mask_plan.h"
#include "parallel.h"
#include "tensor_access.h"
#include "tile_kernels.h"

namespace pfm::cpu {
namespace {

constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

struct Scratch {
  float* query;   // panels of kTileQ rows
  float* scores;  // [kTileQ][kScoreStride]
  float* keep;    // the same, under dropout
  float* out;     // panels of kTileQ rows
  RowState* rows;
};

class ForwardPass {
 public:
  ForwardPass(const pfm_params& params, Arena* arena)
      : params_(params),
        mask_(params, arena),
        key_size_(static_cast<int64_t>(PaddedDim(params.head_dim)) * kTileK),
        value_size_(static_cast<int64_t>(PaddedDim(params.head_dim_v)) * kTileK) {
    const int64_t key_tiles = params.batch * params.heads_kv * mask_.key_tiles();
    keys_ = arena->Take<float>(key_tiles * key_size_);
    values_ = arena->Take<float>(key_tiles * value_size_);
    threads_ = static_cast<int>(params.num_workers);
    scratch_ = arena->Take<float>(threads_ * ScratchFloats());
  }

  void Run() {
    mask_.Build(threads_);
    const int64_t key_tiles = mask_.key_tiles();
    ParallelFor(params_.batch * params_.heads_kv * key_tiles, threads_,
                [&](int64_t item, int) { PackKeyTile(item / key_tiles, item % key_tiles); });
    // Longest query tiles first within a head, head after head: keys and values stay in cache, and what is left for
    // the last thread at the end is a short tile.
    const int64_t query_tiles = mask_.query_tiles();
    ParallelFor(params_.batch * params_.heads_q * query_tiles, threads_, [&](int64_t item, int thread) {
      const int64_t batch = item / query_tiles / params_.heads_q;
      const int64_t head = item / query_tiles % params_.heads_q;
      AttendQueryTile(batch, head, mask_.QueryTile(mask_.MaskOf(batch, head), item % query_tiles), ScratchOf(thread));
    });
  }

 private:
  int64_t ScratchFloats() const {
    const int64_t tile = static_cast<int64_t>(kTileQ) * kScoreStride;
    return kTileQ * static_cast<int64_t>(PaddedDim(params_.head_dim) + PaddedDim(params_.head_dim_v)) + 2 * tile +
           static_cast<int64_t>(sizeof(RowState) / sizeof(float));
  }

  Scratch ScratchOf(int thread) const {
    float* at = scratch_ + thread * ScratchFloats();
    const auto take = [&at](int64_t count) {
      float* taken = at;
      at += count;
      return taken;
    };
    Scratch scratch;
    scratch.query = take(static_cast<int64_t>(kTileQ) * PaddedDim(params_.head_dim));
    scratch.out = take(static_cast<int64_t>(kTileQ) * PaddedDim(params_.head_dim_v));
    scratch.scores = take(static_cast<int64_t>(kTileQ) * kScoreStride);
    scratch.keep = take(static_cast<int64_t>(kTileQ) * kScoreStride);
    scratch.rows = reinterpret_cast<RowState*>(at);
    return scratch;
  }

  void PackKeyTile(int64_t kv_head, int64_t key_tile) {
    const int64_t batch = kv_head / params_.heads_kv, head = kv_head % params_.heads_kv;
    const int64_t at = kv_head * mask_.key_tiles() + key_tile;
    const int64_t key = key_tile * kTileK;
    const int keys = mask_.Keys(key_tile);
    const int dim = static_cast<int>(params_.head_dim), dim_v = static_cast<int>(params_.head_dim_v);
    Kernels().pack_transposed[params_.dtype](At(params_.key, params_.dtype, batch, key, head), params_.key.stride_seq,
                                             keys, dim, keys_ + at * key_size_);
    Kernels().pack_panels[params_.dtype](At(params_.value, params_.dtype, batch, key, head), params_.value.stride_seq,
                                         keys, dim_v, 1.0f, values_ + at * value_size_, kTileK);
  }

  void AttendQueryTile(int64_t batch, int64_t head, int64_t query_tile, const Scratch& scratch) const {
    const TileKernels& kernels = Kernels();
    const int64_t row0 = query_tile * kTileQ;
    const int rows = mask_.Rows(query_tile);
    const int dim = static_cast<int>(params_.head_dim), dim_v = static_cast<int>(params_.head_dim_v);
    kernels.pack_panels[params_.dtype](At(params_.query, params_.dtype, batch, row0, head), params_.query.stride_seq,
                                       rows, dim, params_.softmax_scale, scratch.query, kTileQ);
    StartRows(head, scratch);

    const int64_t kv_head = batch * params_.heads_kv + head / (params_.heads_q / params_.heads_kv);
    const DropoutStream dropout = DropoutOf(params_);
    for (int64_t key_tile = 0; key_tile < mask_.key_tiles(); ++key_tile) {
      TileShape shape;
      if (!mask_.Shape(batch, head, query_tile, key_tile, &shape)) continue;
      const int64_t at = kv_head * mask_.key_tiles() + key_tile;
      const float* key = keys_ + at * key_size_;
      const float* value = values_ + at * value_size_;
      kernels.multiply(scratch.query, key, dim, shape, scratch.scores, {value, static_cast<int>(value_size_)});
      mask_.ApplyMask(batch, head, query_tile, key_tile, shape, scratch.scores);
      kernels.softmax(shape, scratch.scores, scratch.rows);
      if (params_.dropout > 0.0f) {
        kernels.dropout_keep(dropout, DropoutHead(params_, batch, head), row0, key_tile * kTileK, shape,
                             scratch.keep);
        kernels.scale_by(shape, scratch.keep, scratch.scores);
      }
      kernels.accumulate(scratch.scores, value, dim_v, shape, scratch.rows->rescale, scratch.out,
                         {key + key_size_, static_cast<int>(key_size_)});
    }
    FinishRows(batch, head, row0, rows, scratch);
  }

  // A sink is a score of value zero that every row has seen before its first key.
  void StartRows(int64_t head, const Scratch& scratch) const {
    const bool has_sink = params_.learnable_sink != nullptr;
    for (int row = 0; row < kTileQ; ++row) {
      scratch.rows->max[row] = has_sink ? params_.learnable_sink[head] : kMinusInfinity;
      scratch.rows->sum[row] = has_sink && scratch.rows->max[row] != kMinusInfinity ? 1.0f : 0.0f;
    }
    const int64_t size = static_cast<int64_t>(kTileQ) * PaddedDim(params_.head_dim_v);
    for (int64_t i = 0; i < size; ++i) scratch.out[i] = 0.0f;
  }

  void FinishRows(int64_t batch, int64_t head, int64_t row0, int rows, const Scratch& scratch) const {
    float* lse = params_.lse + (batch * params_.heads_q + head) * params_.seqlen_q + row0;
    float inverse[kTileQ];
    for (int row = 0; row < rows; ++row) {
      const float sum = scratch.rows->sum[row];
      inverse[row] = sum == 0.0f ? 0.0f : 1.0f / sum;
      lse[row] = sum == 0.0f ? kMinusInfinity
                             : static_cast<float>(scratch.rows->max[row] + std::log(static_cast<double>(sum)));
    }
    Kernels().store_panels[params_.dtype](scratch.out, kTileQ, rows, static_cast<int>(params_.head_dim_v), inverse,
                                          1.0f, At(params_.out, params_.dtype, batch, row0, head),
                                          params_.out.stride_seq);
  }

  const pfm_params& params_;
  MaskPlan mask_;
  int64_t key_size_, value_size_;  // floats per packed key tile
  float* keys_;                    // [B * Hkv][key tile], transposed
  float* values_;                  // [B * Hkv][key tile], panels
  int threads_;
  float* scratch_;
};

}  // namespace

size_t ForwardWorkspace(const pfm_params& params) {
  Arena arena(nullptr);
  ForwardPass pass(params, &arena);
  return arena.used();
}

void Forward(const pfm_params& params) {
  AdviseHugePages(params.workspace, params.workspace_size);
  Arena arena(params.workspace);
  ForwardPass(params, &arena).Run();
}

}  // namespace pfm::cpu
