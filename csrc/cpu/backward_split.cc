#include "backward_split.h"

#include "../core/host_device.h"

namespace pfm::cpu {
namespace {

// Enough for the threads of a workstation to share evenly.
constexpr int64_t kWantedPieces = 32;

// Every chunk clears, fills and adds up a dquery buffer of its own; below this many key tiles that begins to show.
constexpr int64_t kLeastKeyTilesPerChunk = 8;

// Smallest divisor of `whole` that is at least `wanted`, or `whole`.
int64_t DivisorAtLeast(int64_t whole, int64_t wanted) {
  for (int64_t divisor = Max<int64_t>(1, wanted); divisor < whole; ++divisor) {
    if (whole % divisor == 0) return divisor;
  }
  return whole;
}

}  // namespace

BackwardSplit::BackwardSplit(const pfm_params& params, const MaskPlan& mask, Arena* arena)
    : params_(params), mask_(mask) {
  // Query heads of a group are cut first: their partial sums are two key-sized buffers per part, while a chunk of key
  // tiles costs one query-sized buffer per query head.
  const int64_t kv_heads = Max<int64_t>(1, params.batch * params.heads_kv);
  groups_ = DivisorAtLeast(params.heads_q / params.heads_kv, CeilDiv(kWantedPieces, kv_heads));
  chunks_ =
      Max<int64_t>(1, Min(mask.key_tiles() / kLeastKeyTilesPerChunk, CeilDiv(kWantedPieces, kv_heads * groups_)));
  pieces_ = arena->Take<BackwardPiece>(pieces());
}

void BackwardSplit::Build() {
  const int64_t heads_per_kv = params_.heads_q / params_.heads_kv;
  const int64_t heads_per_group = heads_per_kv / groups_;
  for (int64_t index = 0; index < pieces(); index += chunks_) {
    BackwardPiece piece;
    piece.group = index / chunks_ % groups_;
    piece.kv_head = index / chunks_ / groups_ % params_.heads_kv;
    piece.batch = index / chunks_ / groups_ / params_.heads_kv;
    piece.head_begin = piece.kv_head * heads_per_kv + piece.group * heads_per_group;
    piece.head_end = piece.head_begin + heads_per_group;

    // Key tiles are weighted by the query tiles their bounds leave, over the heads of the piece.
    const auto live = [&](int64_t key_tile) {
      int64_t begin = mask_.query_tiles(), end = 0;
      for (int64_t head = piece.head_begin; head < piece.head_end; ++head) {
        int64_t head_begin, head_end;
        mask_.LiveQueryTiles(mask_.MaskOf(piece.batch, head), key_tile, &head_begin, &head_end);
        begin = Min(begin, head_begin);
        end = Max(end, head_end);
      }
      return Max<int64_t>(0, end - begin);
    };
    int64_t total = 0;
    for (int64_t tile = 0; tile < mask_.key_tiles(); ++tile) total += 1 + live(tile);

    int64_t tile = 0, done = 0;
    for (int64_t chunk = 0; chunk < chunks_; ++chunk) {
      piece.chunk = chunk;
      piece.key_tile_begin = tile;
      const bool last = chunk + 1 == chunks_;
      while (tile < mask_.key_tiles() && (last || done < total * (chunk + 1) / chunks_)) done += 1 + live(tile++);
      piece.key_tile_end = tile;
      pieces_[index + chunk] = piece;
    }
  }
}

}  // namespace pfm::cpu
