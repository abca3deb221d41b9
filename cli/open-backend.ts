/** The backend that `--backend` asks for, or the best there is; says on stderr why better ones were passed over. */
import { type Backend, type BackendName, KernelError } from '../kernels/backend.ts';
import { load } from '../kernels/load.ts';
import type { VerbContext } from './verb.ts';

/**
 * Throws KernelError, one line with the remedy: the usage is right and the machine can't, so the verb fails (exit 1) and
 * the usage is not to blame (exit 2).
 */
export const openBackend = async (
  wanted: BackendName | undefined,
  context: Pick<VerbContext, 'note'>,
): Promise<Backend> => {
  try {
    const { backend, tried } = await load(wanted);
    for (const { kind, reason } of tried) context.note(`${kind}: ${reason}`);
    return backend;
  } catch (error) {
    if (!(error instanceof KernelError) || wanted === undefined) throw error;
    throw new KernelError(error.code, `--backend ${wanted}: ${error.message}`);
  }
};
