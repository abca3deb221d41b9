/** 4 bits per token in groups of 64 channels, keys and values alike: FlexGen's group-wise form (arXiv 2303.06865, 4.3). */
import type { Grouping } from '../group-quantiser.ts';
import { uniformCodec } from '../uniform-codec.ts';

const grouping: Grouping = { bits: 4, groupTokens: 1, groupChannels: 64 };

export const codec = uniformCodec(
  'int4-token',
  '4-bit keys and values per token, groups of 64',
  grouping,
  grouping,
);
