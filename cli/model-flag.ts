/** The model that a flag names: one of the catalog, or a config.json of the user's own, called as its file or folder is. */
import { basename, dirname, resolve } from 'node:path';
import { loadModel } from '../sim/model/models.ts';
import type { ModelShape } from '../sim/model/shape.ts';
import { nameOrJson } from './name-or-json.ts';

/** `Llama-3.2-3B/config.json` is Llama-3.2-3B, `tiny.json` is tiny. */
const nameOfFile = (path: string): string => {
  const stem = basename(path, '.json');
  return stem === 'config' ? basename(dirname(resolve(path))) : stem;
};

/** What an experiment keeps of the model (its name, or the whole config, named), and its shape. Errors say flag or file. */
export const modelOfFlag = (
  text: string,
  flag: string,
): { readonly source: string | Record<string, unknown>; readonly shape: ModelShape } => {
  const given = nameOrJson(text, flag);
  if (typeof given === 'string') return { source: given, shape: loadModel(given) };
  loadModel(given, text);
  const source = { _name_or_path: nameOfFile(text), ...given };
  return { source, shape: loadModel(source, text) };
};
