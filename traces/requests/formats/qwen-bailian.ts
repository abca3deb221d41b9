/**
 * Qwen-Bailian usage traces (Alibaba Cloud): JSONL as Mooncake's, but `timestamp` in seconds, blocks of 16 tokens, and
 * `chat_id` / `parent_chat_id` (-1 at the first turn), which chain the turns of a conversation.
 */
import type { RequestFormat, RequestRow } from '../request-trace.ts';
import { hashesField, optionalId, parseObject, sniffObject, timeField, tokensField } from './fields.ts';

const NS_PER_S = 1e9;

export const format = {
  kind: 'qwen-bailian',
  title: 'Qwen-Bailian JSONL (chat_id, parent_chat_id, timestamp in s, hash_ids of 16-token blocks)',
  source: 'https://github.com/alibaba-edu/qwen-bailian-usagetraces-anon',
  blockTokens: 16,
  sniff: (head) => {
    const first = sniffObject(head);
    if (first === undefined) return /^\s*\{[^\n]*"chat_id"/.test(head);
    return 'chat_id' in first && 'hash_ids' in first;
  },
  read: () => {
    /** The conversation that each chat belongs to: the chat it began with. */
    const conversations = new Map<number | string, number | string>();
    const line = (text: string): RequestRow => {
      const fields = parseObject(text);
      const chat = optionalId(fields, 'chat_id');
      const parent = optionalId(fields, 'parent_chat_id');
      const session = parent === undefined ? chat : (conversations.get(parent) ?? chat);
      if (chat !== undefined && session !== undefined) conversations.set(chat, session);
      return {
        arrivalNs: timeField(fields, 'timestamp', 's', NS_PER_S),
        inputTokens: tokensField(fields, 'input_length', 1),
        outputTokens: tokensField(fields, 'output_length', 0),
        hashes: hashesField(fields, 'hash_ids'),
        session,
      };
    };
    return { line };
  },
} satisfies RequestFormat;
