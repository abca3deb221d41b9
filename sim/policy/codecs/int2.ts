/** 2 bits in KIVI's layout, groups of 32: KIVI-2 (arXiv 2402.02750). */
import { kiviCodec } from '../uniform-codec.ts';

export const codec = kiviCodec('int2', 2, 32);
