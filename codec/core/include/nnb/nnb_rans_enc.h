/*
 * nnbits rANS encoder (docs/rans.md): histogram, normalization, tables, code.
 *
 *   nnb_rans_histogram(symbols, NULL, NULL, count, 1, histograms);
 *   nnb_rans_normalize(histograms, frequencies);
 *   bits = nnb_rans_cost(histograms, frequencies) >> 16;        to choose among codings
 *   size = nnb_rans_write_tables(frequencies, 1, out, capacity);
 *   nnb_rans_encode(NNB_RANS_AUTO, frequencies, 1, NULL, NULL, symbols, count, work, work_size, out, capacity, &size);
 *
 * Tables lie one after another: histograms and frequencies are arrays of table_count * 256.
 */
#ifndef NNB_RANS_ENC_H
#define NNB_RANS_ENC_H

#include "nnb/nnb_rans.h"

#ifdef __cplusplus
extern "C" {
#endif

#define NNB_RANS_TABLES_BOUND 512 /* most bytes of one serialized table */

/*
 * Counts the symbols of each table; contexts and context_map as in nnb_rans_decode(). `histograms` is set, not added
 * to. count is below 2^32. NNB_BAD_OPTION: context_map or table_count.
 */
nnb_status nnb_rans_histogram(const uint8_t *symbols, const uint8_t *contexts, const uint8_t *context_map, size_t count,
                              uint32_t table_count, uint32_t *histograms);

/*
 * The same from a quarter of the symbols, if there are many (65536), and faster: of each 1024 symbols it counts the
 * first 256. Symbols that it finds elsewhere only count once in every table that has not counted them. Normalized, the
 * tables can code all symbols; the sums of the counts are less than `count`.
 */
nnb_status nnb_rans_sample_histogram(const uint8_t *symbols, const uint8_t *contexts, const uint8_t *context_map,
                                     size_t count, uint32_t table_count, uint32_t *histograms);

/*
 * Frequencies of one table: sum 4096, at least 1 for every symbol that occurs, 0 for the others. A histogram of zeros
 * gives symbol 0 all 4096.
 */
void nnb_rans_normalize(const uint32_t *histogram, uint16_t *frequencies);

/* Size of the code of one table's symbols in 1/65536 bits, without states and tables. */
uint64_t nnb_rans_cost(const uint32_t *histogram, const uint16_t *frequencies);

/*
 * Serializes tables; returns the bytes written, or 0 if they do not fit or the frequencies are not those of a table.
 * With out NULL and capacity SIZE_MAX, returns how many it would write.
 */
size_t nnb_rans_write_tables(const uint16_t *frequencies, uint32_t table_count, uint8_t *out, size_t capacity);

/* Bytes of work for nnb_rans_encode(). */
size_t nnb_rans_work_size(uint32_t table_count);

/* Capacity that nnb_rans_encode() needs; far more than what it writes, as a rule. SIZE_MAX: too many symbols. */
size_t nnb_rans_bound(size_t count);

/*
 * Codes `count` symbols into out[0 .. *size - 1]; `out` has nnb_rans_bound(count) bytes. `work` needs no alignment.
 * NNB_BAD_TENSOR: a symbol of frequency 0; NNB_BAD_OPTION: frequencies, table_count or context_map; NNB_BUFFER_SIZE:
 * work or out; NNB_UNSUPPORTED_FEATURE: this processor or build does not have `path`.
 */
nnb_status nnb_rans_encode(nnb_rans_path path, const uint16_t *frequencies, uint32_t table_count,
                           const uint8_t *contexts, const uint8_t *context_map, const uint8_t *symbols, size_t count,
                           void *work, size_t work_size, uint8_t *out, size_t capacity, size_t *size);

#ifdef __cplusplus
}
#endif

#endif
