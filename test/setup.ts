/** Before every test file: property tests draw from one seed, so that a failure is the same failure everywhere. */
import * as fc from 'fast-check';

fc.configureGlobal({ seed: 42 });
