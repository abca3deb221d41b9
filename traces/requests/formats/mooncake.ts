/**
 * Mooncake's request traces (Kimi, FAST'25): JSONL of `timestamp` (ms), `input_length`, `output_length` (tokens) and
 * `hash_ids` (chained hashes of 512-token prefix blocks: equal leading ids are a shared prefix). `session_id` is read
 * where a derived trace has it.
 */
import type { RequestFormat } from '../request-trace.ts';
import { hashesField, optionalId, parseObject, sniffObject, timeField, tokensField } from './fields.ts';

const NS_PER_MS = 1e6;

export const format = {
  kind: 'mooncake',
  title: 'Mooncake JSONL (timestamp in ms, lengths, hash_ids of 512-token blocks)',
  source: 'https://github.com/kvcache-ai/Mooncake/tree/main/FAST25-release/traces',
  blockTokens: 512,
  sniff: (head) => {
    const first = sniffObject(head);
    // The text decides where the first line is longer than the head.
    if (first === undefined) return /^\s*\{[^\n]*"hash_ids"/.test(head) && !head.includes('"chat_id"');
    return 'hash_ids' in first && 'input_length' in first && !('chat_id' in first);
  },
  read: () => ({
    line: (text) => {
      const fields = parseObject(text);
      return {
        arrivalNs: timeField(fields, 'timestamp', 'ms', NS_PER_MS),
        inputTokens: tokensField(fields, 'input_length', 1),
        outputTokens: tokensField(fields, 'output_length', 0),
        hashes: hashesField(fields, 'hash_ids'),
        session: optionalId(fields, 'session_id'),
      };
    },
  }),
} satisfies RequestFormat;
