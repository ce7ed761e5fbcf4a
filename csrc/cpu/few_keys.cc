// A tile of query rows sees all keys at once, so that its softmax needs no running state.
#include "few_keys.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "arena.h"
#include "few_queries.h"
#include "isolation.h"
#include "mask_plan.h"
#include "parallel.h"
#include "tensor_access.h"
#include "tile_kernels.h"

namespace pfm::cpu {
namespace {

constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

constexpr int64_t kMostKeys = 8;
constexpr int kTileRows = kTileK;  // query rows: the scores of a key take the place of a row's
static_assert(kTileRows % kTileQ == 0 && 128 % kTileRows == 0, "a tile lies in one block of block_mask");

struct Tile {
  int64_t batch, head, row0;
  int rows;
};

struct Scratch {
  float* scores;  // [key][kScoreStride]
  float* keep;    // [kTileRows][kScoreStride], under dropout
  float* out;     // [kTileRows][padded head_dim_v], of an isolated tile
};

class FewKeysPass {
 public:
  FewKeysPass(const pfm_params& params, Arena* arena)
      : params_(params),
        mask_(params, arena),
        keys_(static_cast<int>(params.seqlen_k)),
        tiles_(CeilDiv<int64_t>(params.seqlen_q, kTileRows)),
        key_size_(static_cast<int64_t>(keys_) * PaddedDim(params.head_dim)),
        value_size_(static_cast<int64_t>(keys_) * PaddedDim(params.head_dim_v)),
        threads_(static_cast<int>(params.num_workers)) {
    const int64_t heads = params.batch * params.heads_kv;
    key_panels_ = arena->Take<float>(heads * key_size_);
    value_panels_ = arena->Take<float>(heads * value_size_);
    finite_panels_ = arena->Take<float>(heads * value_size_);
    has_non_finite_ = arena->Take<bool>(heads);
    scratch_ = arena->Take<float>(threads_ * ScratchFloats());
  }

  void Run() {
    mask_.Build(threads_);
    ParallelFor(params_.batch * params_.heads_kv, threads_, [&](int64_t item, int) { PackKeys(item); });
    // All heads of a range of rows follow each other: their rows share pages.
    ParallelFor(params_.batch * tiles_ * params_.heads_q, threads_, [&](int64_t item, int thread) {
      const int64_t row0 = item / params_.heads_q % tiles_ * kTileRows;
      const int rows = static_cast<int>(Min<int64_t>(kTileRows, params_.seqlen_q - row0));
      AttendTile({item / params_.heads_q / tiles_, item % params_.heads_q, row0, rows}, ScratchOf(thread));
    });
  }

 private:
  int64_t ScratchFloats() const {
    return kMostKeys * kScoreStride + kTileRows * (kScoreStride + PaddedDim(params_.head_dim_v));
  }

  Scratch ScratchOf(int thread) const {
    float* scores = scratch_ + thread * ScratchFloats();
    float* keep = scores + kMostKeys * kScoreStride;
    return {scores, keep, keep + kTileRows * kScoreStride};
  }

  void PackKeys(int64_t item) {
    const int64_t batch = item / params_.heads_kv, head = item % params_.heads_kv;
    const auto pack = Kernels().pack_panels[params_.dtype];
    pack(At(params_.key, params_.dtype, batch, 0, head), params_.key.stride_seq, keys_,
         static_cast<int>(params_.head_dim), params_.softmax_scale, key_panels_ + item * key_size_, keys_);
    const int dim = static_cast<int>(params_.head_dim_v);
    float* value = value_panels_ + item * value_size_;
    pack(At(params_.value, params_.dtype, batch, 0, head), params_.value.stride_seq, keys_, dim, 1.0f, value, keys_);
    has_non_finite_[item] = CopyFinite(value, keys_, dim, finite_panels_ + item * value_size_);
  }

  void AttendTile(const Tile& tile, const Scratch& scratch) const {
    const TileKernels& kernels = Kernels();
    const int64_t kv_item = tile.batch * params_.heads_kv + tile.head / (params_.heads_q / params_.heads_kv);
    const RowSpan query = {At(params_.query, params_.dtype, tile.batch, tile.row0, tile.head),
                           params_.query.stride_seq, kPanel, static_cast<int>(params_.head_dim)};
    const PanelSpan key = {key_panels_ + kv_item * key_size_, keys_};
    kernels.dots_of_rows[params_.dtype](query, 0, tile.rows, key, 0, keys_, scratch.scores);
    const bool hides = Hide(tile, scratch.scores);
    const float sink = params_.learnable_sink == nullptr ? kMinusInfinity : params_.learnable_sink[tile.head];
    float max[kTileRows], sum[kTileRows];
    kernels.softmax_of_columns(keys_, tile.rows, sink, scratch.scores, max, sum);
    FinishSoftmax(tile, max, sum, scratch.scores);
    if (params_.dropout > 0.0f) Drop(tile, scratch);
    if (hides && has_non_finite_[kv_item]) return StoreIsolated(tile, kv_item, scratch);
    kernels.store_combinations[params_.dtype](scratch.scores, {value_panels_ + kv_item * value_size_, keys_},
                                              tile.rows, static_cast<int>(params_.head_dim_v), Out(tile, 0),
                                              params_.out.stride_seq);
  }

  void* Out(const Tile& tile, int row) const {
    return At(params_.out, params_.dtype, tile.batch, tile.row0 + row, tile.head);
  }

  bool BlockHidden(const Tile& tile) const { return mask_.BlockHidden(tile.batch, tile.head, tile.row0 / kTileQ, 0); }

  // Scores of hidden pairs -> -inf. Returns whether there are any.
  bool Hide(const Tile& tile, float* scores) const {
    const int32_t row0 = static_cast<int32_t>(tile.row0);
    const bool all = BlockHidden(tile);
    bool hides = false;
    for (int key = 0; key < keys_; ++key, scores += kScoreStride) {
      const auto hide = [&](int32_t begin, int32_t end) {
        const int32_t first = Max(begin - row0, 0), last = Min(end - row0, tile.rows);
        if (first >= last) return;
        std::fill(scores + first, scores + last, kMinusInfinity);
        hides = true;
      };
      const Column column = mask_.ColumnOf(mask_.MaskOf(tile.batch, tile.head), key);
      hide(row0, all ? row0 + tile.rows : column.visible.begin);
      hide(column.visible.end, row0 + tile.rows);
      for (const RowRange& hole : column.hole) hide(hole.begin, hole.end);
    }
    return hides;
  }

  // Divides the weights by their sum and stores lse.
  void FinishSoftmax(const Tile& tile, const float* max, const float* sum, float* weights) const {
    float* lse = params_.lse + (tile.batch * params_.heads_q + tile.head) * params_.seqlen_q + tile.row0;
    float inverse[kTileRows];
    for (int row = 0; row < tile.rows; ++row) {
      inverse[row] = sum[row] == 0.0f ? 0.0f : 1.0f / sum[row];
      lse[row] = sum[row] == 0.0f ? kMinusInfinity : max[row] + std::log(sum[row]);
    }
    for (int key = 0; key < keys_; ++key, weights += kScoreStride) {
      for (int row = 0; row < tile.rows; ++row) weights[row] *= inverse[row];
    }
  }

  void Drop(const Tile& tile, const Scratch& scratch) const {
    TileShape shape;
    shape.panel_begin = 0;
    shape.panel_end = 1;
    shape.row_begin = 0;
    shape.row_end = tile.rows;
    Kernels().dropout_keep(DropoutOf(params_), DropoutHead(params_, tile.batch, tile.head), tile.row0, 0, shape,
                           scratch.keep);
    for (int key = 0; key < keys_; ++key) {
      for (int row = 0; row < tile.rows; ++row) {
        scratch.scores[key * kScoreStride + row] *= scratch.keep[row * kScoreStride + key];
      }
    }
  }

  // As AttendTile stores it, with the elements of values that are not finite only where a visible pair reads them.
  void StoreIsolated(const Tile& tile, int64_t kv_item, const Scratch& scratch) const {
    const TileKernels& kernels = Kernels();
    const int dim = static_cast<int>(params_.head_dim_v), padded = PaddedDim(dim);
    kernels.store_combinations[PFM_FLOAT32](scratch.scores, {finite_panels_ + kv_item * value_size_, keys_},
                                            tile.rows, padded, scratch.out, padded);
    const bool all_hidden = BlockHidden(tile);
    for (int key = 0; key < keys_ && !all_hidden; ++key) {
      const Column column = mask_.ColumnOf(mask_.MaskOf(tile.batch, tile.head), key);
      const float* value = value_panels_ + kv_item * value_size_ + key * kPanel;
      for (int row = 0; row < tile.rows; ++row) {
        if (!column.Sees(static_cast<int32_t>(tile.row0) + row)) continue;
        AddNonFinite(value, keys_, scratch.scores[key * kScoreStride + row], dim, scratch.out + row * padded, 1);
      }
    }
    for (int row = 0; row < tile.rows; ++row) {
      kernels.store_panels[params_.dtype](scratch.out + row * padded, 1, 1, dim, nullptr, 1.0f, Out(tile, row),
                                          params_.out.stride_seq);
    }
  }

  const pfm_params& params_;
  MaskPlan mask_;
  int keys_;
  int64_t tiles_;                  // of kTileRows query rows
  int64_t key_size_, value_size_;  // floats per key head
  int threads_;
  float* key_panels_;     // [B * Hkv], panels of `keys_` rows, times softmax_scale
  float* value_panels_;   // [B * Hkv], panels of `keys_` rows
  float* finite_panels_;  // the same with 0 in place of NaN and infinity
  bool* has_non_finite_;  // [B * Hkv]
  float* scratch_;
};

}  // namespace

bool HasFewKeys(const pfm_params& params) {
  return params.batch > 0 && params.seqlen_k > 0 && params.seqlen_k <= kMostKeys && params.seqlen_q > 0 &&
         !HasFewQueries(params);
}

size_t FewKeysWorkspace(const pfm_params& params) {
  Arena arena(nullptr);
  FewKeysPass pass(params, &arena);
  return arena.used();
}

void FewKeysForward(const pfm_params& params) {
  Arena arena(params.workspace);
  FewKeysPass(params, &arena).Run();
}

}  // namespace pfm::cpu
