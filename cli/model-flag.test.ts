/** A model of a file of one's own is called as its config, its file or its folder says, everywhere. */
import { mkdirSync, mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { loadModel } from '../sim/model/models.ts';
import { modelOfFlag } from './model-flag.ts';

const config = {
  model_type: 'llama',
  hidden_size: 512,
  num_hidden_layers: 4,
  num_attention_heads: 12,
  num_key_value_heads: 4,
  head_dim: 64,
  intermediate_size: 1024,
  vocab_size: 1000,
  max_position_embeddings: 4096,
};
const folder = mkdtempSync(join(tmpdir(), 'kvtier-model-'));
const write = (path: string, content: unknown): string => {
  mkdirSync(join(folder, path, '..'), { recursive: true });
  writeFileSync(join(folder, path), JSON.stringify(content));
  return join(folder, path);
};

describe('modelOfFlag', () => {
  test('a catalog model keeps the name it was asked by', () => {
    expect(modelOfFlag('Qwen/Qwen3-8B', 'model')).toMatchObject({
      source: 'Qwen/Qwen3-8B',
      shape: { name: 'qwen3-8b' },
    });
  });

  test.each([
    ['a file', 'tiny-llama.json', config, 'tiny-llama'],
    ['a downloaded folder', 'Tiny-Llama-1B/config.json', config, 'Tiny-Llama-1B'],
    ['its own words', 'x.json', { ...config, _name_or_path: 'me/own-words' }, 'own-words'],
  ])('%s names the model, and the experiment that keeps the config says it too', (_, path, content, name) => {
    const { source, shape } = modelOfFlag(write(path, content), 'model');
    expect(shape).toMatchObject({ name, kvHeads: 4 });
    expect(loadModel(source).name).toBe(name);
  });

  test('a file that an editor on Windows wrote is read', () => {
    const path = write('windows.json', config);
    writeFileSync(path, `\ufeff${JSON.stringify(config, null, 2).replaceAll('\n', '\r\n')}`);
    expect(modelOfFlag(path, 'model').shape).toMatchObject({ layers: 4 });
  });

  test('errors name the file', () => {
    const path = write('bad.json', { ...config, hidden_size: -1 });
    expect(() => modelOfFlag(path, 'model')).toThrow(`model ${path}: `);
    expect(() => modelOfFlag(write('list.json', [1]), 'model')).toThrow('expected the JSON object');
  });
});
