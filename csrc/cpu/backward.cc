// Backward attention: every key tile visits its live query tiles once, recomputes the probabilities from lse and adds
// to all three gradients. Key tiles add to a dquery in a fixed order.
#include <algorithm>
#include <cmath>
#include <limits>

#include "arena.h"
#include "attention.h"
#include "backward_order.h"
#include "few_keys.h"
#include "few_queries.h"
#include "huge_pages.h"
#include "isolation.h"
#include "mask_plan.h"
#include "parallel.h"
#include "tensor_access.h"
#include "tile_kernels.h"
#include "turns.h"

namespace pfm::cpu {
namespace {

struct Scratch {
  RowSpan key_rows, value_rows;  // of the key tile, in their tensors
  float* key_transposed;         // right operand of the scores
  float* value_transposed;       // right operand of dweights
  float* key;                    // right operand of dquery
  float* dkey;                   // sums of one key tile
  float* dvalue;
  float* scores;  // [kTileQ][kScoreStride]
  float* dweights;
  float* keep;      // dropout; then the visibility of an isolated tile
  float* finite;    // a right operand without NaN and infinity
  bool finite_key;  // whether all elements of `key` are finite
};

class BackwardPass {
 public:
  BackwardPass(const pfm_params& params, Arena* arena)
      : params_(params),
        mask_(params, arena),
        order_(params, mask_.key_tiles()),
        dim_(static_cast<int>(params.head_dim)),
        dim_v_(static_cast<int>(params.head_dim_v)),
        padded_(PaddedDim(params.head_dim)),
        padded_v_(PaddedDim(params.head_dim_v)),
        query_items_(params.batch * params.heads_q * mask_.query_tiles()),
        key_items_(params.batch * params.heads_kv * mask_.key_tiles()),
        threads_(static_cast<int>(params.num_workers)),
        few_queries_(HasFewQueries(params)),
        few_keys_(HasFewKeys(params)),
        turns_(query_items_, arena) {
    queries_ = arena->Take<float>(query_items_ * QuerySize());
    douts_ = arena->Take<float>(query_items_ * kTileQ * padded_v_);
    lse_ = arena->Take<float>(query_items_ * kTileQ);
    delta_ = arena->Take<float>(query_items_ * kTileQ);
    dsink_ = arena->Take<double>(params.learnable_sink == nullptr ? 0 : query_items_);
    dquery_ = arena->Take<float>(query_items_ * QuerySize());
    has_dquery_ = arena->Take<bool>(query_items_);
    finite_rows_ = arena->Take<bool>(query_items_);
    const int64_t partials = order_.groups() == 1 ? 0 : order_.groups() * key_items_;
    dkey_ = arena->Take<float>(partials * KeySize());
    dvalue_ = arena->Take<float>(partials * ValueSize());
    scratch_ = arena->Take<float>(threads_ * ScratchFloats());
  }

  void Run() {
    mask_.Build(threads_);
    ParallelFor(query_items_, threads_, [&](int64_t item, int) { PrepareQueryTile(item); });
    ParallelFor(order_.items(), threads_,
                [&](int64_t item, int thread) { RunKeyTile(order_.Item(item), ScratchOf(thread)); });
    if (order_.groups() > 1) {
      ParallelFor(key_items_, threads_, [&](int64_t item, int) { SumGroups(item); });
    }
    if (params_.dsink != nullptr) FinishSink();
  }

 private:
  int64_t QuerySize() const { return static_cast<int64_t>(kTileQ) * padded_; }
  int64_t KeySize() const { return static_cast<int64_t>(kTileK) * padded_; }
  int64_t ValueSize() const { return static_cast<int64_t>(kTileK) * padded_v_; }
  static constexpr int64_t kScoreSize = static_cast<int64_t>(kTileQ) * kScoreStride;

  int64_t ScratchFloats() const { return 3 * KeySize() + 2 * ValueSize() + 3 * kScoreSize + FiniteSize(); }
  int64_t FiniteSize() const { return Max(KeySize(), static_cast<int64_t>(kTileQ) * padded_v_); }

  Scratch ScratchOf(int thread) const {
    float* at = scratch_ + thread * ScratchFloats();
    const auto take = [&at](int64_t count) {
      float* taken = at;
      at += count;
      return taken;
    };
    Scratch scratch;
    scratch.key_transposed = take(KeySize());
    scratch.value_transposed = take(ValueSize());
    scratch.key = take(KeySize());
    scratch.dkey = take(KeySize());
    scratch.dvalue = take(ValueSize());
    scratch.scores = take(kScoreSize);
    scratch.dweights = take(kScoreSize);
    scratch.keep = take(kScoreSize);
    scratch.finite = take(FiniteSize());
    scratch.finite_key = true;
    return scratch;
  }

  int64_t QueryItem(int64_t batch, int64_t head, int64_t query_tile) const {
    return (batch * params_.heads_q + head) * mask_.query_tiles() + query_tile;
  }

  // Returns the first key tile from `key_tile` on that has a visible pair with the query tile, or key_tiles().
  int64_t NextKeyTile(int64_t batch, int64_t head, int64_t query_tile, int64_t key_tile) const {
    TileShape shape;
    while (key_tile < mask_.key_tiles() && !mask_.Shape(batch, head, query_tile, key_tile, &shape)) ++key_tile;
    return key_tile;
  }

  // Packs query and dout, copies lse (0 for -inf), sets delta = rowsum(dout * out) - dlse, so dS = P * (dP - delta).
  void PrepareQueryTile(int64_t item) {
    const TileKernels& kernels = Kernels();
    const int64_t query_tile = item % mask_.query_tiles();
    const int64_t batch = item / mask_.query_tiles() / params_.heads_q;
    const int64_t head = item / mask_.query_tiles() % params_.heads_q;
    const int64_t row0 = query_tile * kTileQ;
    const int rows = mask_.Rows(query_tile);
    bool finite = kernels.pack_panels[params_.dtype](At(params_.query, params_.dtype, batch, row0, head),
                                                     params_.query.stride_seq, rows, dim_, params_.softmax_scale,
                                                     queries_ + item * QuerySize(), kTileQ);
    float* dout = douts_ + item * kTileQ * padded_v_;
    float* delta = delta_ + item * kTileQ;
    if (params_.dout.data == nullptr) {
      for (int64_t i = 0; i < static_cast<int64_t>(kTileQ) * padded_v_; ++i) dout[i] = 0.0f;
      for (int row = 0; row < rows; ++row) delta[row] = 0.0f;
    } else {
      const void* from = At(params_.dout, params_.dtype, batch, row0, head);
      finite &= kernels.pack_panels[params_.dtype](from, params_.dout.stride_seq, rows, dim_v_, 1.0f, dout, kTileQ);
      kernels.row_dots[params_.dtype](from, params_.dout.stride_seq,
                                      At(params_.out, params_.dtype, batch, row0, head), params_.out.stride_seq, rows,
                                      dim_v_, delta);
    }
    const int64_t first = (batch * params_.heads_q + head) * params_.seqlen_q + row0;
    double dsink = 0.0;
    for (int row = 0; row < rows; ++row) {
      const float lse = params_.lse[first + row];
      const bool sees_nothing = lse == -std::numeric_limits<float>::infinity();
      if (params_.dlse != nullptr && !sees_nothing) delta[row] -= params_.dlse[first + row];
      lse_[item * kTileQ + row] = sees_nothing ? 0.0f : lse;
      finite &= std::isfinite(lse_[item * kTileQ + row]);
      if (params_.learnable_sink != nullptr && !sees_nothing) {
        dsink -= std::exp(static_cast<double>(params_.learnable_sink[head]) - lse) * delta[row];
      }
    }
    finite_rows_[item] = finite;
    if (params_.learnable_sink != nullptr) dsink_[item] = dsink;
    if (params_.dquery.data != nullptr) {
      has_dquery_[item] = false;
      const int64_t first_key_tile = NextKeyTile(batch, head, query_tile, 0);
      turns_.Start(item, first_key_tile);
      if (first_key_tile == mask_.key_tiles()) StoreDquery(item, ClearedDquery(item));
    }
  }

  void RunKeyTile(const BackwardItem& item, Scratch scratch) const {
    StartKeyTile(item, &scratch);
    for (int64_t head = item.head_begin; head < item.head_end; ++head) {
      int64_t begin, end;
      mask_.LiveQueryTiles(mask_.MaskOf(item.batch, head), item.key_tile, &begin, &end);
      for (int64_t query_tile = begin; query_tile < end; ++query_tile) {
        RunTile(item.batch, head, query_tile, item.key_tile, scratch);
      }
    }
    FinishKeyTile(item, scratch);
  }

  void StartKeyTile(const BackwardItem& item, Scratch* scratch) const {
    const TileKernels& kernels = Kernels();
    const int keys = mask_.Keys(item.key_tile);
    const void* key = At(params_.key, params_.dtype, item.batch, item.key_tile * kTileK, item.kv_head);
    const void* value = At(params_.value, params_.dtype, item.batch, item.key_tile * kTileK, item.kv_head);
    scratch->key_rows = {key, params_.key.stride_seq, kPanel, dim_};
    scratch->value_rows = {value, params_.value.stride_seq, kPanel, dim_v_};
    if (few_keys_) {
      kernels.pack_panels[params_.dtype](key, params_.key.stride_seq, keys, dim_, params_.softmax_scale,
                                         scratch->key_transposed, keys);
    } else if (!few_queries_) {
      kernels.pack_transposed[params_.dtype](key, params_.key.stride_seq, keys, dim_, scratch->key_transposed);
    }
    if (!few_queries_) {
      kernels.pack_transposed[params_.dtype](value, params_.value.stride_seq, keys, dim_v_,
                                             scratch->value_transposed);
    }
    scratch->finite_key =
        kernels.pack_panels[params_.dtype](key, params_.key.stride_seq, keys, dim_, 1.0f, scratch->key, kTileK);
    for (int64_t i = 0; i < KeySize(); ++i) scratch->dkey[i] = 0.0f;
    for (int64_t i = 0; i < ValueSize(); ++i) scratch->dvalue[i] = 0.0f;
  }

  void RunTile(int64_t batch, int64_t head, int64_t query_tile, int64_t key_tile, const Scratch& scratch) const {
    TileShape shape;
    if (!mask_.Shape(batch, head, query_tile, key_tile, &shape)) return;
    const TileKernels& kernels = Kernels();
    const int64_t item = QueryItem(batch, head, query_tile);
    const float* query = queries_ + item * QuerySize();
    const float* dout = douts_ + item * kTileQ * padded_v_;
    const float* lse = lse_ + item * kTileQ;
    const float* delta = delta_ + item * kTileQ;

    if (few_queries_) {
      MultiplyRows(scratch.key_rows, query, key_tile, shape, scratch.scores);
      MultiplyRows(scratch.value_rows, dout, key_tile, shape, scratch.dweights);
    } else {
      // Prefetch the adjacent query tile, which is usually the next live one.
      const Upcoming next_query = {query + QuerySize(), static_cast<int>(QuerySize())};
      const Upcoming next_dout = {dout + kTileQ * padded_v_, kTileQ * padded_v_};
      if (few_keys_) {
        MultiplyColumns(batch, head, query_tile, shape, scratch);
      } else {
        kernels.multiply(query, scratch.key_transposed, dim_, shape, scratch.scores, next_query);
      }
      kernels.multiply(dout, scratch.value_transposed, dim_v_, shape, scratch.dweights, next_dout);
    }
    mask_.ApplyMask(batch, head, query_tile, key_tile, shape, scratch.scores);
    if (params_.dropout > 0.0f) {
      kernels.dropout_keep(DropoutOf(params_), DropoutHead(params_, batch, head), query_tile * kTileQ,
                           key_tile * kTileK, shape, scratch.keep);
      kernels.softmax_backward_dropout(shape, lse, delta, scratch.keep, scratch.scores, scratch.dweights);
    } else {
      kernels.softmax_backward(shape, lse, delta, scratch.scores, scratch.dweights);
    }
    const bool isolates = shape.masked && !(scratch.finite_key && finite_rows_[item]);
    const IsolatedTile isolated = {shape, scratch.keep, scratch.finite};
    if (isolates) {
      mask_.Visibility(batch, head, query_tile, key_tile, shape, scratch.keep);
      isolated.ClearHidden(scratch.scores);
    }
    const auto add_transposed = [&](const float* weights, const float* right, int dim, float* sums) {
      if (isolates) return isolated.AccumulateTransposed(weights, right, dim, sums);
      kernels.accumulate_transposed(weights, right, dim, shape, sums);
    };
    if (params_.dvalue.data != nullptr) add_transposed(scratch.scores, dout, dim_v_, scratch.dvalue);
    if (params_.dkey.data != nullptr) add_transposed(scratch.dweights, query, dim_, scratch.dkey);
    if (params_.dquery.data != nullptr) {
      turns_.Await(item, key_tile);
      float* dquery = has_dquery_[item] ? DqueryOf(item) : ClearedDquery(item);
      if (isolates) {
        isolated.Accumulate(scratch.dweights, scratch.key, dim_, nullptr, dquery);
      } else {
        kernels.accumulate(scratch.dweights, scratch.key, dim_, shape, nullptr, dquery,
                           {dquery + QuerySize(), static_cast<int>(QuerySize())});
      }
      const int64_t next = NextKeyTile(batch, head, query_tile, key_tile + 1);
      if (next == mask_.key_tiles()) StoreDquery(item, dquery);
      turns_.Pass(item, next);
    }
  }

  // The scores have the bits of the forward pass, to which lse belongs: weights near 1 depend on it.
  void MultiplyRows(const RowSpan& rows, const float* left, int64_t key_tile, const TileShape& shape,
                    float* scores) const {
    const int end = static_cast<int>(Min<int64_t>(shape.panel_end * kPanel, mask_.Keys(key_tile)));
    Kernels().dots_of_rows[params_.dtype](rows, shape.panel_begin * kPanel, end, {left, kTileQ}, shape.row_begin,
                                          shape.row_end, scores);
  }

  // The same for few keys, whose scaled panels take the place of key_transposed.
  void MultiplyColumns(int64_t batch, int64_t head, int64_t query_tile, const TileShape& shape,
                       const Scratch& scratch) const {
    const int keys = mask_.Keys(0);
    const RowSpan rows = {At(params_.query, params_.dtype, batch, query_tile * kTileQ, head),
                          params_.query.stride_seq, kPanel, dim_};
    float* columns = scratch.keep;
    Kernels().dots_of_rows[params_.dtype](rows, shape.row_begin, shape.row_end, {scratch.key_transposed, keys}, 0,
                                          keys, columns);
    for (int row = shape.row_begin; row < shape.row_end; ++row) {
      float* to = scratch.scores + row * kScoreStride;
      for (int key = 0; key < kPanel; ++key) to[key] = key < keys ? columns[key * kScoreStride + row] : 0.0f;
    }
  }

  float* DqueryOf(int64_t item) const { return dquery_ + item * QuerySize(); }

  // Clears the sums right before their first use, so that they are in cache.
  float* ClearedDquery(int64_t item) const {
    std::fill_n(DqueryOf(item), QuerySize(), 0.0f);
    has_dquery_[item] = true;
    return DqueryOf(item);
  }

  void StoreDquery(int64_t item, const float* dquery) const {
    const int64_t query_tile = item % mask_.query_tiles();
    const int64_t batch = item / mask_.query_tiles() / params_.heads_q;
    const int64_t head = item / mask_.query_tiles() % params_.heads_q;
    Kernels().store_panels[params_.dtype](
        dquery, kTileQ, mask_.Rows(query_tile), dim_, nullptr, params_.softmax_scale,
        At(params_.dquery, params_.dtype, batch, query_tile * kTileQ, head), params_.dquery.stride_seq);
  }

  void FinishKeyTile(const BackwardItem& of, const Scratch& scratch) const {
    const int64_t item = (of.batch * params_.heads_kv + of.kv_head) * mask_.key_tiles() + of.key_tile;
    if (order_.groups() == 1) {
      StoreKeyTile(item, scratch.dkey, scratch.dvalue);
      return;
    }
    float* dkey = dkey_ + (of.group * key_items_ + item) * KeySize();
    float* dvalue = dvalue_ + (of.group * key_items_ + item) * ValueSize();
    for (int64_t i = 0; i < KeySize(); ++i) dkey[i] = scratch.dkey[i];
    for (int64_t i = 0; i < ValueSize(); ++i) dvalue[i] = scratch.dvalue[i];
  }

  void SumGroups(int64_t item) const {
    float* dkey = dkey_ + item * KeySize();
    float* dvalue = dvalue_ + item * ValueSize();
    for (int64_t group = 1; group < order_.groups(); ++group) {
      const float* more_dkey = dkey + group * key_items_ * KeySize();
      const float* more_dvalue = dvalue + group * key_items_ * ValueSize();
      for (int64_t i = 0; i < KeySize(); ++i) dkey[i] += more_dkey[i];
      for (int64_t i = 0; i < ValueSize(); ++i) dvalue[i] += more_dvalue[i];
    }
    StoreKeyTile(item, dkey, dvalue);
  }

  void StoreKeyTile(int64_t item, const float* dkey, const float* dvalue) const {
    const TileKernels& kernels = Kernels();
    const int64_t key_tile = item % mask_.key_tiles();
    const int64_t batch = item / mask_.key_tiles() / params_.heads_kv;
    const int64_t head = item / mask_.key_tiles() % params_.heads_kv;
    const int64_t key = key_tile * kTileK;
    const int keys = mask_.Keys(key_tile);
    if (params_.dkey.data != nullptr) {
      kernels.store_panels[params_.dtype](dkey, kTileK, keys, dim_, nullptr, 1.0f,
                                          At(params_.dkey, params_.dtype, batch, key, head), params_.dkey.stride_seq);
    }
    if (params_.dvalue.data != nullptr) {
      kernels.store_panels[params_.dtype](dvalue, kTileK, keys, dim_v_, nullptr, 1.0f,
                                          At(params_.dvalue, params_.dtype, batch, key, head),
                                          params_.dvalue.stride_seq);
    }
  }

  void FinishSink() const {
    for (int64_t head = 0; head < params_.heads_q; ++head) {
      double sum = 0.0;
      for (int64_t batch = 0; batch < params_.batch; ++batch) {
        for (int64_t tile = 0; tile < mask_.query_tiles(); ++tile) sum += dsink_[QueryItem(batch, head, tile)];
      }
      params_.dsink[head] = static_cast<float>(sum);
    }
  }

  const pfm_params& params_;
  MaskPlan mask_;
  BackwardOrder order_;
  int dim_, dim_v_, padded_, padded_v_;
  int64_t query_items_, key_items_;  // (batch, query head, query tile) and (batch, kv head, key tile)
  int threads_;
  bool few_queries_;   // keys and values are read as they are for scores and dweights
  bool few_keys_;      // queries are read as they are for scores
  float* queries_;     // [query item], panels, times softmax_scale
  float* douts_;       // [query item], panels
  float* lse_;         // [query item][kTileQ], 0 for a row that sees no key
  float* delta_;       // [query item][kTileQ]
  double* dsink_;      // [query item]
  Turns turns_;        // [query item]
  float* dquery_;      // [query item], panels
  bool* has_dquery_;   // [query item]: whether a key tile has added to it
  bool* finite_rows_;  // [query item]: whether its packed query and dout and its lse are finite
  float* dkey_;        // [group][key item], panels; absent when there is one group
  float* dvalue_;
  float* scratch_;
};

}  // namespace

size_t BackwardWorkspace(const pfm_params& params) {
  Arena arena(nullptr);
  BackwardPass pass(params, &arena);
  return arena.used();
}

void Backward(const pfm_params& params) {
  AdviseHugePages(params.workspace, params.workspace_size);
  AdviseHugePagesUnder(params.dquery, params, params.seqlen_q, params.heads_q, params.head_dim);
  AdviseHugePagesUnder(params.dkey, params, params.seqlen_k, params.heads_kv, params.head_dim);
  AdviseHugePagesUnder(params.dvalue, params, params.seqlen_k, params.heads_kv, params.head_dim_v);
  Arena arena(params.workspace);
  BackwardPass(params, &arena).Run();
}

}  // namespace pfm::cpu
