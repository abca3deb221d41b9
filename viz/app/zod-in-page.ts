/**
 * Imported before anything that parses with zod: the page's content policy forbids code from strings, so zod must
 * not even try to compile its parsers (https://zod.dev/api, `jitless`).
 */
import { config } from 'zod';

config({ jitless: true });
