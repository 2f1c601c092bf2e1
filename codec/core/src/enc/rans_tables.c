#include "enc/rans.h"

#define CHUNK 1024u
#define SAMPLE 256u
#define MIN_SAMPLED 65536u

/* Equal symbols that follow each other count in different places, lest each wait for the one before. */
static void count_symbols(const uint8_t *symbols, size_t count, uint32_t parts[4][256]) {
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

/* Counts the first `sample` of each CHUNK symbols. */
static nnb_status count_chunks(const uint8_t *symbols, const uint8_t *contexts, const uint8_t *context_map,
                               size_t count, uint32_t table_count, uint32_t *histograms, size_t sample) {
  uint32_t parts[4][256];
  if (table_count < 1 || table_count > NNB_RANS_MAX_TABLES) return NNB_BAD_OPTION;
  if (!nnb_rans_map_is_good(contexts, context_map, table_count)) return NNB_BAD_OPTION;
  nnb_memset(histograms, 0, (size_t)table_count * 256 * sizeof *histograms);
  nnb_memset(parts, 0, sizeof parts);
  for (size_t first = 0; first < count; first += CHUNK) {
    const size_t chunk = count - first < sample ? count - first : sample;
    if (contexts == NULL) {
      count_symbols(symbols + first, chunk, parts);
    } else {
      for (size_t i = first; i < first + chunk; i++) {
        histograms[(size_t)context_map[contexts[i]] * 256 + symbols[i]]++;
      }
    }
  }
  for (size_t s = 0; s < 256; s++) histograms[s] += parts[0][s] + parts[1][s] + parts[2][s] + parts[3][s];
  return NNB_OK;
}

nnb_status nnb_rans_histogram(const uint8_t *symbols, const uint8_t *contexts, const uint8_t *context_map, size_t count,
                              uint32_t table_count, uint32_t *histograms) {
  return count_chunks(symbols, contexts, context_map, count, table_count, histograms, CHUNK);
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
#if NNB_X86_DISPATCH
  const int fast = nnb_rans_has_path(NNB_RANS_AVX512);
#endif
  for (size_t i = 0; i < count;) {
    size_t chunk = count - i < 64 ? count - i : 64;
#if NNB_X86_DISPATCH
    if (fast) {
      i += nnb_rans_find_unmarked_avx512(symbols + i, count - i, marks);
      chunk = count - i < 64 ? count - i : 64;
    }
#endif
    for (size_t k = 0; k < chunk; k++) marks[symbols[i + k]] = 255;
    i += chunk;
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

/* log2 of 1..4096 in 1/65536, rounded down. */
static uint32_t log2_of(uint32_t value) {
  uint32_t whole = 0;
  while (value >> whole > 1) whole++;
  uint64_t mantissa = (uint64_t)value << (31 - whole);
  uint32_t result = whole;
  for (int i = 0; i < 16; i++) {
    mantissa = mantissa * mantissa >> 31;
    result <<= 1;
    if (mantissa >> 32) {
      mantissa >>= 1;
      result |= 1;
    }
  }
  return result;
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

/* Most significant bit first; counts on beyond the end. */
typedef struct bit_writer {
  uint8_t *out;
  size_t capacity;
  size_t position; /* in bits */
} bit_writer;

static void write_bits(bit_writer *writer, uint32_t value, uint32_t count) {
  while (count > 0) {
    const size_t byte = writer->position >> 3;
    const uint32_t used = writer->position & 7, n = count < 8 - used ? count : 8 - used;
    count -= n;
    if (writer->out != NULL && byte < writer->capacity) {
      const uint32_t before = used ? writer->out[byte] : 0;
      writer->out[byte] = (uint8_t)(before | (value >> count & ((1u << n) - 1u)) << (8 - used - n));
    }
    writer->position += n;
  }
}

static void write_golomb(bit_writer *writer, uint32_t value) {
  uint32_t bits = 0;
  while ((value + 1) >> bits > 1) bits++;
  write_bits(writer, value + 1, 2 * bits + 1);
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
    if (frequencies[s] == 0) continue;
    uint32_t length = 1;
    while (frequencies[s] >> length) length++;
    write_golomb(writer, length > before ? 2 * (length - before) - 1 : 2 * (before - length));
    write_bits(writer, frequencies[s], length - 1);
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
  bit_writer writer = {out, capacity, 0};
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
  const size_t size = (writer.position + 7) / 8;
  return size <= capacity ? size : 0;
}
