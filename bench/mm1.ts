/**
 * The engine alone: an M/M/1 queue at rho = 0.9, two events a customer, each of which draws an exponential. Every
 * event goes through the simulator's queue and handler table; nothing is merged or skipped.
 */
import { createDigest } from '../sim/engine/digest.ts';
import { createRandom } from '../sim/engine/random.ts';
import { createSimulator } from '../sim/engine/simulator.ts';
import { type Bench, fastestOf } from './bench.ts';

const CUSTOMERS = 2_000_000;
const RHO = 0.9;
const EXPECTED_DIGEST = '97a556a116d5ce41';
/** Customers that may wait at once; a power of two. */
const RING = 1 << 14;

const play = (
  customers: number,
): { readonly events: number; readonly meanWait: number; readonly digest: string } => {
  const simulator = createSimulator();
  const arrivals = createRandom(42, 'arrivals');
  const services = createRandom(42, 'services');
  const arrivedAt = new Float64Array(RING);
  const digest = createDigest();
  const betweenArrivals = 1 / RHO;
  let arrived = 0;
  let served = 0;
  // In a typed array, because a captured double would be a new heap number at every change.
  const wait = new Float64Array(1);
  const depart = simulator.addHandler('depart', () => {
    served++;
    if ((served & 0xffff) === 0) digest.addNumber(simulator.timeNs);
    if (served === arrived) return;
    wait[0] += simulator.timeNs - arrivedAt[served & (RING - 1)];
    simulator.schedule(simulator.timeNs + services.exponential(1), depart);
  });
  const arrive = simulator.addHandler('arrive', () => {
    arrivedAt[arrived & (RING - 1)] = simulator.timeNs;
    if (arrived === served) simulator.schedule(simulator.timeNs + services.exponential(1), depart);
    arrived++;
    if (arrived < customers)
      simulator.schedule(simulator.timeNs + arrivals.exponential(betweenArrivals), arrive);
  });
  simulator.schedule(0, arrive);
  simulator.run();
  digest.addNumber(wait[0]);
  digest.addNumber(simulator.timeNs);
  return { events: simulator.events, meanWait: wait[0] / customers, digest: digest.hex() };
};

export const bench: Bench = {
  name: 'engine, M/M/1 at rho 0.9',
  budget: 10,
  unit: 'M events/s',
  run(iterationsPerS) {
    const { seconds, last } = fastestOf(7, () => play(CUSTOMERS));
    const perS = last.events / seconds;
    const ok = last.events === 2 * CUSTOMERS && last.digest.startsWith(EXPECTED_DIGEST);
    const detail = `${last.events} events, mean wait ${last.meanWait.toFixed(3)} (theory 9), digest ${last.digest.slice(0, 16)}`;
    return { value: perS / 1e6, ratio: perS / iterationsPerS, ok, detail };
  },
};
