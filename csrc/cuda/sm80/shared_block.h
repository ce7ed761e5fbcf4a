// Work of a block of the backward in shared memory, since registers are scarce in its loop.
#ifndef PFM_CUDA_SM80_SHARED_BLOCK_H_
#define PFM_CUDA_SM80_SHARED_BLOCK_H_

#include <cstdint>

#include "../backward/backward_block.h"

namespace pfm::cuda::sm80 {

// A query tile that may have to be computed.
struct QueryTile {
  int32_t index;  // -1 at the end
  int32_t head;
  bool undecided;  // as in CandidateTile

  PFM_DEVICE bool exists() const { return index >= 0; }
};

struct SharedBlock {
  ptx::SharedAddress base;

  // Finds the work of this block. Called by all threads. In turn a ticket is its place in the order of work, so that
  // it waits only for blocks that have started, whatever the order of dispatch.
  template <bool kInTurn>
  PFM_DEVICE void Take(const BackwardArguments& arguments) const {
    if (ptx::ThreadIndex() == 0) {
      const BackwardBlock block(arguments, kInTurn ? ptx::AtomicAdd(arguments.ticket, 1) : ptx::BlockIndex());
      const int32_t words[] = {block.batch, block.kv_head, block.first_head, block.key_tile, block.split, block.rank};
#pragma unroll
      for (int w = 0; w < 6; ++w) ptx::StoreShared(base + 4 * w, words[w]);
    }
    ptx::SyncThreads();
  }

  PFM_DEVICE int32_t batch() const { return Word(0); }
  PFM_DEVICE int32_t key_tile() const { return Word(3); }
  PFM_DEVICE BackwardBlock Load() const {
    BackwardBlock block;
    block.batch = Word(0);
    block.kv_head = Word(1);
    block.first_head = Word(2);
    block.key_tile = Word(3);
    block.split = Word(4);
    block.rank = Word(5);
    return block;
  }

  // Tile `which`, 0 or 1. Found by every warp, stored by one thread.
  PFM_DEVICE void StoreTile(int which, const QueryTile& tile) const {
    if (ptx::ThreadIndex() != 0) return;
    const ptx::SharedAddress at = TileAt(which);
    ptx::StoreShared(at, tile.index);
    ptx::StoreShared(at + 4, tile.head);
    ptx::StoreShared(at + 8, static_cast<int32_t>(tile.undecided));
  }
  PFM_DEVICE QueryTile LoadTile(int which) const {
    const ptx::SharedAddress at = TileAt(which);
    return {ptx::LoadShared<int32_t>(at), ptx::LoadShared<int32_t>(at + 4), ptx::LoadShared<int32_t>(at + 8) != 0};
  }

 private:
  PFM_DEVICE int32_t Word(int w) const { return ptx::LoadShared<int32_t>(base + 4 * w); }
  PFM_DEVICE ptx::SharedAddress TileAt(int which) const { return base + 32 + 16 * which; }
};

}  // namespace pfm::cuda::sm80

#endif  // PFM_CUDA_SM80_SHARED_BLOCK_H_
