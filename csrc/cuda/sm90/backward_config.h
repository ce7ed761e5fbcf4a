// Tile shapes of the sm90 backward: data, one row per instantiation, with shared memory and registers checked here.
#ifndef PFM_CUDA_SM90_BACKWARD_CONFIG_H_
#define PFM_CUDA_SM90_BACKWARD_CONFIG_H_

#include <cstdint>

namespace pfm::cuda::sm90 {

constexpr int kBackwardSharedLimit = 227 * 1024;  // of one block
constexpr int kBackwardRegisters = 65536;         // of a multiprocessor, and so of the one block on it

struct BackwardTile {
  int head_dim;  // of query, key and value
  int tile_q, tile_k;
  int stages;  // of query and dout
  // The product behind dvalue starts before dP is waited for, with P in more registers, and the next scores before
  // this tile is done.
  bool overlaps;
  int producer_registers, consumer_registers;

  constexpr int consumers() const { return tile_k / 64; }  // warpgroups, 64 keys each
  constexpr int threads() const { return 128 * (1 + consumers()); }
  constexpr int key_bytes() const { return tile_k * head_dim * 2; }
  constexpr int query_bytes() const { return tile_q * head_dim * 2; }
  constexpr int dscore_bytes() const { return tile_k * tile_q * 2; }
  // lse, delta and the description of the tile
  constexpr int row_bytes() const { return 2 * tile_q * 4 + 16; }
  // key and value; the stages; two dS^T, so that a warpgroup may write the next one while the other reads the last;
  // two mbarriers per stage and one for the keys
  constexpr int shared_bytes() const {
    return 1024 + 2 * key_bytes() + stages * (2 * query_bytes() + row_bytes()) + 2 * dscore_bytes() +
           8 * (2 * stages + 1);
  }
  constexpr int registers() const { return 128 * (producer_registers + consumers() * consumer_registers); }
  // What a consumer thread holds at the worst moment, when dS is computed: dkey and dvalue, scores and dP, P rounded
  // and in flight; some 24 for addresses and the rest.
  constexpr int live_registers() const { return head_dim + tile_q + (overlaps ? tile_q / 4 : 0) + 24; }

  // Per tile. Bytes that shared memory moves: operands of wgmma that are there, dS^T written, the copies in; and what
  // the sums of dquery take of the same path on their way to the second-level cache.
  constexpr int64_t shared_traffic() const {
    const int scores = 2 * (2 * 64 * head_dim * consumers() + consumers() * query_bytes());
    const int sums = 2 * consumers() * query_bytes();
    const int dquery = consumers() * 2 * (2 * 64 * tile_k) + 4 * tile_q * head_dim;
    return scores + sums + dquery + dscore_bytes() + 2 * query_bytes();
  }
  constexpr int64_t pairs() const { return tile_q * tile_k; }
};

// Keys as rows of the scores: 64 per warpgroup, so that dkey and dvalue of a warpgroup stay in its registers and
// P^T and dS^T feed them from registers. 240 registers leave the producer 24, which is enough for one warp that looks
// for live tiles itself: the key tile stays, so it is two tiles ahead.
constexpr BackwardTile kBackward[] = {
    // 64 queries: dkey and dvalue take 128 registers, scores and dP 64. 42 bytes of shared memory per pair.
    {128, 64, 128, 2, true, 24, 240},
    // 128 queries: 20 bytes of shared memory per pair instead of 24 with 64, and half as many tiles. Scores and
    // dP take 128 registers, so P is rounded where it lies and dvalue waits for dP.
    {64, 128, 128, 2, false, 24, 240},
};
static_assert(kBackward[0].shared_traffic() == 42 * kBackward[0].pairs(), "bytes per pair");
static_assert(kBackward[1].shared_traffic() == 20 * kBackward[1].pairs(), "bytes per pair");

constexpr int kBackwardRows = sizeof(kBackward) / sizeof(kBackward[0]);

constexpr bool BackwardTableIsSound() {
  for (const BackwardTile& tile : kBackward) {
    if (tile.tile_k % 64 != 0 || tile.tile_q % 64 != 0 || tile.head_dim % 64 != 0) return false;
    // dquery of a tile: one block of 64 x 64 per warpgroup
    if (tile.tile_q / 64 * (tile.head_dim / 64) != tile.consumers()) return false;
    if (tile.shared_bytes() > kBackwardSharedLimit || tile.registers() > kBackwardRegisters) return false;
    if (tile.live_registers() > tile.consumer_registers) return false;
  }
  return true;
}
static_assert(BackwardTableIsSound(), "every row fits shared memory and registers");

// -1: none.
constexpr int BackwardRowFor(int64_t head_dim, int64_t head_dim_v) {
  for (int row = 0; row < kBackwardRows; ++row) {
    if (kBackward[row].head_dim == head_dim && kBackward[row].head_dim == head_dim_v) return row;
  }
  return -1;
}

}  // namespace pfm::cuda::sm90

#endif  // PFM_CUDA_SM90_BACKWARD_CONFIG_H_
