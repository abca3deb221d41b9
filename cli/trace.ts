/** `kvtier trace`: look at attention traces, make synthetic ones, exchange block mass with other tools. */
import { checkUses, traceFlags } from './trace-flags.ts';
import type { Verb } from './verb.ts';

export const verb = {
  name: 'trace',
  summary: 'inspect attention traces, generate synthetic ones, convert block mass',
  positionals: ['action', 'files'],
  flags: traceFlags,
  examples: [
    'kvtier trace inspect',
    'kvtier trace inspect --synthetic llama-3.1-8b --context 4K --layers 2,13,20 --out out/',
    'kvtier trace generate --synthetic qwen2.5-0.5b --context 2K --layers 4,12 --out mine.safetensors',
    'kvtier trace convert mine.safetensors mass.parquet --block-tokens 64 --detail',
    'kvtier trace convert mass.parquet mass.safetensors --json',
  ],
  async run(given, context) {
    checkUses(given);
    if (given.action === 'inspect') return (await import('./trace-inspect.ts')).inspect(given, context);
    if (given.action === 'generate') return (await import('./trace-generate.ts')).generate(given, context);
    return (await import('./trace-convert.ts')).convert(given, context);
  },
} satisfies Verb<typeof traceFlags>;
