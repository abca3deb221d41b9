/** 8 bits in KIVI's layout: keys per channel, values per token, groups of 32 (arXiv 2402.02750). */
import { kiviCodec } from '../uniform-codec.ts';

export const codec = kiviCodec('int8', 8, 32);
