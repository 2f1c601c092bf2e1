/*
 * rANS decoding without a gather: the rows of all tables lie in registers, and slots find theirs by permutations.
 *
 * The 64 states are kept as upper and lower halves of 16 bits, 32 states to a register: then multiplications,
 * permutations and the renormalization (upper half 0: lower half moves up, next word comes in below) all work on full
 * registers.
 */
#include "common/rans_avx512.h"

#include "dec/rans.h"

#if NNB_X86_DISPATCH

/* Rows by field; the halves of 16-bit fields apart in nnb_bytes. */
typedef struct row_fields {
  uint16_t split[64];
  uint16_t frequency[64];
  uint16_t alias_frequency[64];
  uint16_t alias_rank[64];
  uint8_t symbol[256];
  uint8_t alias_symbol[256];
  uint8_t alias[256];
  uint8_t split_half[2][256];
  uint8_t frequency_half[2][256];
  uint8_t alias_rank_half[2][256];
  uint8_t first_row[256]; /* by context */
} row_fields;

static void fill_fields(row_fields *fields, const nnb_rans_job *job) {
  const uint32_t bits = job->model->bucket_bits;
  nnb_memset(fields, 0, sizeof *fields);
  for (uint32_t i = 0; i < job->model->table_count << bits; i++) {
    const nnb_rans_row *const row = job->model->rows + i;
    const uint32_t alias = (i >> bits << bits) + row->alias;
    const nnb_rans_row *const other = job->model->rows + alias;
    if (i < 64) {
      fields->split[i] = row->split;
      fields->frequency[i] = row->frequency;
      fields->alias_frequency[i] = other->frequency;
      fields->alias_rank[i] = row->alias_rank;
    }
    fields->symbol[i] = row->symbol;
    fields->alias_symbol[i] = other->symbol;
    fields->alias[i] = (uint8_t)alias;
    for (uint32_t half = 0; half < 2; half++) {
      fields->split_half[half][i] = (uint8_t)(row->split >> 8 * half);
      fields->frequency_half[half][i] = (uint8_t)(row->frequency >> 8 * half);
      fields->alias_rank_half[half][i] = (uint8_t)(row->alias_rank >> 8 * half);
    }
  }
  if (job->contexts != NULL) {
    for (uint32_t i = 0; i < 256; i++) fields->first_row[i] = (uint8_t)(job->context_map[i] << bits);
  }
}

/* New states from the frequencies and ranks of the symbols, and the words that come in. */
NNB_AVX512_INLINE const uint8_t *advance(nnb_rans_lanes *x, __m512i frequency, __m512i rank, const uint8_t *next) {
  const __m512i low_quotient = _mm512_shrdi_epi16(x->low, x->high, NNB_RANS_BITS);
  const __m512i high_quotient = _mm512_srli_epi16(x->high, NNB_RANS_BITS);
  const __m512i low = _mm512_add_epi16(_mm512_mullo_epi16(frequency, low_quotient), rank);
  const __mmask32 carry = _mm512_cmplt_epu16_mask(low, rank);
  __m512i high =
      _mm512_add_epi16(_mm512_mulhi_epu16(frequency, low_quotient), _mm512_mullo_epi16(frequency, high_quotient));
  high = _mm512_mask_sub_epi16(high, carry, high, _mm512_set1_epi16(-1));
  const __mmask32 empty = _mm512_testn_epi16_mask(high, high);
  x->high = _mm512_mask_mov_epi16(high, empty, low);
  x->low = _mm512_mask_expand_epi16(low, empty, _mm512_loadu_si512(next));
  return next + 2 * (size_t)_mm_popcnt_u32(empty);
}

/* `rows` is a constant: 32, 64, 128 or 256. */
NNB_AVX512_INLINE void decode_rounds(nnb_rans_job *job, int rows, int with_contexts) {
  row_fields fields;
  fill_fields(&fields, job);
  const uint32_t bucket_bits = job->model->bucket_bits;
  const __m512i offset_mask = _mm512_set1_epi16((short)((NNB_RANS_SLOTS >> bucket_bits) - 1));
  const __m512i bucket_mask = _mm512_set1_epi16((short)((1u << bucket_bits) - 1));
  const __m128i shift = _mm_cvtsi32_si128((int)(NNB_RANS_BITS - bucket_bits));
  const __m512i pairs = _mm512_set_epi64(7, 5, 3, 1, 6, 4, 2, 0);
  const nnb_bytes first_row = nnb_load_bytes(fields.first_row);
  const nnb_bytes symbol = nnb_load_bytes(fields.symbol);

  const nnb_words split = nnb_load_words(fields.split);
  const nnb_words frequency = nnb_load_words(fields.frequency);
  const nnb_words alias_frequency = nnb_load_words(fields.alias_frequency);
  const nnb_words alias_rank = nnb_load_words(fields.alias_rank);
  const nnb_bytes alias_symbol = nnb_load_bytes(fields.alias_symbol);

  const nnb_bytes alias = nnb_load_bytes(fields.alias);
  const nnb_bytes split_half[2] = {nnb_load_bytes(fields.split_half[0]), nnb_load_bytes(fields.split_half[1])};
  const nnb_bytes frequency_half[2] = {nnb_load_bytes(fields.frequency_half[0]),
                                       nnb_load_bytes(fields.frequency_half[1])};
  const nnb_bytes alias_rank_half[2] = {nnb_load_bytes(fields.alias_rank_half[0]),
                                        nnb_load_bytes(fields.alias_rank_half[1])};

  nnb_rans_lanes x[2] = {nnb_rans_load_lanes(job->states), nnb_rans_load_lanes(job->states + 32)};
  const uint8_t *next = job->next;
  size_t i = job->done;
  while (job->count - i >= NNB_RANS_MAX_STATES && (size_t)(job->end - next) >= 2 * NNB_RANS_MAX_STATES) {
    __m512i offset[2];
    __m512i row[2];
    __mmask32 other[2];
    __m512i found_frequency[2];
    __m512i found_rank[2];
    __m512i symbols;
    for (int g = 0; g < 2; g++) {
      offset[g] = _mm512_and_si512(x[g].low, offset_mask);
      row[g] = _mm512_and_si512(_mm512_srl_epi16(x[g].low, shift), bucket_mask);
    }
    if (with_contexts) {
      const __m512i first = nnb_find_bytes(&first_row, _mm512_loadu_si512(job->contexts + i), 256);
      row[0] = _mm512_add_epi16(row[0], _mm512_cvtepu8_epi16(_mm512_castsi512_si256(first)));
      row[1] = _mm512_add_epi16(row[1], _mm512_cvtepu8_epi16(_mm512_extracti64x4_epi64(first, 1)));
    }
    if (rows <= 64) {
      for (int g = 0; g < 2; g++) {
        other[g] = _mm512_cmpge_epu16_mask(offset[g], nnb_find_words(&split, row[g], rows));
        found_frequency[g] = _mm512_mask_mov_epi16(nnb_find_words(&frequency, row[g], rows), other[g],
                                                   nnb_find_words(&alias_frequency, row[g], rows));
        found_rank[g] =
            _mm512_mask_add_epi16(offset[g], other[g], offset[g], nnb_find_words(&alias_rank, row[g], rows));
      }
      const __mmask64 others = _mm512_kunpackd((__mmask64)other[1], (__mmask64)other[0]);
      const __m512i both = _mm512_permutexvar_epi64(pairs, _mm512_packus_epi16(row[0], row[1]));
      symbols =
          _mm512_mask_mov_epi8(nnb_find_bytes(&symbol, both, rows), others, nnb_find_bytes(&alias_symbol, both, rows));
    } else {
      const __m512i both = _mm512_packus_epi16(row[0], row[1]);
      const __m512i found_alias = nnb_find_bytes(&alias, both, rows);
      const __m512i split0 = nnb_find_bytes(&split_half[0], both, rows);
      const __m512i split1 = nnb_find_bytes(&split_half[1], both, rows);
      const __m512i rank0 = nnb_find_bytes(&alias_rank_half[0], both, rows);
      const __m512i rank1 = nnb_find_bytes(&alias_rank_half[1], both, rows);
      const __m512i zero = _mm512_setzero_si512();
      other[0] = _mm512_cmpge_epu16_mask(offset[0], _mm512_unpacklo_epi8(split0, split1));
      other[1] = _mm512_cmpge_epu16_mask(offset[1], _mm512_unpackhi_epi8(split0, split1));
      row[0] = _mm512_mask_mov_epi16(row[0], other[0], _mm512_unpacklo_epi8(found_alias, zero));
      row[1] = _mm512_mask_mov_epi16(row[1], other[1], _mm512_unpackhi_epi8(found_alias, zero));
      found_rank[0] = _mm512_mask_add_epi16(offset[0], other[0], offset[0], _mm512_unpacklo_epi8(rank0, rank1));
      found_rank[1] = _mm512_mask_add_epi16(offset[1], other[1], offset[1], _mm512_unpackhi_epi8(rank0, rank1));
      const __m512i final = _mm512_packus_epi16(row[0], row[1]);
      const __m512i frequency0 = nnb_find_bytes(&frequency_half[0], final, rows);
      const __m512i frequency1 = nnb_find_bytes(&frequency_half[1], final, rows);
      found_frequency[0] = _mm512_unpacklo_epi8(frequency0, frequency1);
      found_frequency[1] = _mm512_unpackhi_epi8(frequency0, frequency1);
      symbols = _mm512_permutexvar_epi64(pairs, nnb_find_bytes(&symbol, final, rows));
    }
    _mm512_storeu_si512(job->symbols + i, symbols);
    for (int g = 0; g < 2; g++) next = advance(&x[g], found_frequency[g], found_rank[g], next);
    i += NNB_RANS_MAX_STATES;
  }
  job->next = next;
  job->done = i;
  for (int g = 0; g < 2; g++) nnb_rans_store_lanes(job->states + 32 * g, x[g]);
}

#define NNB_RANS_DECODER(name, rows, with_contexts) \
  NNB_AVX512 NNB_NOINLINE static void name(nnb_rans_job *job) { decode_rounds(job, rows, with_contexts); }
NNB_RANS_DECODER(decode_32, 32, 0)
NNB_RANS_DECODER(decode_64, 64, 0)
NNB_RANS_DECODER(decode_128, 128, 0)
NNB_RANS_DECODER(decode_256, 256, 0)
NNB_RANS_DECODER(decode_32_contexts, 32, 1)
NNB_RANS_DECODER(decode_64_contexts, 64, 1)
NNB_RANS_DECODER(decode_128_contexts, 128, 1)
NNB_RANS_DECODER(decode_256_contexts, 256, 1)

void nnb_rans_decode_avx512(nnb_rans_job *job) {
  static void (*const decoders[2][4])(nnb_rans_job *) = {
      {decode_32, decode_64, decode_128, decode_256},
      {decode_32_contexts, decode_64_contexts, decode_128_contexts, decode_256_contexts}};
  const uint32_t rows = job->model->table_count << job->model->bucket_bits;
  decoders[job->contexts != NULL][(rows > 32) + (rows > 64) + (rows > 128)](job);
}

#else
typedef int nnb_rans_no_avx512; /* a translation unit is never empty */
#endif
