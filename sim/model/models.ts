/** The models that ship (sim/model/configs/*.json, as published on the Hugging Face hub), by name or as a config. */
import { unknownName } from '../near-names.ts';
import { catalog } from './catalog.generated.ts';
import { parseModelConfig } from './config.ts';
import { kvBytesPerToken, parameterCount } from './ledger.ts';
import type { ModelShape } from './shape.ts';

const configs: Readonly<Record<string, unknown>> = catalog;

/** `Llama_3.1-8B-Instruct` is `llama-3.1-8b`: case, separators, an organisation and tuning suffixes don't matter. */
const normalise = (name: string): string =>
  name
    .toLowerCase()
    .replace(/^.*\//, '')
    .replace(/^meta-/, '')
    .replaceAll('_', '-')
    .replace(/-(instruct|it|chat|base|hf)(-\d{4})?$/, '')
    .replace(/(mistral-7b)-instruct|(mistral-7b)-v0\.3/, 'mistral-7b');

export const modelNames: readonly string[] = Object.keys(configs);

/** What a config calls its model: the field that transformers writes it into, without an organisation or folders. */
const ownName = (config: object): string | undefined => {
  const path = '_name_or_path' in config ? config._name_or_path : undefined;
  return typeof path === 'string' ? path.split('/').findLast((part) => part !== '') : undefined;
};

/** The shape of a shipped model, by name; or of a parsed config.json. Throws SimError 'unknown-name' | 'invalid-input'. */
export const loadModel = (model: string | object, file = 'config.json'): ModelShape => {
  if (typeof model !== 'string') {
    const shape = parseModelConfig(model, file);
    return { ...shape, name: ownName(model) ?? shape.name };
  }
  const found = Object.hasOwn(configs, model) ? model : normalise(model);
  if (!Object.hasOwn(configs, found)) throw unknownName('model', model, modelNames, 'models');
  return parseModelConfig(configs[found], found);
};

export interface ModelRow {
  readonly name: string;
  readonly architecture: string;
  readonly parameters: number;
  readonly layers: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly attention: string;
  readonly slidingLayers: number;
  readonly maxContextTokens: number;
  /** At 2 bytes an element, before any sliding window. */
  readonly kvBytesPerToken: number;
}

/** One row a shipped model, in the catalog's order. */
export const listModels = (): readonly ModelRow[] =>
  modelNames.map((name) => {
    const shape = loadModel(name);
    return {
      name,
      architecture: shape.architecture,
      parameters: parameterCount(shape),
      layers: shape.layers,
      heads: shape.heads,
      kvHeads: shape.kvHeads,
      headDim: shape.headDim,
      attention: shape.attention,
      slidingLayers: shape.layerKinds.filter((kind) => kind === 'sliding').length,
      maxContextTokens: shape.maxContextTokens,
      kvBytesPerToken: kvBytesPerToken(shape, 2),
    };
  });
