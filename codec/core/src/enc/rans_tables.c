#include "common/sparse.h"
#include "enc/rans.h"

#define CHUNK 1024u
#define SAMPLE 256u
#define MIN_SAMPLED 65536u

/* Equal symbols that follow each other count in different places, lest each wait for the one before. */
void nnb_rans_count_symbols(const uint8_t *symbols, size_t count, uint32_t parts[4][256]) {
  size_t i = 0;
  for (; count - i >= 8; i += 8) {
    uint64_t eight;
    nnb_memcpy(&eight, symbols + i, 8);
    parts[0][eight & 255]++;
    parts[1][eight >> 8 & 255]++;
    parts[2][eight >> 16 & 255]++;
    parts[3][eight >> 24 & 255]++;
    parts[0][eight >> 32 & 255]++;
    parts[1][eight >> 40 & 255]++;
    parts[2][eight >> 48 & 255]++;
    parts[3][eight >> 56]++;
  }
  for (; i < count; i++) parts[0][symbols[i]]++;
}

/* Symbols of several tables, likewise in two places. */
static void count_with_contexts(const uint8_t *symbols, const uint8_t *contexts, const uint8_t *context_map,
                                size_t count, uint32_t *even, uint32_t *odd) {
  size_t i = 0;
  for (; count - i >= 8; i += 8) {
    uint64_t eight, of;
    nnb_memcpy(&eight, symbols + i, 8);
    nnb_memcpy(&of, contexts + i, 8);
    for (unsigned k = 0; k < 64; k += 16) {
      even[(size_t)context_map[of >> k & 255] * 256 + (eight >> k & 255)]++;
      odd[(size_t)context_map[of >> (k + 8) & 255] * 256 + (eight >> (k + 8) & 255)]++;
    }
  }
  for (; i < count; i++) even[(size_t)context_map[contexts[i]] * 256 + symbols[i]]++;
}

/* Counts the first `sample` of each CHUNK symbols. */
static nnb_status count_chunks(const uint8_t *symbols, const uint8_t *contexts, const uint8_t *context_map,
                               size_t count, uint32_t table_count, uint32_t *histograms, size_t sample) {
  enum { TWICE = 8 }; /* tables for which there is room */
  uint32_t parts[4][256];
  uint32_t odd[TWICE * 256];
  if (table_count < 1 || table_count > NNB_RANS_MAX_TABLES) return NNB_BAD_OPTION;
  if (!nnb_rans_map_is_good(contexts, context_map, table_count)) return NNB_BAD_OPTION;
  nnb_memset(histograms, 0, (size_t)table_count * 256 * sizeof *histograms);
  nnb_memset(parts, 0, sizeof parts);
  const size_t twice = contexts != NULL && table_count <= TWICE ? (size_t)table_count * 256 : 0;
  nnb_memset(odd, 0, twice * sizeof *odd);
  for (size_t first = 0; first < count; first += CHUNK) {
    const size_t chunk = count - first < sample ? count - first : sample;
    if (contexts == NULL) {
      nnb_rans_count_symbols(symbols + first, chunk, parts);
    } else {
      count_with_contexts(symbols + first, contexts + first, context_map, chunk, histograms, twice ? odd : histograms);
    }
  }
  for (size_t s = 0; s < twice; s++) histograms[s] += odd[s];
  for (size_t s = 0; s < 256; s++) histograms[s] += parts[0][s] + parts[1][s] + parts[2][s] + parts[3][s];
  return NNB_OK;
}

nnb_status nnb_rans_histogram(const uint8_t *symbols, const uint8_t *contexts, const uint8_t *context_map, size_t count,
                              uint32_t table_count, uint32_t *histograms) {
  return count_chunks(symbols, contexts, context_map, count, table_count, histograms, CHUNK);
}

nnb_status nnb_rans_count_quarter(const uint8_t *symbols, const uint8_t *contexts, const uint8_t *context_map,
                                  size_t count, uint32_t table_count, uint32_t *histograms) {
  return count_chunks(symbols, contexts, context_map, count, table_count, histograms, SAMPLE);
}

static size_t find_unmarked(const uint8_t *symbols, size_t count, const uint8_t *marks) {
#if NNB_X86_DISPATCH
  if (nnb_rans_has_path(NNB_RANS_AVX512)) return nnb_rans_find_unmarked_avx512(symbols, count, marks);
  if (nnb_rans_has_path(NNB_RANS_AVX2)) return nnb_rans_find_unmarked_avx2(symbols, count, marks);
#endif
#if NNB_NEON
  return nnb_rans_find_unmarked_neon(symbols, count, marks);
#endif
  (void)symbols, (void)count, (void)marks;
  return 0;
}

nnb_status nnb_rans_sample_histogram(const uint8_t *symbols, const uint8_t *contexts, const uint8_t *context_map,
                                     size_t count, uint32_t table_count, uint32_t *histograms) {
  uint8_t marks[256];
  if (count < MIN_SAMPLED) return nnb_rans_histogram(symbols, contexts, context_map, count, table_count, histograms);
  const nnb_status status = count_chunks(symbols, contexts, context_map, count, table_count, histograms, SAMPLE);
  if (status != NNB_OK) return status;
  for (size_t s = 0; s < 256; s++) {
    uint32_t any = 0;
    for (size_t t = 0; t < table_count; t++) any |= histograms[256 * t + s];
    marks[s] = any ? 255 : 0;
  }
  for (size_t i = 0; i < count;) {
    i += find_unmarked(symbols + i, count - i, marks);
    const size_t end = count - i < 64 ? count : i + 64;
    for (; i < end; i++) marks[symbols[i]] = 255;
  }
  for (size_t s = 0; s < 256; s++) {
    for (size_t t = 0; t < table_count && marks[s]; t++) histograms[256 * t + s] += histograms[256 * t + s] == 0;
  }
  return NNB_OK;
}

/* What one slot more or less of a frequency means, times 2^32; a last slot is never taken. */
static uint64_t weight_of(uint32_t occurrences, uint32_t frequency, int more) {
  if (!more && frequency < 2) return UINT64_MAX;
  return ((uint64_t)occurrences << 32) / (more ? 2 * frequency + 1 : 2 * frequency - 1);
}

void nnb_rans_normalize(const uint32_t *histogram, uint16_t *frequencies) {
  uint8_t symbols[256]; /* those that occur */
  uint32_t count = 0;
  uint32_t sum = 0;
  uint64_t total = 0;
  nnb_memset(frequencies, 0, 256 * sizeof *frequencies);
  for (uint32_t s = 0; s < 256; s++) {
    total += histogram[s];
    if (histogram[s] > 0) symbols[count++] = (uint8_t)s;
  }
  if (total == 0) {
    frequencies[0] = NNB_RANS_SLOTS;
    return;
  }
  for (uint32_t i = 0; i < count; i++) {
    const uint64_t frequency = ((uint64_t)histogram[symbols[i]] * NNB_RANS_SLOTS + total / 2) / total;
    frequencies[symbols[i]] = (uint16_t)(frequency > 0 ? frequency : 1);
    sum += frequencies[symbols[i]];
  }
  /* One slot more saves about h / (f + 1/2) of the code, one less costs h / (f - 1/2). Quotients of different fractions
   * of such sizes differ by more than 2^-32. */
  const int more = sum < NNB_RANS_SLOTS;
  uint64_t weights[256];
  for (uint32_t i = 0; i < count; i++) weights[i] = weight_of(histogram[symbols[i]], frequencies[symbols[i]], more);
  while (sum != NNB_RANS_SLOTS) {
    uint32_t best = 0;
    for (uint32_t i = 1; i < count; i++) {
      if (more ? weights[i] > weights[best] : weights[i] < weights[best]) best = i;
    }
    const uint8_t s = symbols[best];
    frequencies[s] = (uint16_t)(more ? frequencies[s] + 1 : frequencies[s] - 1);
    weights[best] = weight_of(histogram[s], frequencies[s], more);
    sum = more ? sum + 1 : sum - 1;
  }
}

enum { LOG_STEP_BITS = 6, LOG_ERROR = 8 };

/* log2 of values from 1 in 1/65536, at most LOG_ERROR too small. */
static uint32_t log2_of(uint32_t value) {
  static const uint32_t steps[(1 << LOG_STEP_BITS) + 1] = {
      0,     1465,  2909,  4331,  5731,  7112,  8472,  9813,  11136, 12440, 13726, 14995, 16248,
      17484, 18704, 19908, 21097, 22272, 23432, 24578, 25710, 26829, 27935, 29028, 30109, 31177,
      32234, 33278, 34312, 35334, 36345, 37346, 38336, 39315, 40285, 41245, 42195, 43136, 44068,
      44990, 45904, 46808, 47704, 48592, 49472, 50343, 51207, 52062, 52910, 53751, 54584, 55410,
      56228, 57040, 57844, 58642, 59433, 60218, 60996, 61768, 62534, 63293, 64047, 64794, 65536,
  };
  const uint32_t whole = nnb_highest_bit(value), mantissa = value << (31 - whole) & 0x7FFFFFFFu;
  const uint32_t *const step = steps + (mantissa >> (31 - LOG_STEP_BITS));
  const uint32_t part = mantissa >> (19 - LOG_STEP_BITS) & 0xFFFu;
  return (whole << 16) + step[0] + ((step[1] - step[0]) * part >> 12);
}

uint64_t nnb_rans_cost(const uint32_t *histogram, const uint16_t *frequencies) {
  uint64_t cost = 0;
  for (size_t s = 0; s < 256; s++) {
    if (histogram[s] == 0) continue;
    if (frequencies[s] == 0) return UINT64_MAX;
    cost += histogram[s] * (uint64_t)((NNB_RANS_BITS << 16) - log2_of(frequencies[s]));
  }
  return cost;
}

uint64_t nnb_rans_entropy(const uint32_t *histogram, size_t symbols) {
  uint64_t total = 0, sum = 0;
  for (size_t s = 0; s < symbols; s++) {
    total += histogram[s];
    if (histogram[s] > 1) sum += histogram[s] * (uint64_t)log2_of(histogram[s]);
  }
  return total ? total * log2_of((uint32_t)total) - sum : 0;
}

/* The entropy is at least minus the logarithm of the probability that two symbols are equal. */
size_t nnb_rans_least_size(const uint32_t *histogram) {
  uint32_t total = 0, symbols = 0, squares = 0;
  for (size_t s = 0; s < 256; s++) {
    total += histogram[s];
    squares += histogram[s] * histogram[s];
    symbols += histogram[s] != 0;
  }
  if (symbols < 2) return 0;
  const uint32_t most = 2 * log2_of(total), less = log2_of(squares) + LOG_ERROR;
  return (size_t)((most > less ? (uint64_t)total * (most - less) : 0) >> 19) + symbols / (symbols < 256 ? 4 : 8);
}

/* Most significant bit first; counts on beyond the end. */
typedef struct bit_writer {
  uint8_t *out;
  size_t capacity;
  size_t size; /* bytes */
  uint64_t bits;
  uint32_t pending; /* of the bits, below 8 between calls */
} bit_writer;

/* `count` is at most 32. */
NNB_INLINE void write_bits(bit_writer *writer, uint32_t value, uint32_t count) {
  writer->bits = writer->bits << count | value;
  writer->pending += count;
  while (writer->pending >= 8) {
    writer->pending -= 8;
    if (writer->out != NULL && writer->size < writer->capacity)
      writer->out[writer->size] = (uint8_t)(writer->bits >> writer->pending);
    writer->size++;
  }
}

NNB_INLINE void write_golomb(bit_writer *writer, uint32_t value) {
  write_bits(writer, value + 1, 2 * nnb_highest_bit(value + 1) + 1);
}

static void write_table(bit_writer *writer, const uint16_t *frequencies, uint32_t count) {
  uint32_t last = 0;
  uint32_t before = 6;
  int first = 1;
  write_bits(writer, count - 1, 8);
  for (uint32_t s = 0; s < 256; s++) {
    if (frequencies[s] == 0) continue;
    if (first) {
      if (count < 256) write_bits(writer, s, 8);
    } else if (count < 256) {
      write_golomb(writer, s - last - 1);
    }
    first = 0;
    last = s;
  }
  for (uint32_t s = 0; s < last; s++) {
    const uint32_t frequency = frequencies[s];
    if (frequency == 0) continue;
    const uint32_t length = nnb_highest_bit(frequency) + 1;
    write_golomb(writer, length > before ? 2 * (length - before) - 1 : 2 * (before - length));
    write_bits(writer, frequency & ((1u << (length - 1)) - 1u), length - 1);
    before = length;
  }
}

/* Number of symbols of a table, 0 if it is none. */
static uint32_t symbol_count(const uint16_t *frequencies) {
  uint32_t count = 0;
  uint32_t sum = 0;
  for (size_t s = 0; s < 256; s++) {
    count += frequencies[s] != 0;
    sum += frequencies[s];
  }
  return sum == NNB_RANS_SLOTS ? count : 0;
}

size_t nnb_rans_write_tables(const uint16_t *frequencies, uint32_t table_count, uint8_t *out, size_t capacity) {
  bit_writer writer = {out, capacity, 0, 0, 0};
  uint32_t largest = 0;
  if (table_count < 1 || table_count > NNB_RANS_MAX_TABLES) return 0;
  for (uint32_t t = 0; t < table_count; t++) {
    const uint32_t count = symbol_count(frequencies + (size_t)t * 256);
    if (count == 0) return 0;
    largest = count > largest ? count : largest;
  }
  write_bits(&writer, nnb_rans_bucket_bits(largest), 4);
  for (uint32_t t = 0; t < table_count; t++) {
    write_table(&writer, frequencies + (size_t)t * 256, symbol_count(frequencies + (size_t)t * 256));
  }
  if (writer.pending) write_bits(&writer, 0, 8 - writer.pending);
  return writer.size <= capacity ? writer.size : 0;
}
