// The arithmetic of one tile, as tables of functions per instruction set.
//
// Forward and backward are written once and call these tables; each instruction set fills its tables in a file
// compiled with its own flags. All arithmetic is float32; the 16-bit types exist only in pack and store.
//
// Two layouts, both made of panels of 16 floats:
//   panels     a matrix [rows, dim] as [dim/16][rows][16]: rows broadcast as a left operand, vectors as a right one
//   transposed a matrix [keys, dim] as [keys/16][dim][16]: the right operand of a product over dim
// dim is padded with zeros to a multiple of 16. Score tiles are row-major [kTileQ, kTileK], rows kScoreStride apart.
#ifndef PFM_CPU_TILE_KERNELS_H_
#define PFM_CPU_TILE_KERNELS_H_

#include <cstdint>

#include "../core/dropout.h"

namespace pfm::cpu {

// 64 x 128: a score tile is 32 KiB and a packed key tile at head_dim 128 is 64 KiB; both stay in L2. Both sides
// divide the 128 x 128 blocks of block_mask, so a tile lies in exactly one block.
constexpr int kTileQ = 64;
constexpr int kTileK = 128;
constexpr int kPanel = 16;
constexpr int kKeyPanels = kTileK / kPanel;
constexpr int kScoreStride = kTileK + kPanel;  // not a power of two: rows of a column use all cache sets

constexpr int PaddedDim(int64_t dim) { return static_cast<int>((dim + kPanel - 1) / kPanel * kPanel); }

// Rows of a tile, relative to its first row, that see at least one key of a panel; {0, 0} if there are none.
struct PanelRows {
  int16_t begin;
  int16_t end;
};

// The part of a tile that holds visible pairs, at panel resolution.
struct TileShape {
  PanelRows panel[kKeyPanels];
  int panel_begin, panel_end;  // panels outside are empty
  int row_begin, row_end;      // union of the panels' rows
  bool masked;                 // some pair inside is hidden, so the mask must be applied
};

// Normal-form columns of one mask head as arrays, padded to whole key tiles with columns that no row sees.
struct ColumnArrays {
  const int32_t* visible_begin;
  const int32_t* visible_end;
  const int32_t* hole_begin[2];  // null beyond the number of holes of this call
  const int32_t* hole_end[2];
};

// Running softmax of the rows of a query tile.
struct RowState {
  float max[kTileQ];      // running maximum of the scaled scores; -inf before the first visible key
  float sum[kTileQ];      // sum of exp(score - max)
  float rescale[kTileQ];  // factor that the last tile applied to earlier sums and outputs
};

// Memory to prefetch during a call because the next call reads it; 0 floats for none.
struct Upcoming {
  const float* data;
  int floats;
};

// Rows of a tensor or of packed panels: element (row, d) is data[row * row_stride + d / 16 * panel_stride + d % 16].
// Those of a tensor have a panel_stride of 16.
struct RowSpan {
  const void* data;
  int64_t row_stride;
  int64_t panel_stride;
  int dim;
};

// Panels of `rows` rows.
struct PanelSpan {
  const float* data;
  int rows;
};

struct PackKernels {
  // [rows, dim] -> panels with room for panel_rows rows, times scale; indexed by pfm_dtype. Returns whether all
  // packed elements are finite.
  bool (*pack_panels[3])(const void* src, int64_t row_stride, int rows, int dim, float scale, float* dst,
                         int panel_rows);
  // [keys, dim] -> transposed panels of a whole key tile, missing keys as zeros.
  void (*pack_transposed[3])(const void* src, int64_t row_stride, int keys, int dim, float* dst);
  // panels [dim/16][panel_rows][16], row r times row_scale[r] (or only `scale` when null) -> [rows, dim].
  void (*store_panels[3])(const float* src, int panel_rows, int rows, int dim, const float* row_scale, float scale,
                          void* dst, int64_t row_stride);
  // dot[r] = sum over dim of a[r] * b[r].
  void (*row_dots[3])(const void* a, int64_t a_stride, const void* b, int64_t b_stride, int rows, int dim,
                      float* dot);
};

struct ProductKernels {
  // scores = left (panels of kTileQ rows) x right (transposed), inside shape.
  void (*multiply)(const float* left, const float* right, int dim, const TileShape& shape, float* scores,
                   const Upcoming& upcoming);
  // out (panels of kTileQ rows) = out * rescale + weights x right (panels of kTileK rows); null rescale: 1.
  void (*accumulate)(const float* weights, const float* right, int dim, const TileShape& shape, const float* rescale,
                     float* out, const Upcoming& upcoming);
  // out (panels of kTileK rows) += weights^T x right (panels of kTileQ rows).
  void (*accumulate_transposed)(const float* weights, const float* right, int dim, const TileShape& shape,
                                float* out);
};

// Products of few rows of panels with many rows in their own dtype; indexed by the pfm_dtype of `many`.
struct RowKernels {
  // scores[f][m] = few[f] . many[m] for m in [begin, end) and f in [few_begin, few_end).
  void (*dots_of_rows[3])(const RowSpan& many, int begin, int end, const PanelSpan& few, int few_begin, int few_end,
                          float* scores);
  // out[f] (panels of few_rows rows) = out[f] * rescale[f] + sum over m in [begin, end) of weights[f][m] * many[m];
  // null rescale: 1.
  void (*accumulate_rows[3])(const float* weights, const RowSpan& many, int begin, int end, int few_begin,
                             int few_end, int few_rows, const float* rescale, float* out);
  // out[m] = sum over f of weights[f][m] * few[f] for m in [0, rows), stored as pfm_dtype.
  void (*store_combinations[3])(const float* weights, const PanelSpan& few, int rows, int dim, void* out,
                                int64_t row_stride);
  // Whether all elements of the rows [begin, end) are finite.
  bool (*finite_rows[3])(const RowSpan& many, int begin, int end);
};

struct SoftmaxKernels {
  // Computes the visible part of the tile at row0. Returns false if there is none; shape->masked is false if all is.
  bool (*shape)(const ColumnArrays& columns, int64_t key0, int row0, int rows, TileShape* shape);
  // Hidden pairs inside the shape's bounding box -> -inf.
  void (*mask)(const ColumnArrays& columns, int64_t key0, int row0, const TileShape& shape, float* scores);
  // scores -> exp(scores - max); updates the running state.
  void (*softmax)(const TileShape& shape, float* scores, RowState* state);
  // The same where a tile holds all keys of its rows, scores[key][row]: scores -> exp(scores - max[row]), sum[row]
  // with the sink's share. max is 0 for a row that sees nothing.
  void (*softmax_of_columns)(int keys, int rows, float sink, float* scores, float* max, float* sum);
  // scores -> P = exp(scores - lse), dweights -> dS = P * (dweights - delta); hidden pairs (-inf) give 0.
  void (*softmax_backward)(const TileShape& shape, const float* lse, const float* delta, float* scores,
                           float* dweights);
  // With dropout: scores -> P * keep, dS = P * (dweights * keep - delta).
  void (*softmax_backward_dropout)(const TileShape& shape, const float* lse, const float* delta, const float* keep,
                                   float* scores, float* dweights);
  // keep = 0 or 1 / (1 - p) over the shape's bounding box (csrc/core/dropout.h).
  void (*dropout_keep)(const DropoutStream& stream, uint32_t head, int64_t row0, int64_t key0, const TileShape& shape,
                       float* keep);
  // scores *= factor.
  void (*scale_by)(const TileShape& shape, const float* factor, float* scores);
};

struct TileKernels : PackKernels, ProductKernels, RowKernels, SoftmaxKernels {
  const char* name;
};

// Constant-initialised tables: a file compiled for an instruction set must not run any code on a processor that lacks
// it, dynamic initialisers included.
extern const PackKernels kAvx2Pack, kPortablePack;
extern const ProductKernels kAvx512Products, kAvx2Products, kPortableProducts;
extern const RowKernels kAvx512Rows, kAvx2Rows, kPortableRows;
extern const SoftmaxKernels kAvx512Softmax, kAvx2Softmax, kPortableSoftmax;

// The table in use.
const TileKernels& Kernels();

}  // namespace pfm::cpu

#endif  // PFM_CPU_TILE_KERNELS_H_
