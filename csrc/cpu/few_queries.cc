// The query heads of a key head are attended together, so that each key and value is read once. Chunks of keys are
// attended independently, whatever the number of threads, and their outputs are added in order.
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
// enough that its pages stay in the TLB, and large enough that joining the chunks costs little.
constexpr int64_t kChunkTiles = 4;

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
        queries_(static_cast<int>(params.seqlen_q)),
        group_(static_cast<int>(params.heads_q / params.heads_kv)),
        rows_(group_ * queries_),
        chunks_(CeilDiv<int64_t>(mask_.key_tiles(), kChunkTiles)),
        query_size_(static_cast<int64_t>(rows_) * PaddedDim(params.head_dim)),
        out_size_(static_cast<int64_t>(rows_) * PaddedDim(params.head_dim_v)),
        threads_(static_cast<int>(params.num_workers)) {
    const int64_t heads = params.batch * params.heads_kv;
    query_panels_ = arena->Take<float>(heads * query_size_);
    outs_ = arena->Take<float>(heads * chunks_ * out_size_);
    maxima_ = arena->Take<float>(heads * chunks_ * rows_);
    sums_ = arena->Take<float>(heads * chunks_ * rows_);
    scratch_ = arena->Take<float>(threads_ * ScratchFloats());
  }

  void Run() {
    mask_.Build(threads_);
    ParallelFor(params_.batch * params_.heads_kv, threads_, [&](int64_t item, int) { PackQueries(item); });
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

  // Index of the results of a chunk: [batch * Hkv + kv_head][chunk].
  int64_t Part(int64_t kv_item, int64_t chunk) const { return kv_item * chunks_ + chunk; }

  int64_t HeadOf(int64_t kv_head, int member) const { return kv_head * group_ + member; }

  // The rows of a panel are those of the first head of the group, then those of the second.
  void PackQueries(int64_t kv_item) {
    const int64_t batch = kv_item / params_.heads_kv, kv_head = kv_item % params_.heads_kv;
    const int64_t element_size = params_.dtype == PFM_FLOAT32 ? 4 : 2;
    const int dim = static_cast<int>(params_.head_dim);
    float* to = query_panels_ + kv_item * query_size_;
    for (int column = 0; column < dim; column += kPanel) {
      for (int member = 0; member < group_; ++member, to += queries_ * kPanel) {
        const void* from = At(params_.query, params_.dtype, batch, 0, HeadOf(kv_head, member));
        Kernels().pack_panels[params_.dtype](static_cast<const char*>(from) + column * element_size,
                                             params_.query.stride_seq, queries_, std::min(dim - column, kPanel),
                                             params_.softmax_scale, to, queries_);
      }
    }
  }

  void AttendChunk(int64_t batch, int64_t chunk, int64_t kv_head, const Scratch& scratch) const {
    const int64_t begin = chunk * kChunkTiles, end = Min(begin + kChunkTiles, mask_.key_tiles());
    const int64_t part = Part(batch * params_.heads_kv + kv_head, chunk);
    RowState state;
    Start(kv_head, chunk, &state);
    std::fill_n(outs_ + part * out_size_, out_size_, 0.0f);
    for (int64_t key_tile = begin; key_tile < end; ++key_tile) {
      AttendTile(batch, kv_head, key_tile, scratch, &state, outs_ + part * out_size_);
    }
    std::copy_n(state.max, rows_, maxima_ + part * rows_);
    std::copy_n(state.sum, rows_, sums_ + part * rows_);
  }

  // A sink acts as a score with value vector 0 that every row sees before its first key.
  void Start(int64_t kv_head, int64_t chunk, RowState* state) const {
    const bool sinks = chunk == 0 && params_.learnable_sink != nullptr;
    for (int row = 0; row < rows_; ++row) {
      state->max[row] = sinks ? params_.learnable_sink[HeadOf(kv_head, row / queries_)] : kMinusInfinity;
      state->sum[row] = state->max[row] == kMinusInfinity ? 0.0f : 1.0f;
    }
  }

  RowSpan Rows(const pfm_tensor& tensor, int64_t batch, int64_t key_tile, int64_t head, int64_t dim) const {
    const void* data = At(tensor, params_.dtype, batch, key_tile * kTileK, head);
    return {data, tensor.stride_seq, kPanel, static_cast<int>(dim)};
  }

  // Computes the panels that some head of the group sees, as a shape of all rows. Returns false if there are none.
  bool Shape(int64_t batch, int64_t kv_head, int64_t key_tile, TileShape* shape) const {
    shape->panel_begin = kKeyPanels;
    shape->panel_end = 0;
    shape->row_begin = 0;
    shape->row_end = rows_;
    shape->masked = false;
    for (int member = 0; member < group_; ++member) {
      TileShape of_head;
      const bool sees = mask_.Shape(batch, HeadOf(kv_head, member), 0, key_tile, &of_head);
      shape->masked |= !sees || of_head.masked;
      if (!sees) continue;
      shape->panel_begin = std::min(shape->panel_begin, of_head.panel_begin);
      shape->panel_end = std::max(shape->panel_end, of_head.panel_end);
    }
    for (PanelRows& rows : shape->panel) rows = {0, static_cast<int16_t>(rows_)};
    return shape->panel_begin < shape->panel_end;
  }

  // Calls body(head, shape, offset) for the heads of the group: `shape` with the rows of one head, `offset` of these
  // rows in a score tile.
  template <class Body>
  void ForHeads(int64_t kv_head, const TileShape& shape, const Body& body) const {
    TileShape of_head = shape;
    of_head.row_end = queries_;
    for (int member = 0; member < group_; ++member) {
      body(HeadOf(kv_head, member), of_head, static_cast<int64_t>(member) * queries_ * kScoreStride);
    }
  }

  // Hidden pairs of a masked shape -> -inf.
  void Hide(int64_t batch, int64_t kv_head, int64_t key_tile, const TileShape& shape, float* scores) const {
    if (!shape.masked) return;
    ForHeads(kv_head, shape, [&](int64_t head, const TileShape& of_head, int64_t offset) {
      if (mask_.BlockHidden(batch, head, 0, key_tile)) {
        std::fill_n(scores + offset, queries_ * kScoreStride, kMinusInfinity);
      } else {
        mask_.ApplyMask(batch, head, 0, key_tile, of_head, scores + offset);
      }
    });
  }

  void AttendTile(int64_t batch, int64_t kv_head, int64_t key_tile, const Scratch& scratch, RowState* state,
                  float* out) const {
    TileShape shape;
    if (!Shape(batch, kv_head, key_tile, &shape)) return;
    const TileKernels& kernels = Kernels();
    const int begin = shape.panel_begin * kPanel;
    const int end = static_cast<int>(Min<int64_t>(shape.panel_end * kPanel, mask_.Keys(key_tile)));
    const RowSpan key = Rows(params_.key, batch, key_tile, kv_head, params_.head_dim);
    const RowSpan value = Rows(params_.value, batch, key_tile, kv_head, params_.head_dim_v);
    const PanelSpan query = {query_panels_ + (batch * params_.heads_kv + kv_head) * query_size_, rows_};
    kernels.dots_of_rows[params_.dtype](key, begin, end, query, 0, rows_, scratch.scores);
    Hide(batch, kv_head, key_tile, shape, scratch.scores);
    kernels.softmax(shape, scratch.scores, state);
    if (params_.dropout > 0.0f) {
      // Each call fills whole blocks of rows, of which the next one replaces those beyond its head's.
      ForHeads(kv_head, shape, [&](int64_t head, const TileShape& of_head, int64_t offset) {
        kernels.dropout_keep(DropoutOf(params_), DropoutHead(params_, batch, head), 0, key_tile * kTileK, of_head,
                             scratch.keep + offset);
      });
      kernels.scale_by(shape, scratch.keep, scratch.scores);
    }
    if (shape.masked && !kernels.finite_rows[params_.dtype](value, begin, end)) {
      kernels.pack_panels[params_.dtype](value.data, value.row_stride, mask_.Keys(key_tile), value.dim, 1.0f,
                                         scratch.value, kTileK);
      std::fill_n(scratch.keep, kTileQ * kScoreStride, 0.0f);
      Hide(batch, kv_head, key_tile, shape, scratch.keep);
      const IsolatedTile isolated = {shape, scratch.keep, scratch.finite};
      isolated.AccumulateRows(scratch.scores, scratch.value, value.dim, end, rows_, state->rescale, out);
      return;
    }
    kernels.accumulate_rows[params_.dtype](scratch.scores, value, begin, end, 0, rows_, rows_, state->rescale, out);
  }

  // Adds the chunks of a head to its first one and stores the sum.
  void AddChunks(int64_t item) const {
    const int64_t batch = item / params_.heads_q, head = item % params_.heads_q;
    const int64_t first = Part(batch * params_.heads_kv + head / group_, 0);
    const int first_row = static_cast<int>(head % group_) * queries_;
    float* outs = outs_ + first * out_size_ + first_row * kPanel;
    float inverse[kMostQueries];
    for (int query = 0; query < queries_; ++query) {
      const int64_t row = first * rows_ + first_row + query;
      inverse[query] =
          AddRow(maxima_ + row, sums_ + row, outs + query * kPanel, &params_.lse[item * queries_ + query]);
    }
    Kernels().store_panels[params_.dtype](outs, rows_, queries_, static_cast<int>(params_.head_dim_v), inverse, 1.0f,
                                          At(params_.out, params_.dtype, batch, 0, head), params_.out.stride_seq);
  }

  // Adds the chunks of a row. Returns the factor of its sum.
  float AddRow(const float* maxima, const float* sums, float* outs, float* lse) const {
    float max = kMinusInfinity;
    for (int64_t chunk = 0; chunk < chunks_; ++chunk) max = std::max(max, maxima[chunk * rows_]);
    const float base = max == kMinusInfinity ? 0.0f : max;
    double sum = 0.0;
    for (int64_t chunk = 0; chunk < chunks_; ++chunk) {
      const float factor = std::exp(maxima[chunk * rows_] - base);
      sum += static_cast<double>(factor) * sums[chunk * rows_];
      const float* part = outs + chunk * out_size_;
      for (int panel = 0; panel < PaddedDim(params_.head_dim_v) / kPanel; ++panel) {
        const int64_t at = static_cast<int64_t>(panel) * rows_ * kPanel;
        for (int i = 0; i < kPanel; ++i) outs[at + i] = (chunk == 0 ? 0.0f : outs[at + i]) + factor * part[at + i];
      }
    }
    *lse = sum == 0.0 ? kMinusInfinity : static_cast<float>(base + std::log(sum));
    return sum == 0.0 ? 0.0f : static_cast<float>(1.0 / sum);
  }

  const pfm_params& params_;
  MaskPlan mask_;
  int queries_;
  int group_;  // query heads that share a key head
  int rows_;   // queries of the group
  int64_t chunks_;
  int64_t query_size_, out_size_;
  int threads_;
  float* query_panels_;  // [B * Hkv], panels of `rows_` rows, times softmax_scale
  float* outs_;          // [B * Hkv][chunk], panels of `rows_` rows
  float* maxima_;        // [B * Hkv][chunk][row]: RowState::max and sum
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
