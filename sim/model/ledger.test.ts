/** Parameter totals against the published checkpoints, KV bytes against published figures, ledger identities. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { catalog } from './catalog.generated.ts';
import { attentionInputGemms, expectedExperts, gemmFlops, headGemms, outputAndMlpGemms } from './gemms.ts';
import {
  attentionFlops,
  kvBytesAt,
  kvBytesPerToken,
  layerContextTokens,
  parameterCount,
  weightBytes,
} from './ledger.ts';
import { listModels, loadModel, modelNames } from './models.ts';

// Totals as the hub's safetensors metadata states them; Gemma-3 4B and 27B less the SigLIP tower (416 866 032) and
// its projector (1152 · hidden + 1152); DeepSeek-V3 without its multi-token-prediction layer; Llama-2 less the rotary
// frequencies that are stored with each layer.
const published: Readonly<Record<string, number>> = {
  'llama-2-7b': 6_738_417_664 - 32 * 64,
  'llama-3.1-8b': 8_030_261_248,
  'llama-3.1-70b': 70_553_706_496,
  'llama-3.2-1b': 1_235_814_400,
  'smollm2-135m': 134_515_008,
  'qwen2.5-0.5b': 494_032_768,
  'qwen2.5-7b': 7_615_616_512,
  'qwen2.5-32b': 32_763_876_352,
  'qwen3-4b': 4_022_468_096,
  'qwen3-8b': 8_190_735_360,
  'qwen3-32b': 32_762_123_264,
  'qwen3-30b-a3b': 30_532_122_624,
  'mistral-7b': 7_248_023_552,
  'mistral-7b-v0.1': 7_241_732_096,
  'gemma-3-270m': 268_098_176,
  'gemma-3-1b': 999_885_952,
  'gemma-3-4b': 4_300_079_472 - 416_866_032 - (1152 * 2560 + 1152),
  'gemma-3-27b': 27_432_406_640 - 416_866_032 - (1152 * 5376 + 1152),
  'deepseek-v3': 671_026_419_200,
};

const kvPerToken: Readonly<Record<string, number>> = {
  'llama-2-7b': 524_288,
  'llama-3.1-8b': 131_072,
  'llama-3.1-70b': 327_680,
  'qwen2.5-0.5b': 12_288,
  'qwen2.5-7b': 57_344,
  'qwen3-4b': 147_456,
  'qwen3-8b': 147_456,
  'qwen3-32b': 262_144,
  'qwen3-30b-a3b': 98_304,
  'mistral-7b': 131_072,
  'smollm2-135m': 23_040,
  // (512 + 64) · 61 · 2
  'deepseek-v3': 70_272,
  'gemma-3-4b': 139_264,
};

describe('ledger', () => {
  it.each(Object.entries(published))('counts the parameters of %s', (name, total) => {
    expect(parameterCount(loadModel(name))).toBe(total);
  });

  it('has a published total for every shipped model', () => {
    expect(Object.keys(published).sort()).toEqual([...modelNames].sort());
  });

  it.each(Object.entries(kvPerToken))('counts the KV bytes of a token of %s', (name, bytes) => {
    expect(kvBytesPerToken(loadModel(name), 2)).toBe(bytes);
  });

  it('reads 17.18 GB of KV for Llama-3.1-8B at 128K', () => {
    expect(kvBytesAt(loadModel('llama-3.1-8b'), 131_072, 2)).toBe(17_179_869_184);
  });

  it('caps sliding layers by their window', () => {
    const gemma = loadModel('gemma-3-4b');
    // 34 layers, every sixth full: 5 full, 29 sliding of 1024 tokens.
    expect(gemma.layerKinds.filter((kind) => kind === 'full')).toHaveLength(5);
    expect(kvBytesAt(gemma, 32_768, 2)).toBe((5 * 32_768 + 29 * 1024) * 4 * 512 * 2);
    expect(layerContextTokens(gemma, 5, 32_768)).toBe(32_768);
    expect(layerContextTokens(gemma, 4, 32_768)).toBe(1024);
    expect(kvBytesAt(gemma, 100, 2)).toBe(100 * kvBytesPerToken(gemma, 2));
    const mistral = loadModel('mistral-7b-v0.1');
    expect(kvBytesAt(mistral, 32_768, 2)).toBe(kvBytesAt(mistral, 4096, 2));
  });

  it('stores fp8 checkpoints at one byte a weight', () => {
    const deepseek = loadModel('deepseek-v3');
    expect(weightBytes(deepseek)).toBe(parameterCount(deepseek));
    expect(weightBytes(loadModel('llama-3.1-8b'))).toBe(16_060_522_496);
    const plain = { ...catalog['qwen2.5-7b'], torch_dtype: 'float8_e4m3fn' };
    expect(loadModel(plain)).toMatchObject({ weightElementBytes: 1, guessedWeights: null });
  });

  it('stores the layers of GPTQ and AWQ checkpoints in coded groups, embeddings and head as they are', () => {
    const coded = (quantization_config: object) =>
      loadModel({ ...catalog['qwen2.5-7b'], quantization_config });
    const awq = { quant_method: 'awq', bits: 4, group_size: 128, zero_point: true, version: 'gemm' };
    // Qwen2-7B-Instruct-AWQ: 4.48 and 1.09 GB of safetensors (huggingface.co/thesven/Qwen2-7B-Instruct-awq).
    expect(weightBytes(coded(awq)) / 5.57e9).toBeCloseTo(1, 2);
    const shape = coded({ quant_method: 'gptq', bits: 8, group_size: -1 });
    expect(shape).toMatchObject({ weightElementBytes: 2, matrixElementBytes: 1 });
    expect(weightBytes(shape)).toBeGreaterThan(parameterCount(shape));
    expect(coded({ quant_method: 'awq' })).toMatchObject({ matrixElementBytes: (4 + 20 / 128) / 8 });
    expect(coded({ quant_method: 'bitsandbytes' })).toMatchObject({
      matrixElementBytes: 2,
      guessedWeights: 'quant_method bitsandbytes',
    });
    expect(() => coded({ quant_method: 'gptq' })).toThrow(
      /field quantization_config\.bits: expected beside quant_method gptq/,
    );
  });

  it('counts attention as 4·heads·headDim flops a query and key, MLA over its latent', () => {
    expect(attentionFlops(loadModel('llama-3.1-8b'), 2, 3, 1000)).toBe(4 * 32 * 128 * 2 * 3 * 1000);
    expect(attentionFlops(loadModel('deepseek-v3'), 1, 1, 1000)).toBe(2 * 128 * (576 + 512) * 1000);
  });
});

describe('gemms', () => {
  it.each(modelNames)('a large batch of %s reads every matrix of a layer once', (name) => {
    const shape = loadModel(name);
    let bytes = 0;
    for (let layer = 0; layer < shape.layers; layer += 1) {
      const gemms = [...attentionInputGemms(shape, 1e5), ...outputAndMlpGemms(shape, layer, 1e5)];
      bytes += gemms.reduce((sum, one) => sum + one.weightBytes, 0);
    }
    const head = headGemms(shape, 1)[0].weightBytes;
    const matrices = weightBytes(shape) - head * (shape.tiedEmbeddings ? 1 : 2);
    // Norms, biases and router corrections are not matrices: below 0.2 % of the weights.
    expect(bytes / matrices).toBeGreaterThan(0.998);
    expect(bytes / matrices).toBeLessThanOrEqual(1);
  });

  it('spends 2 flops a weight and token on a dense layer', () => {
    const shape = loadModel('llama-3.1-8b');
    const gemms = [...attentionInputGemms(shape, 7), ...outputAndMlpGemms(shape, 0, 7)];
    const weights = gemms.reduce((sum, one) => sum + one.weightBytes, 0) / 2;
    expect(gemmFlops(gemms)).toBe(2 * 7 * weights);
  });

  it('touches between k and all experts, more with more tokens', () => {
    const { moe } = loadModel('qwen3-30b-a3b');
    if (!moe) throw new Error('expected a mixture');
    expect(expectedExperts(moe, 1)).toBeCloseTo(8, 9);
    expect(expectedExperts(moe, 100_000)).toBeCloseTo(128, 9);
    const tokens = fc.integer({ min: 1, max: 5000 });
    fc.assert(
      fc.property(tokens, (count) => {
        const distinct = expectedExperts(moe, count);
        return distinct <= expectedExperts(moe, count + 1) && distinct <= Math.min(128, 8 * count) + 1e-9;
      }),
      { seed: 42 },
    );
  });

  it('activates 3.3 B of 30.5 B parameters a token in Qwen3-30B-A3B', () => {
    const shape = loadModel('qwen3-30b-a3b');
    let flops = gemmFlops(headGemms(shape, 1));
    for (let layer = 0; layer < shape.layers; layer += 1) {
      flops += gemmFlops([...attentionInputGemms(shape, 1), ...outputAndMlpGemms(shape, layer, 1)]);
    }
    // The model card states 3.3 B activated, the input embedding (0.31 B) included.
    expect((flops / 2 + shape.vocab * shape.hidden) / 1e9).toBeCloseTo(3.34, 1);
  });
});

describe('catalog', () => {
  it('lists a row for every model', () => {
    expect(listModels().map((row) => row.name)).toEqual(modelNames);
  });
});
