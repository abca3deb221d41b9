/** Errors as one line that a terminal only shows. */
import { expect, test } from 'vitest';
import { failureOf } from './failure.ts';
import { UsageError } from './verb.ts';

test('a message that quotes a file of another kind carries nothing that a terminal obeys', () => {
  const { exitCode, message } = failureOf(
    new UsageError('x.gz: Unexpected token\n  "H\u0007\u0000\u001b[2J" is not JSON'),
  );
  expect(exitCode).toBe(2);
  expect(message).toBe('x.gz: Unexpected token "H\ufffd[2J" is not JSON');
});
