/**
 * Codecs of uniform integers: how K and V are cut into groups says everything else. `kiviCodec` is KIVI's cut: keys by
 * channel, because some key channels are large in every token; values by token (arXiv 2402.02750, section 3).
 */
import type { Codec } from './codec.ts';
import { type Grouping, groupScaleBytes, quantiseRows } from './group-quantiser.ts';

export const uniformCodec = (name: string, title: string, keys: Grouping, values: Grouping): Codec => ({
  name,
  title,
  kBytesPerToken: (headDim) => (headDim * keys.bits) / 8,
  vBytesPerToken: (headDim) => (headDim * values.bits) / 8,
  scaleBytes: (headDim, tokens) =>
    groupScaleBytes(keys, headDim, tokens) + groupScaleBytes(values, headDim, tokens),
  // One multiply-add an element; a symmetric one has no offset to add.
  decodeFlopsPerToken: (headDim) =>
    headDim * (4 - Number(keys.symmetric ?? 0) - Number(values.symmetric ?? 0)),
  encode(k, v, headDim, from, tokens) {
    const codedKeys = quantiseRows(k, headDim, from, tokens, keys);
    const codedValues = quantiseRows(v, headDim, from, tokens, values);
    return { tokens, decodeKeys: codedKeys.decode, decodeValues: codedValues.decode };
  },
});

/** `bits` bits, groups of `group` tokens of a key channel and of `group` channels of a value. */
export const kiviCodec = (name: string, bits: number, group: number): Codec =>
  uniformCodec(
    name,
    `${bits}-bit keys per channel, values per token, groups of ${group}`,
    { bits, groupTokens: group, groupChannels: 1 },
    { bits, groupTokens: 1, groupChannels: group },
  );
