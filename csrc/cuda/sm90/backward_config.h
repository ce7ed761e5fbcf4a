// Tile shapes of the sm90 backward, one row per instantiation, with shared memory and registers checked at compile
// time.
#ifndef PFM_CUDA_SM90_BACKWARD_CONFIG_H_
#define PFM_CUDA_SM90_BACKWARD_CONFIG_H_

#include <cstdint>

namespace pfm::cuda::sm90 {

constexpr int kBackwardSharedLimit = 227 * 1024;  // of one block
constexpr int kBackwardRegisters = 65536;         // of a multiprocessor, and so of the one block on it

constexpr int kConsumers = 2;  // warpgroups

// What it may take from the start of shared memory, aligned to 128 bytes, to the first tile, aligned to 1024.
constexpr int kTileSlack = 896;

// Treatment of dquery in a pass over key tiles: not wanted; added to its sums in any order; or added in the order of
// the key tiles, for the same bits in every run.
enum class DquerySums { kUnwanted, kInAnyOrder, kInTurn };

struct BackwardTile {
  int head_dim;  // of query, key and value
  int tile_q, tile_k;
  int stages;  // of query and dout
  // Of visibility bits. One more than stages: the producer looks at a tile while all stages are taken.
  int bit_tiles;
  // The warpgroups share all keys, split the queries of the scores and the columns of the sums, and exchange P and dS
  // through shared memory; otherwise they own 64 keys each.
  bool shares_keys;
  int producer_registers, consumer_registers;

  constexpr int consumers() const { return kConsumers; }
  constexpr int sum_columns() const { return shares_keys ? head_dim / kConsumers : head_dim; }
  constexpr int query_columns() const {  // of dquery of 64 queries, per warpgroup
    return shares_keys ? sum_columns() : head_dim * (tile_q / 64) / kConsumers;
  }
  constexpr int score_queries() const { return shares_keys ? tile_q / kConsumers : tile_q; }
  constexpr int threads() const { return 128 * (1 + consumers()); }
  constexpr int key_bytes() const { return tile_k * head_dim * 2; }
  constexpr int query_bytes() const { return tile_q * head_dim * 2; }
  constexpr int dscore_bytes() const { return tile_k * tile_q * 2; }
  // lse, delta and the LiveTile
  constexpr int row_bytes() const { return 2 * tile_q * 4 + 16; }
  // Two dS^T, and two P^T, so that a warpgroup may write the next one while the other reads the last.
  constexpr int score_tiles() const { return shares_keys ? 4 : 2; }
  constexpr int bits_bytes() const { return tile_k * tile_q / 8; }
  // key and value; the stages; what is exchanged; bits; four mbarriers per stage and one for the keys; the block's
  // index
  constexpr int shared_bytes() const {
    return kTileSlack + 2 * key_bytes() + stages * (2 * query_bytes() + row_bytes()) +
           score_tiles() * dscore_bytes() + bit_tiles * bits_bytes() + 8 * (4 * stages + 1) + 8;
  }
  constexpr int registers() const { return 128 * (producer_registers + consumers() * consumer_registers); }
  // What a consumer thread holds at the worst moment: dkey and dvalue; when dS is computed, scores and dP, and P
  // rounded and in flight; or dquery; some 24 for addresses and the rest.
  constexpr int live_registers() const {
    const int scores = score_queries() + (shares_keys ? 0 : tile_q / 4);
    const int dquery = query_columns() / 2;
    return sum_columns() + (scores > dquery ? scores : dquery) + 24;
  }

  // Per tile. Bytes that shared memory moves: operands of wgmma that are there, what is exchanged, the copies in; and
  // what the sums of dquery take of the same path on their way to the second-level cache.
  constexpr int64_t shared_traffic() const {
    const int sixty_four_keys = 2 * 64 * head_dim, block = 2 * 64 * 64;
    const int scores = 2 * kConsumers * (sixty_four_keys + 2 * score_queries() * head_dim);
    const int left = shares_keys ? 2 * 64 * tile_q : 0;
    const int sums = 2 * kConsumers * (left + 2 * tile_q * sum_columns());
    const int dquery = kConsumers * tile_k / 64 * (block + query_columns() * 2 * 64) + 4 * tile_q * head_dim;
    return scores + sums + dquery + score_tiles() / 2 * dscore_bytes() + 2 * query_bytes();
  }
  constexpr int64_t pairs() const { return tile_q * tile_k; }
};

// Keys as rows of the scores. Where a warpgroup owns 64 keys, dkey and dvalue of them stay in its registers, and P^T
// and dS^T feed them from registers. 240 registers leave the producer 24, which is enough for one warp that looks for
// live tiles itself: the key tile stays, so it is two tiles ahead.
constexpr BackwardTile kBackward[] = {
    // 64 queries: dkey and dvalue take 128 registers, scores and dP 64. 42 bytes of shared memory per pair.
    {128, 64, 128, 3, 4, false, 24, 240},
    // 64 queries: with 128, scores and dP take 128 registers, so that nothing overlaps, for 20 bytes of shared memory
    // per pair instead of 24. Half of the columns of dquery per warpgroup. A tile is short, so four are on their way.
    {64, 64, 128, 4, 5, false, 40, 232},
    // 64 keys: dkey, dvalue and dquery take 64 registers each, with half of the columns per warpgroup. 120 bytes of
    // shared memory per pair take one and a half times as long as the products: they bound this row.
    {256, 64, 64, 2, 2, true, 40, 232},
};
static_assert(kBackward[0].shared_traffic() == 42 * kBackward[0].pairs(), "bytes per pair");
static_assert(kBackward[1].shared_traffic() == 24 * kBackward[1].pairs(), "bytes per pair");
static_assert(kBackward[2].shared_traffic() == 120 * kBackward[2].pairs(), "bytes per pair");

constexpr int kBackwardRows = sizeof(kBackward) / sizeof(kBackward[0]);

constexpr bool BackwardTableIsSound() {
  for (const BackwardTile& tile : kBackward) {
    if (tile.tile_k % 64 != 0 || tile.tile_q % 64 != 0 || tile.head_dim % 64 != 0) return false;
    if (tile.tile_k != (tile.shares_keys ? 64 : 64 * kConsumers)) return false;
    // dquery of a tile: 64 queries x whole columns per warpgroup
    if (!tile.shares_keys && (tile.query_columns() > 64 || tile.query_columns() % 32 != 0)) return false;
    if (tile.shares_keys && tile.tile_q != 64) return false;
    if (tile.shared_bytes() > kBackwardSharedLimit || tile.registers() > kBackwardRegisters) return false;
    if (tile.live_registers() > tile.consumer_registers) return false;
  }
  return true;
}
static_assert(BackwardTableIsSound(), "every row fits shared memory and registers");

// Row of these head dims, or -1.
constexpr int BackwardRowFor(int64_t head_dim, int64_t head_dim_v) {
  for (int row = 0; row < kBackwardRows; ++row) {
    if (kBackward[row].head_dim == head_dim && kBackward[row].head_dim == head_dim_v) return row;
  }
  return -1;
}

}  // namespace pfm::cuda::sm90

#endif  // PFM_CUDA_SM90_BACKWARD_CONFIG_H_
