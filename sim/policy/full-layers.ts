/**
 * Which layers of DeltaKV keep all KV, and which of them choose for the layers that follow: the last of each run of full
 * layers is the observation layer of the sparse ones after it (CURRENTF/Sparse-vLLM config.py).
 */
import { SimError } from '../error.ts';

/** Published sets by number of layers: Llama-3.1-8B, Qwen2.5-7B-1M, Qwen2.5-32B (docs and configs of the repository). */
const PUBLISHED: Readonly<Record<number, readonly number[]>> = {
  28: [0, 1, 2, 4, 7, 14],
  32: [0, 1, 2, 8, 18],
  64: [0, 1, 2, 3, 4, 5, 17, 29, 40],
};

/** The layers that are asked for, or the published ones. Throws SimError where none could choose for a later layer. */
export const fullLayersOf = (
  fullLayers: string | number | undefined,
  layers: number,
): ReadonlySet<number> => {
  if (fullLayers === undefined)
    return new Set(PUBLISHED[layers] ?? PUBLISHED[32].map((layer) => Math.floor((layer * layers) / 32)));
  const listed = fullLayers === '' ? [] : String(fullLayers).split(',').map(Number);
  const beyond = listed.find((layer) => layer >= layers);
  if (beyond !== undefined)
    throw new SimError(
      'invalid-input',
      `parameter fullLayers: expected layers below ${layers}, got ${beyond}`,
    );
  if (listed.length > 0 && !listed.includes(0))
    throw new SimError('invalid-input', 'parameter fullLayers: expected 0 among them, or none at all');
  return new Set(listed);
};

/** The last full layer before `layer` whose next layer is sparse; null where there is none. */
export const observationLayerOf = (layer: number, fullLayers: ReadonlySet<number>): number | null => {
  for (let full = layer - 1; full >= 0; full--) if (fullLayers.has(full)) return full;
  return null;
};
