/* The tables of nnc-bitstream, a function each; they read from `s` into the unit. */
#ifndef NNB_DEC_UNIT_H
#define NNB_DEC_UNIT_H

#include "dec/bits.h"

enum { NNB_DEFAULT_CABAC_UNARY_LENGTH_MINUS1 = 9 }; /* neither in the stream nor supplied (6.3) */

void nnb_model_parameter_set_payload(nnb_bits *s, const nnb_parameters *parameters, nnb_model_parameter_set *mps);
void nnb_layer_parameter_set_payload(nnb_bits *s, nnb_layer_parameter_set *lps);
void nnb_topology_payload(nnb_bits *s, const nnb_parameters *parameters, const nnb_unit *unit, nnb_topology *tpl);
void nnb_quantization_payload(nnb_bits *s, nnb_quantization *qnt);
void nnb_compressed_data_unit_header(nnb_bits *s, const nnb_parameters *parameters, const nnb_unit *unit,
                                     nnb_data_unit *ndu);

void nnb_extension_unit_payload(nnb_bits *s, nnb_extension *ext);

/* topology_elements_ids_list( indexed ); *first becomes the first name. Returns the list. */
nnb_list nnb_topology_elements_ids_list(nnb_bits *s, int indexed, const nnb_unit *unit, nnb_string *first);

NNB_INLINE int nnb_ends_with(nnb_string name, char letter) {
  return name.size >= 2 && name.data[name.size - 2] == '_' && name.data[name.size - 1] == (uint8_t)letter;
}

NNB_INLINE int nnb_is_block(const nnb_data_unit *ndu) {
  return ndu->nnr_compressed_data_unit_payload_type == NNB_NNR_PT_BLOCK;
}

NNB_INLINE int nnb_is_decomposed(const nnb_data_unit *ndu) {
  return (ndu->compressed_parameter_types & NNB_NNR_CPT_DC) != 0;
}

#endif
