/**
 * Picks a backend: cuda, else cpu, else the TypeScript reference. Says for each that was passed over why, so that no
 * fallback is silent. A GPU is asked in a child process first (probe.ts).
 */
import { ADDON_FILE, type Addon, buildCommand, CUDA_FILE, findBinary, loadAddon } from './addon.ts';
import { BACKENDS, type Backend, type BackendName, KernelError } from './backend.ts';
import { digest } from './calls.generated.ts';
import { deviceOf, type NativeOptions, openNative } from './native.ts';
import { probe } from './probe.ts';
import { openReference } from './reference.ts';

export interface LoadOptions extends NativeOptions {
  /** The CUDA library; default KVTIER_CUDA_LIBRARY, else where builds and packages have it. */
  readonly cudaLibrary?: string;
  /** The addon; default where builds and packages have it. */
  readonly addon?: string;
}

/** A backend that was not taken, and why, in one line with the remedy. */
export interface Passed {
  readonly kind: BackendName;
  readonly reason: string;
}

export interface Loaded {
  readonly backend: Backend;
  readonly tried: readonly Passed[];
}

const openCuda = async (addon: Addon, addonPath: string, options: LoadOptions): Promise<Backend> => {
  const { cudaLibrary = process.env.KVTIER_CUDA_LIBRARY ?? findBinary(CUDA_FILE) } = options;
  if (cudaLibrary === null)
    throw new KernelError(
      'unsupported',
      `the CUDA library is not built; run \`${buildCommand()}\` where nvcc is, or set KVTIER_CUDA_LIBRARY`,
    );
  const device = deviceOf(await probe(addonPath, cudaLibrary), digest);
  return openNative('cuda', addon, cudaLibrary, device, options);
};

const openCpu = async (addon: Addon, options: LoadOptions): Promise<Backend> =>
  openNative('cpu', addon, '', deviceOf(await addon.probe(''), digest), options);

const open = async (kind: BackendName, options: LoadOptions): Promise<Backend> => {
  if (kind === 'reference') return openReference();
  const path = options.addon ?? findBinary(ADDON_FILE);
  const addon = loadAddon(path);
  return kind === 'cuda' ? openCuda(addon, path ?? '', options) : openCpu(addon, options);
};

/**
 * The wanted backend, or without one the best there is, with the reasons against those before it. Throws KernelError
 * when the wanted one can't be had.
 */
export const load = async (wanted?: BackendName, options: LoadOptions = {}): Promise<Loaded> => {
  if (wanted !== undefined) {
    if (!BACKENDS.includes(wanted))
      throw new KernelError('invalid', `backend ${wanted}: expected one of ${BACKENDS.join(', ')}`);
    return { backend: await open(wanted, options), tried: [] };
  }
  const tried: Passed[] = [];
  for (const kind of BACKENDS) {
    try {
      return { backend: await open(kind, options), tried };
    } catch (error) {
      if (!(error instanceof KernelError)) throw error;
      tried.push({ kind, reason: error.message });
    }
  }
  throw new KernelError('unsupported', tried.map(({ kind, reason }) => `${kind}: ${reason}`).join('; '));
};
