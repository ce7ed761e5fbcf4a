// Tile shapes of the sm90 backward, one row per instantiation, with shared memory and registers checked at compile
// time.
#ifndef PFM_CUDA_SM90_BACKWARD_CONFIG_H_
#define PFM_CUDA_SM90_BACKWARD_CONFIG_H_

#include <cstdint>

namespace pfm::cuda::sm90 {

constexpr int kBackwardSharedLimit = 227 * 1024;  // of one block
constexpr int kBackwardRegisters = 65536;         // of a multiprocessor, and so of the one block on it

constexpr int kConsumers = 2;  // warpgroups

// Bytes lost at most between the start of shared memory, aligned to 128 bytes, and the first tile, aligned to 1024.
constexpr int kTileSlack = 896;

// Treatment of dquery in a pass over key tiles: not wanted; added to its sums in any order; or added in the order of
// the key tiles, for the same bits in every run.
enum class DquerySums { kUnwanted, kInAnyOrder, kInTurn };

struct BackwardTile {
  int head_dim, head_dim_v;
  int tile_q, tile_k;
  int stages;  // of query and dout
  // Buffers of visibility bits. With one more than stages the producer classifies a tile while all stages are taken.
  int bit_tiles;
  // The warpgroups share all keys, split the queries of the scores and the columns of the sums, and exchange P and dS
  // through shared memory; otherwise they own 64 keys each, with all columns of dkey and dvalue.
  bool shares_keys;
  int producer_registers, consumer_registers;

  constexpr int consumers() const { return kConsumers; }
  // Columns that a warpgroup sums, in blocks of 64. If the blocks are odd in number, the warpgroup with more of dkey
  // has fewer of dquery.
  constexpr int dkey_columns(int warpgroup) const {
    return shares_keys ? (head_dim / 64 + 1 - warpgroup) / kConsumers * 64 : head_dim;
  }
  constexpr int dvalue_columns() const { return shares_keys ? head_dim_v / kConsumers : head_dim_v; }
  constexpr int dquery_columns(int warpgroup) const {  // of 64 queries
    return shares_keys ? dkey_columns(1 - warpgroup) : head_dim * (tile_q / 64) / kConsumers;
  }
  constexpr int score_queries() const { return shares_keys ? tile_q / kConsumers : tile_q; }
  constexpr int threads() const { return 128 * (1 + consumers()); }
  constexpr int key_bytes() const { return tile_k * head_dim * 2; }
  constexpr int value_bytes() const { return tile_k * head_dim_v * 2; }
  constexpr int query_bytes() const { return tile_q * head_dim * 2; }
  constexpr int dout_bytes() const { return tile_q * head_dim_v * 2; }
  constexpr int dscore_bytes() const { return tile_k * tile_q * 2; }
  // lse, delta and the LiveTile
  constexpr int row_bytes() const { return 2 * tile_q * 4 + 16; }
  // Two dS^T, and two P^T, so that a warpgroup may write the next one while the other reads the last.
  constexpr int score_tiles() const { return shares_keys ? 4 : 2; }
  constexpr int bits_bytes() const { return tile_k * tile_q / 8; }
  // key and value; the stages; what is exchanged; bits; four mbarriers per stage and one for the keys; the block's
  // index
  constexpr int shared_bytes() const {
    return kTileSlack + key_bytes() + value_bytes() + stages * (query_bytes() + dout_bytes() + row_bytes()) +
           score_tiles() * dscore_bytes() + bit_tiles * bits_bytes() + 8 * (4 * stages + 1) + 8;
  }
  constexpr int registers() const { return 128 * (producer_registers + consumers() * consumer_registers); }
  // Registers of a consumer thread at the worst moment: dkey and dvalue; while dS is computed, scores, dP and the
  // rounded P in flight, or dquery; some 24 for addresses and the rest.
  constexpr int live_registers(int warpgroup) const {
    const int scores = score_queries() + (shares_keys ? 0 : tile_q / 4);
    const int dquery = dquery_columns(warpgroup) / 2;
    return (dkey_columns(warpgroup) + dvalue_columns()) / 2 + (scores > dquery ? scores : dquery) + 24;
  }
  constexpr int live_registers() const {
    return live_registers(0) > live_registers(1) ? live_registers(0) : live_registers(1);
  }

  // Bytes that shared memory moves per tile: operands of wgmma, exchanged scores, loads, and the sums of dquery,
  // which take the same path to the L2 cache.
  constexpr int64_t shared_traffic() const {
    const int scores = kConsumers * 2 * (64 + score_queries()) * (head_dim + head_dim_v);
    const int left = shares_keys ? 2 * 64 * tile_q : 0;
    int64_t sums = 0, dquery = 4 * tile_q * head_dim;
    for (int warpgroup = 0; warpgroup < kConsumers; ++warpgroup) {
      sums += 2 * left + 2 * tile_q * (dkey_columns(warpgroup) + dvalue_columns());
      dquery += tile_k / 64 * 2 * 64 * (64 + dquery_columns(warpgroup));
    }
    return scores + sums + dquery + score_tiles() / 2 * dscore_bytes() + query_bytes() + dout_bytes();
  }
  constexpr int64_t pairs() const { return tile_q * tile_k; }
};

// Scores have keys as rows. A warpgroup that owns 64 keys keeps their dkey and dvalue in registers, and P^T and dS^T
// feed them from registers. 240 registers per consumer leave the producer 24, enough for one warp that finds the live
// tiles by itself.
constexpr BackwardTile kBackward[] = {
    // 64 queries: dkey and dvalue take 128 registers, scores and dP 64. 42 bytes of shared memory per pair.
    {128, 128, 64, 128, 3, 4, false, 24, 240},
    // 64 queries: 128 would save 4 of 24 bytes of shared memory per pair, but scores and dP would take 128 registers,
    // which leaves no room to overlap products. A tile is short, so four stages are in flight.
    {64, 64, 64, 128, 4, 5, false, 40, 232},
    // 64 keys: dkey, dvalue and dquery take 64 registers each, with half of the columns per warpgroup. 120 bytes of
    // shared memory per pair take one and a half times as long as the products: they bound this row.
    {256, 256, 64, 64, 2, 2, true, 40, 232},
    // Latent attention: dkey and dvalue of 64 keys of one warpgroup would take 160 registers. 64 keys shared: 84
    // bytes
    // of shared memory per pair, half as long again as the products.
    {192, 128, 64, 64, 3, 4, true, 40, 232},
};
static_assert(kBackward[0].shared_traffic() == 42 * kBackward[0].pairs(), "bytes per pair");
static_assert(kBackward[1].shared_traffic() == 24 * kBackward[1].pairs(), "bytes per pair");
static_assert(kBackward[2].shared_traffic() == 120 * kBackward[2].pairs(), "bytes per pair");
static_assert(kBackward[3].shared_traffic() == 84 * kBackward[3].pairs(), "bytes per pair");

constexpr int kBackwardRows = sizeof(kBackward) / sizeof(kBackward[0]);

constexpr bool BackwardTableIsSound() {
  for (const BackwardTile& tile : kBackward) {
    if (tile.tile_k % 64 != 0 || tile.tile_q % 64 != 0 || tile.head_dim % 64 != 0) return false;
    if (tile.head_dim_v % 64 != 0 || (tile.shares_keys && tile.head_dim_v % 128 != 0)) return false;
    if (tile.tile_k != (tile.shares_keys ? 64 : 64 * kConsumers)) return false;
    // dquery of a tile: 64 queries x whole columns per warpgroup
    if (!tile.shares_keys && (tile.dquery_columns(0) > 64 || tile.dquery_columns(0) % 32 != 0)) return false;
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
    if (kBackward[row].head_dim == head_dim && kBackward[row].head_dim_v == head_dim_v) return row;
  }
  return -1;
}

}  // namespace pfm::cuda::sm90

#endif  // PFM_CUDA_SM90_BACKWARD_CONFIG_H_
