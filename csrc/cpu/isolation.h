// Matrix products of a masked tile whose operands hold NaN or infinity.
#ifndef PFM_CPU_ISOLATION_H_
#define PFM_CPU_ISOLATION_H_

#include "tile_kernels.h"

namespace pfm::cpu {

// Copies panels of `rows` rows, with 0 in place of NaN and infinity. Returns whether there were any.
bool CopyFinite(const float* panels, int rows, int dim, float* finite);

// to += weight * from over the elements of `from` that are not finite, for rows of panels of from_rows and to_rows
// rows.
void AddNonFinite(const float* from, int from_rows, float weight, int dim, float* to, int to_rows);

// The weight of a hidden pair is 0, but 0 times NaN or infinity is NaN: the products of tile_kernels.h would carry
// such an element of one row into rows that do not see it. The products here leave these elements out of the matrix
// product and then add them pair by pair, for visible pairs alone. All other results have the bits of tile_kernels.h.
struct IsolatedTile {
  const TileShape& shape;
  const float* visibility;  // MaskPlan::Visibility
  float* finite;            // scratch for one right operand

  // Weights of hidden pairs -> 0. They are NaN in a row whose lse is NaN.
  void ClearHidden(float* weights) const;

  // As ProductKernels::accumulate and accumulate_transposed.
  void Accumulate(const float* weights, const float* right, int dim, const float* rescale, float* out) const;
  void AccumulateTransposed(const float* weights, const float* right, int dim, float* out) const;

  // As RowKernels::accumulate_rows over the shape, with `right` in panels of kTileK rows and `out` in panels of
  // out_rows rows.
  void AccumulateRows(const float* weights, const float* right, int dim, int keys, int out_rows, const float* rescale,
                      float* out) const;
};

}  // namespace pfm::cpu

#endif  // PFM_CPU_ISOLATION_H_
