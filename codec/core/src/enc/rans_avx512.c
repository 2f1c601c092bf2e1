/*
 * rANS encoding, 64 symbols a round, states in halves as in the decoder.
 *
 * The quotient comes from a product in binary32 with a reciprocal that is a little too small, and is then at most one
 * too small. The slot of a rank follows without a gather where tables are small: a symbol's own bucket is one addition,
 * and the pieces of its other slots, all in one list, are found by a coarse table and a few steps. Else the slots are
 * gathered.
 */
#include "common/rans_avx512.h"

#include "enc/rans.h"

#if NNB_X86_DISPATCH

#define NO_ROW 255
#define MAX_STEPS 6u

/*
 * Rows: one for each table and each symbol that any table has, table by table. Places: pieces of the symbols' slots
 * outside of their own buckets, in the order of table, symbol and rank; table t begins at t << 12.
 */
typedef struct row_fields {
  uint32_t rows;
  uint32_t steps;      /* from the first piece of a cell to any other */
  uint32_t cell_shift; /* place >> cell_shift is its cell */
  uint16_t frequency[64];
  uint16_t own_slots[64];  /* of the own bucket */
  uint16_t own_first[64];  /* slot of rank 0, if it is there */
  uint16_t place[64];      /* of rank 0, if it were among the pieces */
  uint16_t cell_first[64]; /* first piece of a cell */
  uint16_t piece_end[64];
  uint16_t piece_shift[64];       /* slot - place */
  uint8_t frequency_half[2][256]; /* by row; without contexts by symbol */
  uint8_t first_half[2][256];     /* place of the symbol's slots in the list of all slots */
  uint8_t row_of[256];            /* row in table 0, by symbol */
  uint8_t first_row[256];         /* by context */
} row_fields;

/* Rows, and what the gathering needs. Returns 0 if there are too many. */
static int fill_rows(row_fields *fields, const nnb_rans_enc_job *job) {
  uint32_t symbols = 0;
  nnb_memset(fields, 0, sizeof *fields);
  for (uint32_t s = 0; s < 256; s++) {
    uint32_t any = 0;
    for (uint32_t t = 0; t < job->table_count; t++) any |= job->frequencies[256 * t + s];
    fields->row_of[s] = (uint8_t)(any ? symbols : NO_ROW);
    symbols += any != 0;
  }
  fields->rows = symbols * job->table_count;
  if (fields->rows > 256 || job->table_count > 16) return 0;
  for (uint32_t i = 0; i < 256 && job->contexts != NULL; i++) {
    fields->first_row[i] = (uint8_t)(job->context_map[i] * symbols);
  }
  for (uint32_t s = 0; s < 256; s++) {
    for (uint32_t t = 0; t < job->table_count && (fields->row_of[s] != NO_ROW || symbols == 256); t++) {
      const nnb_rans_symbol *const symbol = job->table_symbols + 256 * (size_t)t + s;
      const uint32_t row = t * symbols + fields->row_of[s];
      const uint32_t first = symbol->first + (t << NNB_RANS_BITS);
      for (uint32_t half = 0; half < 2; half++) {
        const uint32_t at = job->contexts == NULL ? s : row;
        fields->frequency_half[half][at] = (uint8_t)(symbol->frequency >> 8 * half);
        fields->first_half[half][at] = (uint8_t)(first >> 8 * half);
      }
      if (row < 64) fields->frequency[row] = symbol->frequency;
    }
  }
  return 1;
}

/* What the search needs. Returns 0 if there are too many rows, pieces or steps. */
static int fill_pieces(row_fields *fields, const nnb_rans_enc_job *job) {
  const uint32_t width = NNB_RANS_SLOTS >> job->bucket_bits;
  const uint32_t symbols = fields->rows / job->table_count;
  uint32_t count = 0;
  if (fields->rows > 64 || job->table_count << job->bucket_bits > 64) return 0;
  for (uint32_t t = 0; t < job->table_count; t++) {
    nnb_rans_row buckets[64];
    uint32_t place = t << NNB_RANS_BITS;
    nnb_rans_rows_of(job->frequencies + 256 * (size_t)t, job->bucket_bits, buckets);
    for (uint32_t b = 0; b < 1u << job->bucket_bits && buckets[b].frequency != 0; b++) {
      const uint32_t row = t * symbols + fields->row_of[buckets[b].symbol];
      /* A symbol's pieces were taken from its upper end, in order of the buckets that were filled. */
      uint32_t rank = buckets[b].split;
      fields->own_slots[row] = buckets[b].split;
      fields->own_first[row] = (uint16_t)(b * width);
      fields->place[row] = (uint16_t)(place - rank);
      while (rank < buckets[b].frequency) {
        uint32_t other = 0;
        while (other == b || buckets[other].alias != b || buckets[other].split == width ||
               ((buckets[other].alias_rank + buckets[other].split) & 0xFFFFu) != rank) {
          other++;
        }
        const uint32_t size = width - buckets[other].split;
        fields->piece_shift[count] = (uint16_t)(other * width + buckets[other].split - place);
        place += size;
        rank += size;
        fields->piece_end[count++] = (uint16_t)place;
      }
    }
  }
  fields->cell_shift = 6 + nnb_rans_bucket_bits(job->table_count);
  for (uint32_t cell = 0, at = 0; cell < 64; cell++) {
    while (at < count && fields->piece_end[at] <= cell << fields->cell_shift) at++;
    fields->cell_first[cell] = (uint16_t)at;
    uint32_t steps = 0;
    while (at + steps < count && fields->piece_end[at + steps] < (cell + 1) << fields->cell_shift) steps++;
    fields->steps = steps > fields->steps ? steps : fields->steps;
  }
  return fields->steps <= MAX_STEPS;
}

/* x / frequency, or one less; both unsigned, the quotient below 2^20. */
NNB_AVX512_INLINE __m512i quotient_of(__m512i x, __m512i frequency) {
  const __m512 divisor = _mm512_cvtepi32_ps(frequency);
  const __m512 rough = _mm512_rcp14_ps(divisor);
  /* One step of Newton's method towards (1 - 2^-21) / frequency. */
  const __m512 error = _mm512_fnmadd_ps(divisor, rough, _mm512_set1_ps(1.0f - 0x1p-21f));
  const __m512 reciprocal = _mm512_fmadd_ps(rough, error, rough);
  return _mm512_cvttps_epu32(_mm512_mul_ps(_mm512_cvtepu32_ps(x), reciprocal));
}

/* 32-bit values at even positions, and at odd ones, of 16-bit lanes. */
#define EVEN_HALVES 0x55555555u
#define ODD_HALVES 0xAAAAAAAAu

/* Moves the words out of the states that would become too large, to where they end at `next`. */
NNB_AVX512_INLINE uint8_t *renormalize(nnb_rans_lanes *x, __m512i frequency, uint8_t *next) {
  const __mmask32 full = _mm512_cmpge_epu16_mask(_mm512_srli_epi16(x->high, 4), frequency);
  const uint32_t words = (uint32_t)_mm_popcnt_u32(full);
  next -= 2 * (size_t)words;
  _mm512_mask_storeu_epi16(next, _bzhi_u32(0xFFFFFFFFu, words), _mm512_maskz_compress_epi16(full, x->low));
  x->low = _mm512_mask_mov_epi16(x->low, full, x->high);
  x->high = _mm512_maskz_mov_epi16(~full, x->high);
  return next;
}

typedef struct quotients {
  __m512i low;
  __m512i high;
  __m512i rank; /* the remainders */
} quotients;

NNB_AVX512_INLINE quotients divide(nnb_rans_lanes x, __m512i frequency) {
  const __m512i one = _mm512_set1_epi16(1);
  const __m512i even = _mm512_mask_mov_epi16(x.low, ODD_HALVES, _mm512_slli_epi32(x.high, 16));
  const __m512i odd = _mm512_mask_mov_epi16(x.high, EVEN_HALVES, _mm512_srli_epi32(x.low, 16));
  const __m512i even_quotient = quotient_of(even, _mm512_and_si512(frequency, _mm512_set1_epi32(0xFFFF)));
  const __m512i odd_quotient = quotient_of(odd, _mm512_srli_epi32(frequency, 16));
  quotients q;
  q.low = _mm512_mask_mov_epi16(even_quotient, ODD_HALVES, _mm512_slli_epi32(odd_quotient, 16));
  q.high = _mm512_mask_mov_epi16(odd_quotient, EVEN_HALVES, _mm512_srli_epi32(even_quotient, 16));
  q.rank = _mm512_sub_epi16(x.low, _mm512_mullo_epi16(q.low, frequency));
  const __mmask32 small = _mm512_cmpge_epu16_mask(q.rank, frequency);
  q.rank = _mm512_mask_sub_epi16(q.rank, small, q.rank, frequency);
  q.low = _mm512_mask_add_epi16(q.low, small, q.low, one);
  q.high = _mm512_mask_add_epi16(q.high, _mm512_mask_testn_epi16_mask(small, q.low, q.low), q.high, one);
  return q;
}

NNB_AVX512_INLINE __m128i eight_slots(const uint16_t *slots, const uint16_t *index) {
  __m128i found = _mm_cvtsi32_si128(slots[index[0]]);
  found = _mm_insert_epi16(found, slots[index[1]], 1);
  found = _mm_insert_epi16(found, slots[index[2]], 2);
  found = _mm_insert_epi16(found, slots[index[3]], 3);
  found = _mm_insert_epi16(found, slots[index[4]], 4);
  found = _mm_insert_epi16(found, slots[index[5]], 5);
  found = _mm_insert_epi16(found, slots[index[6]], 6);
  return _mm_insert_epi16(found, slots[index[7]], 7);
}

/* One by one, which takes half as long as gathers do. */
NNB_AVX512_INLINE __m512i gather_slots(const uint16_t *slots, __m512i index) {
  uint16_t at[32];
  _mm512_storeu_si512(at, index);
  __m512i found = _mm512_castsi128_si512(eight_slots(slots, at));
  found = _mm512_inserti32x4(found, eight_slots(slots, at + 8), 1);
  found = _mm512_inserti32x4(found, eight_slots(slots, at + 16), 2);
  return _mm512_inserti32x4(found, eight_slots(slots, at + 24), 3);
}

/* `rows` is a constant: 32, 64, or 256, which gathers. Returns whether every symbol has a frequency. */
NNB_AVX512_INLINE int encode_rounds(nnb_rans_enc_job *job, const row_fields *fields, int rows, int with_contexts) {
  const nnb_bytes row_of = nnb_load_bytes(fields->row_of);
  const nnb_bytes first_row = nnb_load_bytes(fields->first_row);
  const nnb_words frequencies = nnb_load_words(fields->frequency);
  const nnb_words own_slots = nnb_load_words(fields->own_slots);
  const nnb_words own_first = nnb_load_words(fields->own_first);
  const nnb_words places = nnb_load_words(fields->place);
  const nnb_words cell_first = nnb_load_words(fields->cell_first);
  const nnb_words piece_end = nnb_load_words(fields->piece_end);
  const nnb_words piece_shift = nnb_load_words(fields->piece_shift);
  const __m128i cell_shift = _mm_cvtsi32_si128((int)fields->cell_shift);
  const uint32_t steps = fields->steps;

  const nnb_bytes frequency_half[2] = {nnb_load_bytes(fields->frequency_half[0]),
                                       nnb_load_bytes(fields->frequency_half[1])};
  const nnb_bytes first_half[2] = {nnb_load_bytes(fields->first_half[0]), nnb_load_bytes(fields->first_half[1])};
  const __m512i pairs = _mm512_set_epi64(7, 3, 6, 2, 5, 1, 4, 0);
  const __m512i last_slot = _mm512_set1_epi16((short)((job->table_count << NNB_RANS_BITS) - 1));
  const __m512i one = _mm512_set1_epi16(1);

  nnb_rans_lanes x[2] = {nnb_rans_load_lanes(job->states), nnb_rans_load_lanes(job->states + 32)};
  uint8_t *next = job->next;
  size_t i = job->left;
  const __m512i no_row = _mm512_set1_epi8((char)NO_ROW);
  const __mmask64 some_missing = fields->rows == 256 * job->table_count ? 0 : ~(__mmask64)0;
  __mmask64 missing = 0;
  while (i > 0) {
    __m512i frequency[2];
    __m512i first[2];
    __m512i row[2];
    i -= NNB_RANS_MAX_STATES;
    __m512i both = _mm512_loadu_si512(job->symbols + i);
    if (rows <= 64 || with_contexts) {
      both = nnb_find_bytes(&row_of, both, 256);
      missing |= _mm512_cmpeq_epi8_mask(both, no_row) & some_missing;
    }
    if (rows <= 64) {
      if (with_contexts) {
        both = _mm512_add_epi8(both, nnb_find_bytes(&first_row, _mm512_loadu_si512(job->contexts + i), 256));
      }
      row[0] = _mm512_cvtepu8_epi16(_mm512_castsi512_si256(both));
      row[1] = _mm512_cvtepu8_epi16(_mm512_extracti64x4_epi64(both, 1));
      for (int g = 0; g < 2; g++) frequency[g] = nnb_find_words(&frequencies, row[g], rows);
    } else {
      if (with_contexts) {
        both = _mm512_add_epi8(both, nnb_find_bytes(&first_row, _mm512_loadu_si512(job->contexts + i), 256));
      }
      both = _mm512_permutexvar_epi64(pairs, both);
      const __m512i frequency0 = nnb_find_bytes(&frequency_half[0], both, 256);
      const __m512i frequency1 = nnb_find_bytes(&frequency_half[1], both, 256);
      const __m512i first0 = nnb_find_bytes(&first_half[0], both, 256);
      const __m512i first1 = nnb_find_bytes(&first_half[1], both, 256);
      frequency[0] = _mm512_unpacklo_epi8(frequency0, frequency1);
      frequency[1] = _mm512_unpackhi_epi8(frequency0, frequency1);
      first[0] = _mm512_unpacklo_epi8(first0, first1);
      first[1] = _mm512_unpackhi_epi8(first0, first1);
    }
    quotients q[2];
    __m512i slot[2];
    for (int g = 0; g < 2 && (rows > 64 || with_contexts); g++) {
      missing |= _mm512_testn_epi16_mask(frequency[g], frequency[g]);
    }
    for (int g = 1; g >= 0; g--) next = renormalize(&x[g], frequency[g], next);
    for (int g = 0; g < 2; g++) q[g] = divide(x[g], frequency[g]);
    if (rows <= 64) {
      __m512i place[2];
      __m512i piece[2];
      for (int g = 0; g < 2; g++) {
        place[g] = _mm512_add_epi16(q[g].rank, nnb_find_words(&places, row[g], rows));
        piece[g] = nnb_find_words(&cell_first, _mm512_srl_epi16(place[g], cell_shift), 64);
      }
      for (uint32_t step = 0; step < steps; step++) {
        for (int g = 0; g < 2; g++) {
          const __mmask32 beyond = _mm512_cmpge_epu16_mask(place[g], nnb_find_words(&piece_end, piece[g], rows));
          piece[g] = _mm512_mask_add_epi16(piece[g], beyond, piece[g], one);
        }
      }
      for (int g = 0; g < 2; g++) {
        const __mmask32 own = _mm512_cmplt_epu16_mask(q[g].rank, nnb_find_words(&own_slots, row[g], rows));
        slot[g] = _mm512_add_epi16(place[g], nnb_find_words(&piece_shift, piece[g], rows));
        slot[g] = _mm512_mask_add_epi16(slot[g], own, q[g].rank, nnb_find_words(&own_first, row[g], rows));
      }
    } else {
      for (int g = 0; g < 2; g++) {
        const __m512i index = _mm512_min_epu16(_mm512_add_epi16(q[g].rank, first[g]), last_slot);
        slot[g] = gather_slots(job->slots, index);
      }
    }
    for (int g = 0; g < 2; g++) {
      x[g].low = _mm512_or_si512(_mm512_slli_epi16(q[g].low, NNB_RANS_BITS), slot[g]);
      x[g].high = _mm512_shldi_epi16(q[g].high, q[g].low, NNB_RANS_BITS);
    }
  }
  job->next = next;
  job->left = 0;
  for (int g = 0; g < 2; g++) nnb_rans_store_lanes(job->states + 32 * g, x[g]);
  return missing == 0;
}

#define NNB_RANS_ENCODER(name, rows, with_contexts)                                          \
  NNB_AVX512 NNB_NOINLINE static int name(nnb_rans_enc_job *job, const row_fields *fields) { \
    return encode_rounds(job, fields, rows, with_contexts);                                  \
  }
NNB_RANS_ENCODER(encode_32, 32, 0)
NNB_RANS_ENCODER(encode_64, 64, 0)
NNB_RANS_ENCODER(encode_gathering, 256, 0)
NNB_RANS_ENCODER(encode_32_contexts, 32, 1)
NNB_RANS_ENCODER(encode_64_contexts, 64, 1)
NNB_RANS_ENCODER(encode_gathering_contexts, 256, 1)

nnb_status nnb_rans_encode_avx512(nnb_rans_enc_job *job) {
  static int (*const encoders[2][3])(nnb_rans_enc_job *, const row_fields *) = {
      {encode_32, encode_64, encode_gathering}, {encode_32_contexts, encode_64_contexts, encode_gathering_contexts}};
  row_fields fields;
  if (!fill_rows(&fields, job)) return NNB_OK;
  const uint32_t buckets = job->table_count << job->bucket_bits;
  const int kernel = !fill_pieces(&fields, job) ? 2 : (fields.rows > 32 || buckets > 32);
  return encoders[job->contexts != NULL][kernel](job, &fields) ? NNB_OK : NNB_BAD_TENSOR;
}

NNB_AVX512 size_t nnb_rans_find_unmarked_avx512(const uint8_t *symbols, size_t count, const uint8_t *marks) {
  const nnb_bytes table = nnb_load_bytes(marks);
  size_t i = 0;
  while (count - i >= 64) {
    const __m512i marked = nnb_find_bytes(&table, _mm512_loadu_si512(symbols + i), 256);
    if (~_mm512_movepi8_mask(marked) != 0) break;
    i += 64;
  }
  return i;
}

#else
typedef int nnb_rans_no_avx512; /* a translation unit is never empty */
#endif
