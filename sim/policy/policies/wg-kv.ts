/**
 * WG-KV: a learned gate decides what is worth keeping before it is written. The last W tokens lie in a ring a KV head; a
 * token that leaves it is admitted to that head's global pages or forgotten, so heads have caches of different lengths and
 * the prompt attends to a window and the admitted columns only. Optionally pages are chosen by Quest, or a cap is held by
 * SnapKV-style eviction. arXiv 2512.17452; EMCLab-Sinica/WG-KV src/modeling_layers.py, configuration_llama.py. All in HBM.
 */
import * as z from 'zod';
import { knownAdmission, sharedThreshold } from '../admission.ts';
import { admissionRates } from '../admission-rates.ts';
import { bestScores, type GateSource, gateInputs, gateSource, gateSources } from '../admission-scores.ts';
import { gateNetwork } from '../gate-network.ts';
import { type Policy, type PolicyPlugin, policyDefaults, type World } from '../policy.ts';
import { evictionSteps } from '../shared-cap.ts';
import { WgKvLayer, type WgKvRules } from '../wg-kv-layer.ts';

const config = z
  .object({
    windowTokens: z.int().min(1).default(256).describe('ring of the most recent tokens, always kept'),
    threshold: z.number().min(0).max(1).default(0.1).describe('a recorded gate admits above this'),
    gate: z
      .enum(['auto', ...gateSources])
      .default('auto')
      .describe('what decides: the trace’s gate or utility, expected attention, an oracle, chance'),
    rates: z
      .enum(['scores', 'code-summarization', 'html-to-tsv', 'uniform'])
      .default('scores')
      .describe(
        'admission by head where no gate is recorded: by one threshold over the scores of all heads, as measured on Llama-3.1-8B for a task, or all alike',
      ),
    admission: z
      .number()
      .min(0)
      .max(1)
      .default(0.2)
      .describe('mean share admitted where no gate is recorded (λ 0.16 of the paper)'),
    sinkTokens: z
      .int()
      .min(0)
      .default(4)
      .describe('first tokens, admitted by every head where no gate is recorded'),
    pageTokens: z.int().min(1).default(16).describe('tokens of one page of one KV head'),
    prefillBlockTokens: z.int().min(1).default(64).describe('tile of the sparse prefill kernel'),
    sparsePrefill: z
      .boolean()
      .default(true)
      .describe('the prompt attends to window and admitted columns only'),
    gateExpand: z
      .number()
      .min(0)
      .default(4)
      .describe('hidden width of the gate over head dimension; 0 = no network'),
    gateKernels: z.number().min(0).default(4).describe('launches of one gate evaluation'),
    deferGate: z
      .boolean()
      .default(false)
      .describe('evaluate the ring’s gates once a window, not at every step'),
    questTokens: z
      .int()
      .min(1)
      .optional()
      .describe(
        'tokens attended, ring included: global pages are chosen by Quest; default: all are attended',
      ),
    capTokens: z
      .int()
      .min(1)
      .optional()
      .describe(
        'mean global tokens per KV head above which all heads evict (the paper: 4096); default: no cap',
      ),
    evictShare: z.number().positive().max(1).default(0.1).describe('share that each head evicts at a time'),
    evictWindow: z.int().min(1).default(256).describe('last queries that vote on eviction'),
    evictKernel: z
      .int()
      .min(1)
      .refine((width) => width % 2 === 1, 'expected an odd number')
      .default(5)
      .describe('width of the maximum over positions of these votes'),
  })
  .refine(({ questTokens, capTokens }) => questTokens === undefined || capTokens === undefined, {
    path: ['capTokens'],
    message: 'expected none beside questTokens: the two do not compose',
  })
  .refine(({ questTokens = Infinity, windowTokens }) => questTokens >= windowTokens, {
    path: ['questTokens'],
    message: 'expected at least windowTokens',
  });
type Config = z.infer<typeof config>;

/** Whether one threshold over all heads can be found: chance knows no difference between heads. */
const isShared = (c: Config, source: GateSource): boolean =>
  c.rates === 'scores' && source !== 'gate' && source !== 'random';

const ratesInputs = (c: Config, source: GateSource): string => {
  const mean = Number(c.admission.toPrecision(3));
  if (isShared(c, source)) return `one threshold over all heads that admits a share of ${mean}`;
  if (c.rates === 'uniform' || c.rates === 'scores') return `one rate of ${mean} for all heads`;
  return `the rates of Llama-3.1-8B's heads (${c.rates}), their mean brought to ${mean}`;
};

/** What a result says of the sources of gate and evicting votes. */
const inputsOf = (c: Config, source: GateSource, { fields }: World): string => {
  const gate = gateInputs(source, ratesInputs(c, source));
  return c.capTokens === undefined || fields.has('qprompt')
    ? gate
    : `${gate}; eviction by the generated queries only`;
};

export const policy = {
  name: 'wg-kv',
  title: 'WG-KV (write-gated KV)',
  family: 'admission',
  source: 'arXiv 2512.17452; EMCLab-Sinica/WG-KV',
  requires: ['k', 'q'],
  prefers: ['gate', 'utility', 'qprompt'],
  config,
  atBudget: (tokens, world) => {
    const windowTokens = Math.max(1, Math.min(256, Math.floor(tokens / 2)));
    const share = (tokens - windowTokens) / Math.max(1, world.promptTokens - windowTokens);
    // A recorded gate admits what it admits; scores meet a budget.
    return { windowTokens, admission: Math.min(1, share), gate: bestScores(world) };
  },
  create: (c, world): Policy => {
    const source = gateSource('wg-kv', c.gate, world);
    const network = gateNetwork(c.gateExpand, c.gateKernels, world);
    const shared = isShared(c, source) ? sharedThreshold({ ...c, source }, c.admission, world) : null;
    const table = c.rates === 'scores' ? 'uniform' : c.rates;
    const rate = shared?.rate ?? admissionRates(table, c.admission, world);
    const known = knownAdmission(
      source,
      c.threshold,
      c.windowTokens,
      shared ? () => c.admission : rate,
      world,
    );
    let due: readonly boolean[] | undefined;
    const { capTokens } = c;
    const eviction: WgKvRules['eviction'] =
      capTokens === undefined
        ? null
        : {
            isDue(step) {
              due ??= evictionSteps({
                ...known.mean(),
                capTokens,
                evictShare: c.evictShare,
                steps: world.maxTokens - world.promptTokens,
              });
              return due[step];
            },
            share: c.evictShare,
            window: c.evictWindow,
            kernel: c.evictKernel,
          };
    const { questTokens } = c;
    const rules: WgKvRules = {
      ...c,
      source,
      rate,
      network,
      eviction,
      questTokens,
      takeScores: shared?.takeScores,
    };
    return {
      ...policyDefaults,
      oracle: source === 'oracle',
      inputs: inputsOf(c, source, world),
      prefillWork: network.layerWeightBytes > 0 ? [network.work(1)] : [],
      weightBytes: network.layerWeightBytes * world.layers,
      ...(shared === null && eviction === null
        ? {}
        : {
            survey(view) {
              shared?.survey(view);
              if (eviction !== null) known.survey(view);
            },
          }),
      layer: () => new WgKvLayer(rules, world),
    };
  },
} satisfies PolicyPlugin<typeof config>;
