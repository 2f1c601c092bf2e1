/*
 * Access units of the extended profile (docs/format.md): checked as a whole, then walked piece by piece.
 *
 * Nothing is allocated and nothing is copied but values into the caller's memory. Verdicts are those of the Python
 * reader, but names that occur twice are not looked for, and metadata, attachments and index, which are compressed
 * with zstd, are only checked and skipped.
 *
 * NNB_UNSUPPORTED_FEATURE where the Python reader can do more: blocks of exactly coded values that are compressed with
 * zstd (only speed "small" writes them), data units that have to be composed with others (NNR_PT_BLOCK, factors), and
 * data split over several units. The other pieces can be had nevertheless.
 *
 *   nnb_reader reader;
 *   nnb_access_unit au;
 *   uint8_t name[256];
 *   nnb_reader_open(&reader, data, size, max_tensor_bytes);
 *   while (nnb_reader_next(&reader, &au) == NNB_OK && au.size > 0) {
 *     nnb_access_piece found;
 *     while (nnb_access_unit_next_piece(&au, &found, name, sizeof name)) {
 *       nnb_piece_work_size(&found, &work_size);
 *       ... nnb_piece_values(&found, out, nnb_piece_bytes(&found.piece), work, work_size);
 *     }
 *   }
 */
#ifndef NNB_ACCESS_H
#define NNB_ACCESS_H

#include "nnb/nnb_unit.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct nnb_access_unit {
  const uint8_t *data;
  size_t size;
  size_t offset;   /* in the stream */
  nnb_unit header; /* body.ext */
  /* private */
  const nnb_parameters *parameters;
  nnb_list pieces;
  const uint8_t *sections;
  size_t sections_left;
  size_t unit_at;
  uint32_t unit_index;
  uint32_t coded_index; /* the data unit of the next piece that has one */
  size_t coded_at;
  uint32_t coded_left; /* pieces that have one */
  nnb_status coded_status;
  uint64_t max_tensor_bytes;
} nnb_access_unit;

/* A piece with its sections, whose data are NULL where there is none. */
typedef struct nnb_access_piece {
  nnb_piece piece;
  nnb_string map;
  nnb_string values;
  nnb_unit unit;        /* of value_coding 3 */
  uint64_t shape[255];  /* NNB_MAX_DIMENSIONS */
  uint32_t count_shape; /* its own dimensions: the tensor's, for a part whole rows or just its elements */
  int changes;          /* its elements are to be XORed to those of the base */
  /* private */
  nnb_status status;
  const nnb_parameters *parameters;
  uint64_t max_tensor_bytes;
} nnb_access_piece;

/*
 * Checks the bytes of an access unit against its checksum, and that everything in it adds up. `parameters` are those
 * of the stream's head and must outlive the access unit; `offset` is its place in the stream. NNB_CHECKSUM,
 * NNB_ACCESS_UNIT, NNB_SPARSE_MAP, NNB_SHAPE_MISMATCH, NNB_LIMIT, NNB_MEMORY_BUDGET for a tensor of more than
 * max_tensor_bytes, and the codes of nnb_parse_unit().
 */
nnb_status nnb_access_unit_open(nnb_access_unit *au, const uint8_t *data, size_t size, size_t offset,
                                const nnb_parameters *parameters, uint64_t max_tensor_bytes);

/*
 * The next piece; 0 at the end. The buffer of the name is that of nnb_next_piece(); for value_coding 3 it has to hold
 * the whole name.
 */
int nnb_access_unit_next_piece(nnb_access_unit *au, nnb_access_piece *found, uint8_t *name, size_t capacity);

/* The next compressed data unit; at the end unit->size is 0. */
nnb_status nnb_access_unit_next_unit(nnb_access_unit *au, nnb_unit *unit);

/* Bytes of `count` elements as they are stored: packed if they have fewer than 8 bits. */
uint64_t nnb_stored_bytes(uint32_t element_type, uint64_t count);

/* Bytes of the elements of a piece. */
uint64_t nnb_piece_bytes(const nnb_piece *piece);

/*
 * Bytes of work that nnb_piece_values() needs: what arithmetic or exact decoding needs (4 bytes an element and a few
 * KiB, or some 22 bytes an item of a block of exactly coded values), and with a sparse map the values and the map. The
 * codes of nnb_piece_values() as far as headers tell.
 */
nnb_status nnb_piece_work_size(const nnb_access_piece *found, size_t *work_size);

/*
 * The elements of a piece, dense and little endian, whatever their coding. `work` is aligned as malloc() does, `out`
 * needs no alignment; after an error its contents are undefined. NNB_BUFFER_SIZE unless out_size is nnb_piece_bytes(),
 * or if the work or the buffer of the name was too small; NNB_BASE_MISSING if they are to be XORed to another model;
 * NNB_VALUE_RANGE for a bool that is neither 0 nor 1; NNB_RESERVED_BITS for bits behind the last element;
 * NNB_LOSSLESS_BLOCK, NNB_SPARSE_MAP, NNB_UNSUPPORTED_FEATURE; NNB_LIMIT if this machine cannot hold it. Of data units
 * also NNB_ACCESS_UNIT if it is of another tensor, NNB_METADATA if it holds another number or kind of elements,
 * NNB_MEMORY_BUDGET, NNB_LEVEL_RANGE if an integer does not fit its type, and the codes of nnb_part_get(),
 * nnb_decode_tensor() and nnb_cabac_finish().
 */
nnb_status nnb_piece_values(const nnb_access_piece *found, uint8_t *out, size_t out_size, void *work, size_t work_size);

/*
 * Like nnb_piece_values(), for updates: `base` holds the elements of the same piece of the model that the update
 * changes, out_size bytes that do not overlap `out`. It is not read, and may be NULL, unless the piece is to be XORed
 * to it (au_relation 2). That it is the right model is for the caller to know, by base_digest of the header.
 */
nnb_status nnb_piece_values_on(const nnb_access_piece *found, const uint8_t *base, uint8_t *out, size_t out_size,
                               void *work, size_t work_size);

/* ---- Whole streams in memory, from front to back */

typedef struct nnb_reader {
  const uint8_t *data;
  size_t size;
  nnb_parameters parameters; /* of the head */
  uint64_t max_tensor_bytes;
  int indexed;       /* the last unit was an index: only an end unit may follow */
  int ended;         /* the last unit was an end unit */
  size_t end_offset; /* of the last end unit, 0 before the first */
  size_t offset;     /* of what comes next, or of what was wrong */
  /* private */
  uint32_t index;
  uint64_t au_count;
  size_t index_offset;
  size_t index_bytes;
  nnb_status status;
} nnb_reader;

/*
 * Reads the head. NNB_UNSUPPORTED_FEATURE for a stream of the standard profile, NNB_CHECKSUM, NNB_UNIT_ORDER for
 * extension units before the metadata unit, or that before the parameter set, and the codes of nnb_stream_next().
 */
nnb_status nnb_reader_open(nnb_reader *reader, const uint8_t *data, size_t size, uint64_t max_tensor_bytes);

/*
 * The next access unit; at the end of the stream au->size is 0, and NNB_TRUNCATED is returned if it did not end in an
 * end unit. NNB_UNIT_ORDER for units of the standard outside an access unit, for units between index and end, and for
 * an end without an index; NNB_INDEX if an end unit says something else than what was passed. An error is final.
 */
nnb_status nnb_reader_next(nnb_reader *reader, nnb_access_unit *au);

#ifdef __cplusplus
}
#endif

#endif
