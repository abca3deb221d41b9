/**
 * K in int8 with one scale a channel and block, V in 4 bits with one scale and offset a token: the precision
 * pair that TTKV keeps in its slow tier (arXiv 2604.19769). Symmetric K because channel outliers keep their sign;
 * asymmetric V as in KIVI (arXiv 2402.02750).
 */
import { uniformCodec } from '../uniform-codec.ts';

export const codec = uniformCodec(
  'k8v4',
  'int8 keys per channel, 4-bit values per token',
  { bits: 8, groupTokens: Infinity, groupChannels: 1, symmetric: true },
  { bits: 4, groupTokens: 1, groupChannels: Infinity },
);
