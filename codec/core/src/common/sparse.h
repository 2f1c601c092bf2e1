/* What reading and writing sparse maps share: geometry, bit arrays and the model of coded bits (docs/sparse-maps.md).
 */
#ifndef NNB_COMMON_SPARSE_H
#define NNB_COMMON_SPARSE_H

#include "common/deps.h"
#include "nnb/nnb_sparse.h"

/* --- shape --- */

typedef struct nnb_sparse_piece {
  const uint64_t *dimensions;
  size_t count_dimensions;
  uint64_t elements;
  uint64_t columns; /* of the piece's matrix */
} nnb_sparse_piece;

/* NNB_LIMIT if there are more than 2^48 elements, or more than this machine can address bits of. */
nnb_status nnb_sparse_measure(const uint64_t *dimensions, size_t count_dimensions, nnb_sparse_piece *piece);

NNB_INLINE size_t nnb_words_size(uint64_t bits) { return (size_t)((bits + 63) / 64 * 8); }
NNB_INLINE size_t nnb_bytes_size(uint64_t bits) { return (size_t)((bits + 7) / 8); }

/* Products of the dimensions in front of the axis and behind it. */
void nnb_sparse_strides(const nnb_sparse_piece *piece, size_t axis, uint64_t *outer, uint64_t *inner);

/* --- bits --- */

NNB_INLINE uint64_t nnb_load_le64(const uint8_t *p) {
#if (defined(__GNUC__) || defined(__clang__)) && defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
  uint64_t word;
  nnb_memcpy(&word, p, sizeof word);
  return word;
#else
  uint64_t word = 0;
  for (int i = 8; i-- > 0;) word = word << 8 | p[i];
  return word;
#endif
}

NNB_INLINE void nnb_store_le64(uint8_t *p, uint64_t word) {
#if (defined(__GNUC__) || defined(__clang__)) && defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
  nnb_memcpy(p, &word, sizeof word);
#else
  for (int i = 0; i < 8; i++, word >>= 8) p[i] = (uint8_t)word;
#endif
}

NNB_INLINE unsigned nnb_popcount(uint64_t x) {
#if defined(__GNUC__) || defined(__clang__)
  return (unsigned)__builtin_popcountll(x);
#else
  unsigned n = 0;
  for (; x != 0; x &= x - 1) n++;
  return n;
#endif
}

/* Of x > 0. */
NNB_INLINE unsigned nnb_lowest_bit(uint64_t x) {
#if defined(__GNUC__) || defined(__clang__)
  return (unsigned)__builtin_ctzll(x);
#else
  unsigned n = 0;
  while (!(x >> n & 1)) n++;
  return n;
#endif
}

NNB_INLINE unsigned nnb_highest_bit(uint32_t x) {
#if defined(__GNUC__) || defined(__clang__)
  return 31 - (unsigned)__builtin_clz(x);
#else
  unsigned n = 0;
  while (x >>= 1) n++;
  return n;
#endif
}

NNB_INLINE uint64_t nnb_low_mask(unsigned bits) { return bits < 64 ? (UINT64_C(1) << bits) - 1 : ~UINT64_C(0); }

/* Sets at most 64 bits at a position; those of `value` from `bits` on are zero. */
NNB_INLINE void nnb_put_bits(uint8_t *words, uint64_t position, uint64_t value, unsigned bits) {
  uint8_t *const p = words + (size_t)(position / 64 * 8);
  const unsigned shift = (unsigned)(position & 63);
  nnb_store_le64(p, nnb_load_le64(p) | value << shift);
  if (shift + bits > 64) nnb_store_le64(p + 8, nnb_load_le64(p + 8) | value >> (64 - shift));
}

/* At most 64 bits of a position; reads only words that hold some of them. */
NNB_INLINE uint64_t nnb_get_bits(const uint8_t *words, uint64_t position, unsigned bits) {
  const uint8_t *const p = words + (size_t)(position / 64 * 8);
  const unsigned shift = (unsigned)(position & 63);
  uint64_t value = nnb_load_le64(p) >> shift;
  if (shift + bits > 64) value |= nnb_load_le64(p + 8) << (64 - shift);
  return value & nnb_low_mask(bits);
}

/* Sets a run of ones. */
void nnb_put_ones(uint8_t *words, uint64_t position, uint64_t bits);

/* --- the model --- */

enum {
  NNB_HALF_OCTAVES = 24,
  NNB_DENSITIES = 2 * NNB_HALF_OCTAVES + 1,
  NNB_COLUMN_CLASSES = 12,
  NNB_NEIGHBOURS = 8,
  NNB_PLACES = NNB_COLUMN_CLASSES * NNB_NEIGHBOURS,
  NNB_COUNT_EXPONENTS = 17,
  NNB_COUNT_MANTISSAS = 8,
  NNB_GAP_ESCAPE = 24
};

/* An adaptive probability of a one: 24 bits, then 8 of how many bits it has seen. */
typedef uint32_t nnb_adaptive;

#define NNB_ADAPTIVE_EVEN (UINT32_C(1) << 31)

/* 131072 / (2 * seen + 3) */
extern const uint16_t nnb_adaptive_rate[256];

NNB_INLINE uint32_t nnb_adaptive_probability(nnb_adaptive state) { return state >> 16 | 1; }

NNB_INLINE nnb_adaptive nnb_adaptive_update(nnb_adaptive state, uint32_t bit) {
  const uint32_t rate = nnb_adaptive_rate[state & 255];
  const uint32_t p = state >> 8;
  const uint32_t up = p + ((((UINT32_C(1) << 24) - p) >> 8) * rate >> 8);
  const uint32_t down = p - ((p >> 8) * rate >> 8);
  return (bit ? up : down) << 8 | ((state & 255) + ((state & 255) != 255));
}

/* State of one mask. `shares`, `place` and `row` have `width` items. */
typedef struct nnb_bit_model {
  nnb_adaptive bits[NNB_DENSITIES][NNB_PLACES];
  nnb_adaptive exponents[NNB_COUNT_EXPONENTS];
  nnb_adaptive mantissas[NNB_COUNT_EXPONENTS][NNB_COUNT_MANTISSAS];
  uint8_t column_class[4096]; /* by share / 16, times NNB_NEIGHBOURS */
  uint16_t *shares;           /* of ones in each column */
  uint8_t *place;             /* of each column: its class and the element above */
  uint8_t *row;
  uint32_t width;
  int has_shares;
} nnb_bit_model;

/* Elements that share a count. */
uint64_t nnb_segment_width(uint64_t columns);

/* Bytes of work for a model of a mask. */
size_t nnb_bit_model_size(uint64_t elements, uint64_t columns);

/* Places a model into the work, which is large enough, and resets it. */
nnb_bit_model *nnb_bit_model_open(void *work, uint64_t elements, uint64_t columns);

/* Before the bits of a segment of which `ones` exist, some but not all. */
void nnb_bit_model_begin(nnb_bit_model *model, uint32_t ones, uint32_t width);

/* After a segment, of which `row` has the bits; `mixed` if it has both ones and zeros. */
void nnb_bit_model_end(nnb_bit_model *model, uint32_t width, int mixed);

/* Twice the logarithm of x > 0, roughly. */
NNB_INLINE int nnb_half_octave(uint32_t x) {
  const unsigned e = nnb_highest_bit(x);
  return (int)(2 * e + (e != 0 ? (x >> (e - 1) & 1) : 0));
}

NNB_INLINE unsigned nnb_density(int ones_octave, int zeros_octave) {
  int d = ones_octave - zeros_octave;
  if (d < -NNB_HALF_OCTAVES) d = -NNB_HALF_OCTAVES;
  if (d > NNB_HALF_OCTAVES) d = NNB_HALF_OCTAVES;
  return (unsigned)(d + NNB_HALF_OCTAVES);
}

/* --- structured maps --- */

/* Work of the reader; behind it a model of the longest mask. */
typedef struct {
  uint64_t index[NNB_SPARSE_MAX_DIMENSIONS];
  uint64_t stride[NNB_SPARSE_MAX_DIMENSIONS];
  size_t keeps[NNB_SPARSE_MAX_DIMENSIONS]; /* where the mask of a dimension begins */
} nnb_odometer;

/* Bytes of the masks of all dimensions, and of work for kind 5 without them. */
nnb_status nnb_sparse_keeps_size(const nnb_sparse_piece *piece, size_t *keeps_size, size_t *work_size);

/* --- patterns --- */

typedef struct nnb_pattern_tables {
  uint32_t choose[NNB_SPARSE_MAX_PATTERN + 1][NNB_SPARSE_MAX_PATTERN + 1];
  nnb_adaptive contexts[NNB_SPARSE_MAX_PATTERN][NNB_SPARSE_MAX_PATTERN];
} nnb_pattern_tables;

/* Pascal's triangle and fresh contexts. */
void nnb_pattern_open(nnb_pattern_tables *tables);

/* Number of patterns; at most 2^32. */
uint64_t nnb_pattern_count(const nnb_pattern_tables *tables, unsigned n, unsigned m, int exact);

/* --- Rice codes of gaps --- */

typedef struct nnb_rice {
  uint64_t total;
  uint64_t seen;
} nnb_rice;

NNB_INLINE unsigned nnb_rice_k(const nnb_rice *rice) {
  unsigned k = 0;
  while (rice->seen << (k + 1) < rice->total) k++;
  return k;
}

NNB_INLINE void nnb_rice_update(nnb_rice *rice, uint64_t gap) {
  rice->total += gap;
  if (++rice->seen == 64) {
    rice->total >>= 1;
    rice->seen >>= 1;
  }
}

#endif
