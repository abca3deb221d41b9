/** KVQuant's nuq3-1%: 3-bit non-uniform levels and 1 % outliers (arXiv 2401.18079, table 1). */
import { LEARN_TOKENS } from '../learned-tables.ts';
import { nuqCodec } from '../nuq-codec.ts';

export const codec = nuqCodec({
  name: 'nuq3',
  bits: 3,
  outlierShare: 0.01,
  calibrationTokens: LEARN_TOKENS,
});
