/**
 * The addon as it is (addon/addon.cpp), and where binaries lie: kernels/build/ after `npm run kernels`, or
 * prebuilds/PLATFORM-ARCH/ of the package; the same from the sources and from dist/. Loading the addon opens no GPU.
 */
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { KernelError } from './backend.ts';

/** An open context of a native backend. */
export type Handle = { readonly handle: unique symbol };

/** Arguments are trusted: native.ts checks them. `library` is a path, or '' for the CPU backend in the addon itself. */
export interface Addon {
  initialize(error: typeof KernelError): void;
  probe(library: string): Promise<{ readonly digest: string; readonly device: string }>;
  open(library: string, options: string): Promise<Handle>;
  allocate(handle: Handle, tier: number, bytes: number): number;
  free(handle: Handle, buffer: number): void;
  write(handle: Handle, buffer: number, offset: number, data: ArrayBufferView): Promise<void>;
  read(handle: Handle, buffer: number, offset: number, to: ArrayBufferView): Promise<void>;
  fill(
    handle: Handle,
    buffer: number,
    offset: number,
    bytes: number,
    fill: number,
    seed: number,
  ): Promise<void>;
  run(
    handle: Handle,
    records: Uint8Array,
    options: Readonly<Record<string, number>>,
    totalNs: Float64Array,
    startNs: Float64Array,
    endNs: Float64Array,
  ): Promise<boolean>;
  sense(handle: Handle): Promise<string>;
  close(handle: Handle): void;
  /** Begins or ends a range for a profiler of CUDA; false where no driver took it. */
  profile(begins: boolean): boolean;
}

const packageFolder = (): string => {
  for (let folder = import.meta.dirname; ; folder = dirname(folder)) {
    if (existsSync(join(folder, 'package.json'))) return folder;
    if (dirname(folder) === folder) throw new Error(`package.json not found above ${import.meta.dirname}`);
  }
};

/** Path of a binary of this package, or null. */
export const findBinary = (file: string): string | null => {
  const root = packageFolder();
  const places = [
    join(root, 'kernels', 'build', file),
    join(root, 'prebuilds', `${process.platform}-${process.arch}`, file),
  ];
  return places.find((path) => existsSync(path)) ?? null;
};

/** The command that builds the binaries: from a clone, or for a package that was installed. */
export const buildCommand = (): string =>
  packageFolder().includes('node_modules') ? 'npm explore kvtier -- npm run kernels' : 'npm run kernels';

export const ADDON_FILE = 'kvtier.node';
export const CUDA_FILE = 'libkvtier-cuda.so';

/** Throws KernelError 'unsupported', with the remedy, when the addon is missing or can't be loaded. */
export const loadAddon = (path: string | null = findBinary(ADDON_FILE)): Addon => {
  if (path === null)
    throw new KernelError(
      'unsupported',
      `the addon is not built; run \`${buildCommand()}\` (needs a C++ compiler)`,
    );
  let addon: Addon;
  try {
    addon = createRequire(import.meta.url)(path);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message.split('\n')[0] : String(cause);
    throw new KernelError(
      'unsupported',
      `the addon can't be loaded: ${reason}; run \`${buildCommand()}\` again`,
    );
  }
  addon.initialize(KernelError);
  return addon;
};
