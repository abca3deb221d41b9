/** 4 bits in KIVI's layout, groups of 32: jy-yuan/KIVI's default group (mem_spd_test.py). */
import { kiviCodec } from '../uniform-codec.ts';

export const codec = kiviCodec('int4', 4, 32);
