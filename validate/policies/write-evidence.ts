/** Records what the model of today reaches on the shipped evidence (`npm run evidence`). */
import { writeRecords } from './evidence.ts';

for (const { name, mape, bias, kendallTau } of writeRecords('validate/evidence'))
  process.stdout.write(`${name}: error ${mape}, bias ${bias}, Kendall tau ${kendallTau ?? 'none'}\n`);
