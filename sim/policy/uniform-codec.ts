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

/**
 * KIVI's two stored forms when keys are coded before values: keys coded and values raw, then both. Bytes include scales
 * and minima of full groups.
 */
export const kiviInTurn = (
  { kBits, vBits, group }: { readonly kBits: number; readonly vBits: number; readonly group: number },
  { headDim, vBytesPerToken }: { readonly headDim: number; readonly vBytesPerToken: number },
): readonly [Codec, Codec] => {
  const keys: Grouping = { bits: kBits, groupTokens: group, groupChannels: 1 };
  const values: Grouping = { bits: vBits, groupTokens: 1, groupChannels: group };
  // Names of the codecs of the same cut (codecs/), so that what is known of one holds of the other.
  const cut = group === 32 ? '' : `-g${group}`;
  const name = kBits === vBits ? `int${kBits}${cut}` : `int${kBits}v${vBits}${cut}`;
  const whole = uniformCodec(name, `KIVI, ${kBits} and ${vBits} bits`, keys, values);
  const kBytes = (kBits * headDim) / 8 + groupScaleBytes(keys, headDim, group) / group;
  const vBytes = (vBits * headDim) / 8 + groupScaleBytes(values, headDim, 1);
  const common = { ...whole, kBytesPerToken: () => kBytes, scaleBytes: () => 0 };
  return [
    {
      ...common,
      name: `int${kBits}${cut}-keys`,
      keeps: 'values',
      vBytesPerToken: () => vBytesPerToken,
      decodeFlopsPerToken: () => 2 * headDim,
    },
    { ...common, keeps: 'keys', vBytesPerToken: () => vBytes },
  ];
};
