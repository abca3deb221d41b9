/** A thread of `resample.ts`: takes draws until none is left, and answers each with its fitted numbers. */
import { parentPort, workerData } from 'node:worker_threads';
import { fitResampled, type ResampleAnswer, type ResampleRequest } from './resample.ts';

const { samples, whole, name, draws, next } = workerData as ResampleRequest;

for (let draw = Atomics.add(next, 0, 1); draw < draws.length; draw = Atomics.add(next, 0, 1)) {
  const answer: ResampleAnswer = { draw, values: fitResampled(samples, whole, name, draws[draw]) };
  parentPort?.postMessage(answer);
}
