#include "common/sparse.h"

const uint16_t nnb_adaptive_rate[256] = {
    43690, 26214, 18724, 14563, 11915, 10082, 8738, 7710, 6898, 6241, 5698, 5242, 4854, 4519, 4228, 3971, 3744, 3542,
    3360,  3196,  3048,  2912,  2788,  2674,  2570, 2473, 2383, 2299, 2221, 2148, 2080, 2016, 1956, 1899, 1846, 1795,
    1747,  1702,  1659,  1618,  1579,  1542,  1506, 1472, 1440, 1409, 1379, 1351, 1323, 1297, 1272, 1248, 1224, 1202,
    1180,  1159,  1139,  1120,  1101,  1083,  1065, 1048, 1032, 1016, 1000, 985,  970,  956,  942,  929,  916,  903,
    891,   879,   868,   856,   845,   834,   824,  814,  804,  794,  784,  775,  766,  757,  748,  740,  732,  724,
    716,   708,   700,   693,   686,   679,   672,  665,  658,  652,  645,  639,  633,  627,  621,  615,  609,  604,
    598,   593,   587,   582,   577,   572,   567,  562,  557,  553,  548,  543,  539,  534,  530,  526,  522,  518,
    514,   510,   506,   502,   498,   494,   490,  487,  483,  480,  476,  473,  469,  466,  463,  459,  456,  453,
    450,   447,   444,   441,   438,   435,   432,  429,  426,  424,  421,  418,  416,  413,  410,  408,  405,  403,
    400,   398,   395,   393,   391,   388,   386,  384,  382,  379,  377,  375,  373,  371,  369,  367,  365,  363,
    361,   359,   357,   355,   353,   351,   349,  347,  345,  344,  342,  340,  338,  336,  335,  333,  331,  330,
    328,   326,   325,   323,   322,   320,   318,  317,  315,  314,  312,  311,  309,  308,  306,  305,  304,  302,
    301,   299,   298,   297,   295,   294,   293,  291,  290,  289,  288,  286,  285,  284,  283,  281,  280,  279,
    278,   277,   275,   274,   273,   272,   271,  270,  269,  268,  266,  265,  264,  263,  262,  261,  260,  259,
    258,   257,   256,   255};

/* 2^24 / (1 + 2^(k / 2)): the probability of a one if it is rarer than a zero. */
static const uint32_t rare[NNB_HALF_OCTAVES + 1] = {
    8388608, 6949350, 5592405, 4382274, 3355443, 2520292, 1864135, 1362483, 986895, 710074, 508400, 362713, 258111,
    183338,  130056,  92173,   65281,   46213,   32704,   23139,   16368,   11577,  8188,   5791,   4095};

enum { CONFIDENCE = 12, MAX_SEGMENT = 65535, LONG_SEGMENT = 16384, SMALL_SEGMENT = 1024, MIN_SEGMENT = 64 };

#define MAX_ELEMENTS (UINT64_C(1) << 48)

nnb_status nnb_sparse_measure(const uint64_t *dimensions, size_t count_dimensions, nnb_sparse_piece *piece) {
  if (count_dimensions > NNB_SPARSE_MAX_DIMENSIONS) return NNB_LIMIT;
  uint64_t elements = 1;
  for (size_t i = 0; i < count_dimensions; i++) {
    if (dimensions[i] == 0) elements = 0;
  }
  /* No product of some of the dimensions overflows if none of them is zero. */
  for (size_t i = 0; i < count_dimensions; i++) {
    if (dimensions[i] > MAX_ELEMENTS) return NNB_LIMIT;
    if (elements != 0 && dimensions[i] > MAX_ELEMENTS / elements) return NNB_LIMIT;
    elements *= dimensions[i];
  }
  if (elements / 8 > SIZE_MAX / 4) return NNB_LIMIT;
  piece->dimensions = dimensions;
  piece->count_dimensions = count_dimensions;
  piece->elements = elements;
  piece->columns = elements;
  if (count_dimensions > 1 && elements != 0) piece->columns = elements / dimensions[0];
  return NNB_OK;
}

void nnb_sparse_strides(const nnb_sparse_piece *piece, size_t axis, uint64_t *outer, uint64_t *inner) {
  *outer = *inner = piece->elements != 0;
  if (piece->elements == 0) return;
  for (size_t i = 0; i < axis; i++) *outer *= piece->dimensions[i];
  for (size_t i = axis + 1; i < piece->count_dimensions; i++) *inner *= piece->dimensions[i];
}

void nnb_put_ones(uint8_t *words, uint64_t position, uint64_t bits) {
  while (bits != 0) {
    const unsigned room = 64 - (unsigned)(position & 63);
    const unsigned n = bits < room ? (unsigned)bits : room;
    nnb_put_bits(words, position, nnb_low_mask(n), n);
    position += n;
    bits -= n;
  }
}

uint64_t nnb_segment_width(uint64_t columns) {
  if (columns > MAX_SEGMENT) return LONG_SEGMENT;
  if (columns >= MIN_SEGMENT) return columns;
  return columns != 0 ? columns * (SMALL_SEGMENT / columns) : SMALL_SEGMENT;
}

static size_t model_width(uint64_t elements, uint64_t columns) {
  const uint64_t width = nnb_segment_width(columns);
  return (size_t)(((elements < width ? elements : width) + 7) / 8 * 8);
}

size_t nnb_bit_model_size(uint64_t elements, uint64_t columns) {
  return sizeof(nnb_bit_model) + 4 * model_width(elements, columns);
}

nnb_bit_model *nnb_bit_model_open(void *work, uint64_t elements, uint64_t columns) {
  nnb_bit_model *const model = work;
  const size_t width = model_width(elements, columns);
  model->shares = (uint16_t *)(model + 1);
  model->place = (uint8_t *)(model->shares + width);
  model->row = model->place + width;
  model->width = (uint32_t)nnb_segment_width(columns);
  model->has_shares = 0;
  nnb_memset(model->place, 0, width);
  nnb_memset(model->row, 0, width);
  for (int d = 0; d < NNB_DENSITIES; d++) {
    const int k = d - NNB_HALF_OCTAVES;
    const uint32_t p = k <= 0 ? rare[-k] : (UINT32_C(1) << 24) - rare[k];
    for (int i = 0; i < NNB_PLACES; i++) model->bits[d][i] = p << 8 | CONFIDENCE;
  }
  for (int i = 0; i < NNB_COUNT_EXPONENTS; i++) {
    model->exponents[i] = NNB_ADAPTIVE_EVEN;
    for (int j = 0; j < NNB_COUNT_MANTISSAS; j++) model->mantissas[i][j] = NNB_ADAPTIVE_EVEN;
  }
  for (uint32_t s = 0; s < 4096; s++) {
    int odds = (int)nnb_highest_bit(s + 1) - (int)nnb_highest_bit(4096 - s);
    if (odds < -6) odds = -6;
    if (odds > 5) odds = 5;
    model->column_class[s] = (uint8_t)((odds + 6) * NNB_NEIGHBOURS);
  }
  return model;
}

void nnb_bit_model_begin(nnb_bit_model *model, uint32_t ones, uint32_t width) {
  if (model->has_shares) return;
  model->has_shares = 1;
  const uint16_t share = (uint16_t)(ones * UINT32_C(65535) / width);
  for (uint32_t j = 0; j < width; j++) {
    model->shares[j] = share;
    model->place[j] = (uint8_t)(model->column_class[share >> 4] | (model->place[j] & 4));
  }
}

void nnb_bit_model_end(nnb_bit_model *model, uint32_t width, int mixed) {
  if (mixed) {
    for (uint32_t j = 0; j < width; j++) {
      const int32_t share = model->shares[j];
      model->shares[j] = (uint16_t)(share + (((model->row[j] ? 65535 : 0) - share) >> 5));
    }
  }
  for (uint32_t j = 0; j < width; j++) {
    const uint8_t class = model->has_shares ? model->column_class[model->shares[j] >> 4] : 0;
    model->place[j] = (uint8_t)(class | model->row[j] << 2);
  }
}

void nnb_pattern_open(nnb_pattern_tables *tables) {
  for (int p = 0; p <= NNB_SPARSE_MAX_PATTERN; p++) {
    for (int k = 0; k <= NNB_SPARSE_MAX_PATTERN; k++) {
      tables->choose[p][k] = k == 0 ? 1 : (p == 0 ? 0 : tables->choose[p - 1][k - 1] + tables->choose[p - 1][k]);
    }
  }
  for (int p = 0; p < NNB_SPARSE_MAX_PATTERN; p++) {
    for (int k = 0; k < NNB_SPARSE_MAX_PATTERN; k++) tables->contexts[p][k] = NNB_ADAPTIVE_EVEN;
  }
}

uint64_t nnb_pattern_count(const nnb_pattern_tables *tables, unsigned n, unsigned m, int exact) {
  uint64_t count = 0;
  for (unsigned k = exact ? n : 0; k <= n; k++) count += tables->choose[m][k];
  return count;
}

uint64_t nnb_sparse_count(const uint8_t *words, uint64_t elements) {
  const size_t size = nnb_words_size(elements);
  uint64_t count = 0;
  for (size_t i = 0; i < size; i += 8) count += nnb_popcount(nnb_load_le64(words + i));
  return count;
}

nnb_status nnb_sparse_keeps_size(const nnb_sparse_piece *piece, size_t *keeps_size, size_t *work_size) {
  uint64_t total = 0;
  size_t model = 0;
  for (size_t i = 0; i < piece->count_dimensions; i++) {
    const uint64_t d = piece->dimensions[i]; /* at most 2^48, and there are 255 */
    total += (d + 63) / 64 * 8;
    const size_t needed = nnb_bit_model_size(d, d);
    if (needed > model) model = needed;
  }
  if (total > SIZE_MAX / 2) return NNB_LIMIT;
  *keeps_size = (size_t)total;
  *work_size = sizeof(nnb_odometer) + model;
  return NNB_OK;
}

nnb_status nnb_sparse_sizes(uint32_t kind, const uint64_t *dimensions, size_t count_dimensions, size_t *words_size,
                            size_t *work_size) {
  nnb_sparse_piece piece;
  nnb_status status = nnb_sparse_measure(dimensions, count_dimensions, &piece);
  if (status != NNB_OK) return status;
  *words_size = nnb_words_size(piece.elements);
  *work_size = 0;
  size_t keeps_size = 0;
  switch (kind) {
    case NNB_SPARSE_BITMASK:
    case NNB_SPARSE_GAPS:
      break;
    case NNB_SPARSE_TWO_LEVEL: {
      const uint64_t flags = *words_size / 8;
      /* Of the words that are not zero, of which there may be fewer: fewer elements may have wider segments. */
      const uint64_t widest = flags * 64 < MAX_SEGMENT ? flags * 64 : MAX_SEGMENT;
      *work_size = nnb_words_size(flags) + nnb_bit_model_size(widest, widest);
      break;
    }
    case NNB_SPARSE_PATTERN:
      *work_size = sizeof(nnb_pattern_tables);
      break;
    case NNB_SPARSE_STRUCTURED:
      status = nnb_sparse_keeps_size(&piece, &keeps_size, work_size);
      *work_size += keeps_size;
      break;
    case NNB_SPARSE_CODED:
      *work_size = nnb_bit_model_size(piece.elements, piece.columns);
      break;
    default:
      status = NNB_UNSUPPORTED_FEATURE;
  }
  return status;
}
