// Chunks of keys are attended independently, whatever the number of threads, and their outputs are added in order.
#include "few_queries.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "arena.h"
#include "isolation.h"
#include "mask_plan.h"
#include "parallel.h"
#include "tensor_access.h"
#include "tile_kernels.h"

namespace pfm::cpu {
namespace {

constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

// The heads of a chunk are read one after the other. Each row may lie on a page of its own, so a chunk is small
// enough that its pages stay in the TLB.
constexpr int64_t kChunkTiles = 2;

constexpr int64_t kMostQueries = 8;
constexpr int64_t kMostRows = 32;  // of all query heads that share a key head

struct Scratch {
  float* scores;  // [kTileQ][kScoreStride]
  float* keep;    // the same, under dropout; then the visibility of an isolated tile
  float* value;   // panels of a value tile that holds NaN or infinity
  float* finite;  // the same without them
};

class FewQueriesPass {
 public:
  FewQueriesPass(const pfm_params& params, Arena* arena)
      : params_(params),
        mask_(params, arena),
        rows_(static_cast<int>(params.seqlen_q)),
        group_(params.heads_q / params.heads_kv),
        chunks_(CeilDiv<int64_t>(mask_.key_tiles(), kChunkTiles)),
        query_size_(static_cast<int64_t>(rows_) * PaddedDim(params.head_dim)),
        out_size_(static_cast<int64_t>(rows_) * PaddedDim(params.head_dim_v)),
        threads_(static_cast<int>(params.num_workers)) {
    const int64_t heads = params.batch * params.heads_q;
    queries_ = arena->Take<float>(heads * query_size_);
    outs_ = arena->Take<float>(heads * chunks_ * out_size_);
    maxima_ = arena->Take<float>(heads * chunks_ * rows_);
    sums_ = arena->Take<float>(heads * chunks_ * rows_);
    scratch_ = arena->Take<float>(threads_ * ScratchFloats());
  }

  void Run() {
    mask_.Build(threads_);
    ParallelFor(params_.batch * params_.heads_q, threads_, [&](int64_t item, int) { PackQuery(item); });
    ParallelFor(params_.batch * chunks_ * params_.heads_kv, threads_, [&](int64_t item, int thread) {
      const int64_t batch = item / params_.heads_kv / chunks_;
      AttendChunk(batch, item / params_.heads_kv % chunks_, item % params_.heads_kv, ScratchOf(thread));
    });
    ParallelFor(params_.batch * params_.heads_q, threads_, [&](int64_t item, int) { AddChunks(item); });
  }

 private:
  int64_t ScratchFloats() const {
    const int64_t value = static_cast<int64_t>(kTileK) * PaddedDim(params_.head_dim_v);
    return 2 * kTileQ * kScoreStride + 2 * value;
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
    scratch.value = take(static_cast<int64_t>(kTileK) * PaddedDim(params_.head_dim_v));
    scratch.finite = take(static_cast<int64_t>(kTileK) * PaddedDim(params_.head_dim_v));
    return scratch;
  }

  // Index of the results of a chunk: [batch * Hq + head][chunk].
  int64_t Part(int64_t batch, int64_t head, int64_t chunk) const {
    return (batch * params_.heads_q + head) * chunks_ + chunk;
  }

  void PackQuery(int64_t item) {
    const void* query = At(params_.query, params_.dtype, item / params_.heads_q, 0, item % params_.heads_q);
    Kernels().pack_panels[params_.dtype](query, params_.query.stride_seq, rows_, static_cast<int>(params_.head_dim),
                                         params_.softmax_scale, queries_ + item * query_size_, rows_);
  }

  void AttendChunk(int64_t batch, int64_t chunk, int64_t kv_head, const Scratch& scratch) const {
    const int64_t begin = chunk * kChunkTiles, end = Min(begin + kChunkTiles, mask_.key_tiles());
    RowState states[kMostRows];
    for (int64_t i = 0; i < group_; ++i) Start(batch, kv_head * group_ + i, chunk, &states[i]);
    for (int64_t key_tile = begin; key_tile < end; ++key_tile) {
      for (int64_t i = 0; i < group_; ++i) {
        AttendTile(batch, kv_head * group_ + i, chunk, key_tile, scratch, &states[i]);
      }
    }
    for (int64_t i = 0; i < group_; ++i) {
      const int64_t part = Part(batch, kv_head * group_ + i, chunk);
      std::copy_n(states[i].max, rows_, maxima_ + part * rows_);
      std::copy_n(states[i].sum, rows_, sums_ + part * rows_);
    }
  }

  // A sink acts as a score with value vector 0 that every row sees before its first key.
  void Start(int64_t batch, int64_t head, int64_t chunk, RowState* state) const {
    const bool sinks = chunk == 0 && params_.learnable_sink != nullptr;
    const float sink = sinks ? params_.learnable_sink[head] : kMinusInfinity;
    std::fill_n(state->max, rows_, sink);
    std::fill_n(state->sum, rows_, sink == kMinusInfinity ? 0.0f : 1.0f);
    std::fill_n(outs_ + Part(batch, head, chunk) * out_size_, out_size_, 0.0f);
  }

  RowSpan Rows(const pfm_tensor& tensor, int64_t batch, int64_t key_tile, int64_t head, int64_t dim) const {
    const void* data = At(tensor, params_.dtype, batch, key_tile * kTileK, head);
    return {data, tensor.stride_seq, kPanel, static_cast<int>(dim)};
  }

  void AttendTile(int64_t batch, int64_t head, int64_t chunk, int64_t key_tile, const Scratch& scratch,
                  RowState* state) const {
    TileShape shape;
    if (!mask_.Shape(batch, head, 0, key_tile, &shape)) return;
    const TileKernels& kernels = Kernels();
    const int64_t kv_head = head / group_;
    const int begin = shape.panel_begin * kPanel;
    const int end = static_cast<int>(Min<int64_t>(shape.panel_end * kPanel, mask_.Keys(key_tile)));
    const RowSpan key = Rows(params_.key, batch, key_tile, kv_head, params_.head_dim);
    const RowSpan value = Rows(params_.value, batch, key_tile, kv_head, params_.head_dim_v);
    const PanelSpan query = {queries_ + (batch * params_.heads_q + head) * query_size_, rows_};
    kernels.dots_of_rows[params_.dtype](key, begin, end, query, shape.row_begin, shape.row_end, scratch.scores);
    mask_.ApplyMask(batch, head, 0, key_tile, shape, scratch.scores);
    kernels.softmax(shape, scratch.scores, state);
    if (params_.dropout > 0.0f) {
      kernels.dropout_keep(DropoutOf(params_), DropoutHead(params_, batch, head), 0, key_tile * kTileK, shape,
                           scratch.keep);
      kernels.scale_by(shape, scratch.keep, scratch.scores);
    }
    float* out = outs_ + Part(batch, head, chunk) * out_size_;
    Rescale(shape, *state, out);
    if (shape.masked && !kernels.finite_rows[params_.dtype](value, begin, end)) {
      kernels.pack_panels[params_.dtype](value.data, value.row_stride, mask_.Keys(key_tile), value.dim, 1.0f,
                                         scratch.value, kTileK);
      mask_.Visibility(batch, head, 0, key_tile, shape, scratch.keep);
      const IsolatedTile isolated = {shape, scratch.keep, scratch.finite};
      isolated.AccumulateRows(scratch.scores, scratch.value, value.dim, end, rows_, out);
      return;
    }
    kernels.accumulate_rows[params_.dtype](scratch.scores, value, begin, end, shape.row_begin, shape.row_end, rows_,
                                           out);
  }

  void Rescale(const TileShape& shape, const RowState& state, float* out) const {
    for (int panel = 0; panel < PaddedDim(params_.head_dim_v) / kPanel; ++panel) {
      for (int row = shape.row_begin; row < shape.row_end; ++row) {
        float* at = out + (panel * rows_ + row) * kPanel;
        for (int i = 0; i < kPanel; ++i) at[i] *= state.rescale[row];
      }
    }
  }

  // Adds the chunks of a head to its first one and stores the sum.
  void AddChunks(int64_t item) const {
    const int64_t batch = item / params_.heads_q, head = item % params_.heads_q;
    float* outs = outs_ + item * chunks_ * out_size_;
    float inverse[kMostQueries];
    for (int row = 0; row < rows_; ++row) inverse[row] = AddRow(item, row, outs);
    Kernels().store_panels[params_.dtype](outs, rows_, rows_, static_cast<int>(params_.head_dim_v), inverse, 1.0f,
                                          At(params_.out, params_.dtype, batch, 0, head), params_.out.stride_seq);
  }

  // Returns the factor of the row's sum and stores its lse.
  float AddRow(int64_t item, int row, float* outs) const {
    const float* maxima = maxima_ + item * chunks_ * rows_ + row;
    const float* sums = sums_ + item * chunks_ * rows_ + row;
    float max = kMinusInfinity;
    for (int64_t chunk = 0; chunk < chunks_; ++chunk) max = std::max(max, maxima[chunk * rows_]);
    const float base = max == kMinusInfinity ? 0.0f : max;
    double sum = 0.0;
    for (int64_t chunk = 0; chunk < chunks_; ++chunk) {
      const float factor = std::exp(maxima[chunk * rows_] - base);
      sum += static_cast<double>(factor) * sums[chunk * rows_];
      const float* part = outs + chunk * out_size_;
      for (int panel = 0; panel < PaddedDim(params_.head_dim_v) / kPanel; ++panel) {
        const int64_t at = (static_cast<int64_t>(panel) * rows_ + row) * kPanel;
        for (int i = 0; i < kPanel; ++i) outs[at + i] = (chunk == 0 ? 0.0f : outs[at + i]) + factor * part[at + i];
      }
    }
    params_.lse[item * rows_ + row] = sum == 0.0 ? kMinusInfinity : static_cast<float>(base + std::log(sum));
    return sum == 0.0 ? 0.0f : static_cast<float>(1.0 / sum);
  }

  const pfm_params& params_;
  MaskPlan mask_;
  int rows_;
  int64_t group_;  // query heads that share a key head
  int64_t chunks_;
  int64_t query_size_, out_size_;
  int threads_;
  float* queries_;  // [B * Hq], panels of `rows_` rows, times softmax_scale
  float* outs_;     // [B * Hq][chunk], panels of `rows_` rows
  float* maxima_;   // [B * Hq][chunk][row]: RowState::max and sum
  float* sums_;
  float* scratch_;
};

}  // namespace

bool HasFewQueries(const pfm_params& params) {
  return params.batch > 0 && params.seqlen_q > 0 && params.seqlen_k > 0 && params.seqlen_q <= kMostQueries &&
         params.seqlen_q * (params.heads_q / params.heads_kv) <= kMostRows;
}

size_t FewQueriesWorkspace(const pfm_params& params) {
  Arena arena(nullptr);
  FewQueriesPass pass(params, &arena);
  return arena.used();
}

void FewQueriesForward(const pfm_params& params) {
  Arena arena(params.workspace);
  FewQueriesPass(params, &arena).Run();
}

}  // namespace pfm::cpu
