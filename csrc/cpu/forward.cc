// Forward attention: keys and values are packed once per (batch, kv head); then every block of query tiles traverses
// its live key tiles with an online softmax.
#include <algorithm>
#include <cmath>
#include <limits>

#include "arena.h"
#include "attention.h"
#include "few_keys.h"
#include "few_queries.h"
#include "huge_pages.h"
#include "isolation.h"
#include "mask_plan.h"
#include "parallel.h"
#include "tensor_access.h"
#include "tile_kernels.h"

namespace pfm::cpu {
namespace {

constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

struct QueryTile {
  int64_t index, row0;
  int rows;
  float* query;  // panels of kTileQ rows
  float* out;    // the same
  RowState* state;
};

struct Scratch {
  float* scores;  // [kTileQ][kScoreStride]
  float* keep;    // the same, under dropout; then the visibility of an isolated tile
  float* finite;  // a value tile without NaN and infinity
  QueryTile tiles[kBlockTiles];
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
    finite_values_ = arena->Take<bool>(key_tiles);
    threads_ = static_cast<int>(params.num_workers);
    scratch_ = arena->Take<float>(threads_ * ScratchFloats());
  }

  void Run() {
    mask_.Build(threads_);
    const int64_t key_tiles = mask_.key_tiles();
    ParallelFor(params_.batch * params_.heads_kv * key_tiles, threads_,
                [&](int64_t item, int) { PackKeyTile(item / key_tiles, item % key_tiles); });
    // Head after head, so that keys and values stay in cache; longest blocks first within a head, so that the last
    // blocks to finish are short.
    const int64_t blocks = mask_.query_blocks();
    ParallelFor(params_.batch * params_.heads_q * blocks, threads_, [&](int64_t item, int thread) {
      const int64_t batch = item / blocks / params_.heads_q;
      const int64_t head = item / blocks % params_.heads_q;
      Scratch scratch = ScratchOf(thread);
      AttendQueryBlock(batch, head, mask_.QueryBlock(mask_.MaskOf(batch, head), item % blocks), &scratch);
    });
  }

 private:
  int64_t ScratchFloats() const {
    const int64_t query_and_out = kTileQ * (PaddedDim(params_.head_dim) + PaddedDim(params_.head_dim_v));
    const int64_t state = sizeof(RowState) / sizeof(float);
    return 2 * kTileQ * kScoreStride + value_size_ + kBlockTiles * (query_and_out + state);
  }

  Scratch ScratchOf(int thread) const {
    float* at = scratch_ + thread * ScratchFloats();
    const auto take = [&at](int64_t count) {
      float* taken = at;
      at += count;
      return taken;
    };
    Scratch scratch;
    scratch.scores = take(kTileQ * kScoreStride);
    scratch.keep = take(kTileQ * kScoreStride);
    scratch.finite = take(value_size_);
    for (QueryTile& tile : scratch.tiles) {
      tile.query = take(kTileQ * PaddedDim(params_.head_dim));
      tile.out = take(kTileQ * PaddedDim(params_.head_dim_v));
      tile.state = reinterpret_cast<RowState*>(take(sizeof(RowState) / sizeof(float)));
    }
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
    finite_values_[at] = Kernels().pack_panels[params_.dtype](At(params_.value, params_.dtype, batch, key, head),
                                                              params_.value.stride_seq, keys, dim_v, 1.0f,
                                                              values_ + at * value_size_, kTileK);
  }

  void AttendQueryBlock(int64_t batch, int64_t head, int64_t block, Scratch* scratch) const {
    const int64_t first = block * kBlockTiles;
    const int tiles = static_cast<int>(Min<int64_t>(kBlockTiles, mask_.query_tiles() - first));
    for (int i = 0; i < tiles; ++i) StartTile(batch, head, first + i, &scratch->tiles[i]);
    for (int64_t key_tile = 0; key_tile < mask_.key_tiles(); ++key_tile) {
      bool fetches = true;
      for (int i = 0; i < tiles; ++i) {
        TileShape shape;
        if (!mask_.Shape(batch, head, first + i, key_tile, &shape)) continue;
        AttendTile(batch, head, key_tile, shape, scratch->tiles[i], *scratch, fetches);
        fetches = false;
      }
    }
    for (int i = 0; i < tiles; ++i) FinishTile(batch, head, scratch->tiles[i]);
  }

  // A sink acts as a score with value vector 0 that every row sees before its first key.
  void StartTile(int64_t batch, int64_t head, int64_t index, QueryTile* tile) const {
    tile->index = index;
    tile->row0 = index * kTileQ;
    tile->rows = mask_.Rows(index);
    Kernels().pack_panels[params_.dtype](At(params_.query, params_.dtype, batch, tile->row0, head),
                                         params_.query.stride_seq, tile->rows, static_cast<int>(params_.head_dim),
                                         params_.softmax_scale, tile->query, kTileQ);
    const float sink = params_.learnable_sink == nullptr ? kMinusInfinity : params_.learnable_sink[head];
    std::fill_n(tile->state->max, kTileQ, sink);
    std::fill_n(tile->state->sum, kTileQ, sink == kMinusInfinity ? 0.0f : 1.0f);
    std::fill_n(tile->out, kTileQ * PaddedDim(params_.head_dim_v), 0.0f);
  }

  // `fetches`: prefetch the value tile and the next key tile, which are not in cache yet.
  void AttendTile(int64_t batch, int64_t head, int64_t key_tile, const TileShape& shape, const QueryTile& tile,
                  const Scratch& scratch, bool fetches) const {
    const TileKernels& kernels = Kernels();
    const int64_t kv_head = batch * params_.heads_kv + head / (params_.heads_q / params_.heads_kv);
    const int64_t at = kv_head * mask_.key_tiles() + key_tile;
    const float* key = keys_ + at * key_size_;
    const float* value = values_ + at * value_size_;
    const Upcoming this_value = {value, fetches ? static_cast<int>(value_size_) : 0};
    const Upcoming next_key = {key + key_size_, fetches ? static_cast<int>(key_size_) : 0};
    kernels.multiply(tile.query, key, static_cast<int>(params_.head_dim), shape, scratch.scores, this_value);
    mask_.ApplyMask(batch, head, tile.index, key_tile, shape, scratch.scores);
    kernels.softmax(shape, scratch.scores, tile.state);
    if (params_.dropout > 0.0f) {
      kernels.dropout_keep(DropoutOf(params_), DropoutHead(params_, batch, head), tile.row0, key_tile * kTileK, shape,
                           scratch.keep);
      kernels.scale_by(shape, scratch.keep, scratch.scores);
    }
    const int dim_v = static_cast<int>(params_.head_dim_v);
    if (shape.masked && !finite_values_[at]) {
      mask_.Visibility(batch, head, tile.index, key_tile, shape, scratch.keep);
      const IsolatedTile isolated = {shape, scratch.keep, scratch.finite};
      isolated.Accumulate(scratch.scores, value, dim_v, tile.state->rescale, tile.out);
      return;
    }
    kernels.accumulate(scratch.scores, value, dim_v, shape, tile.state->rescale, tile.out, next_key);
  }

  void FinishTile(int64_t batch, int64_t head, const QueryTile& tile) const {
    float* lse = params_.lse + (batch * params_.heads_q + head) * params_.seqlen_q + tile.row0;
    float inverse[kTileQ];
    for (int row = 0; row < tile.rows; ++row) {
      const float sum = tile.state->sum[row];
      inverse[row] = sum == 0.0f ? 0.0f : 1.0f / sum;
      lse[row] = sum == 0.0f ? kMinusInfinity
                             : static_cast<float>(tile.state->max[row] + std::log(static_cast<double>(sum)));
    }
    Kernels().store_panels[params_.dtype](tile.out, kTileQ, tile.rows, static_cast<int>(params_.head_dim_v), inverse,
                                          1.0f, At(params_.out, params_.dtype, batch, tile.row0, head),
                                          params_.out.stride_seq);
  }

  const pfm_params& params_;
  MaskPlan mask_;
  int64_t key_size_, value_size_;  // floats per packed key tile
  float* keys_;                    // [B * Hkv][key tile], transposed
  float* values_;                  // [B * Hkv][key tile], panels
  bool* finite_values_;            // [B * Hkv][key tile]
  int threads_;
  float* scratch_;
};

}  // namespace

size_t ForwardWorkspace(const pfm_params& params) {
  if (HasFewQueries(params)) return FewQueriesWorkspace(params);
  if (HasFewKeys(params)) return FewKeysWorkspace(params);
  Arena arena(nullptr);
  ForwardPass pass(params, &arena);
  return arena.used();
}

void Forward(const pfm_params& params) {
  if (HasFewQueries(params)) return FewQueriesForward(params);
  AdviseHugePages(params.workspace, params.workspace_size);
  AdviseHugePagesUnder(params.out, params, params.seqlen_q, params.heads_q, params.head_dim_v);
  if (HasFewKeys(params)) return FewKeysForward(params);
  Arena arena(params.workspace);
  ForwardPass(params, &arena).Run();
}

}  // namespace pfm::cpu
