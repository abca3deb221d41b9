/** `kvtier new policy NAME`: writes a commented file that runs as it is, to be changed into a policy of one's own. */
import { existsSync } from 'node:fs';
import { basename, dirname, isAbsolute } from 'node:path';
import * as z from 'zod';
import { policyTemplate } from './new-policy.ts';
import { writeOutput } from './output.ts';
import { isPolicyPath, nameTrouble } from './policy-file.ts';
import { UsageError, type Verb } from './verb.ts';

const flags = z.object({
  kind: z.enum(['policy']).describe('what to write'),
  name: z.string().min(1).describe('its name (my-policy), or a file (lab/my-policy.ts, my-policy.js)'),
});

export const verb = {
  name: 'new',
  summary: 'write a commented file to start a policy of your own from',
  positionals: ['kind', 'name'],
  flags,
  examples: ['kvtier new policy my-policy', 'kvtier new policy lab/my-policy.js'],
  async run({ name: given }, context) {
    const path = isPolicyPath(given) ? given : `${given}.ts`;
    const file = basename(path);
    const name = file.replace(/\.[cm]?[jt]s$/, '');
    const wrong = nameTrouble(name);
    if (wrong !== null) throw new UsageError(`NAME: ${wrong}`);
    if (existsSync(path)) throw new UsageError(`${path}: exists already; expected the name of a new file`);
    const written = writeOutput(dirname(path), file, [policyTemplate(file, name)]);
    context.printJson({ policy: name, file: written });
    const policies = `full,snapkv,${isAbsolute(written) ? written : `./${written}`}`;
    const quoted = /^[\w./,-]+$/.test(policies) ? policies : `"${policies}"`;
    context.print(`wrote ${written}; run it: kvtier compare --policies ${quoted}`);
  },
} satisfies Verb<typeof flags>;
