/** 4 bits in KIVI's layout with groups of 64: half the bytes of scales. */
import { kiviCodec } from '../uniform-codec.ts';

export const codec = kiviCodec('int4-g64', 4, 64);
